"""Packing a built set again after a threshold changed, beside packing it from RAW and beside copying its files.

`python benchmarks/repack.py [--pairs 8] [--size 1944x1296] [--per-shard 4] [--profile fast] [--seed 0]` shoots
virtual RAW pairs and packs them. Then the first pair is rejected, so that every other pair moves and every shard
changes; then another split is drawn, for which all patches are chosen anew. One process, one thread. A time covers
everything: hashing the old shards, copying, syncing, hashing the new ones, the index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from capture.virtual.config import SimulateConfig
from capture.virtual.stage import Series
from capture.virtual.stage import simulate_pairs as shoot
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import Manifest, write_manifest
from sdd_toolkit.records import Alignment, FileRef, FrameMeta, PairKind, PairRecord, Reason, Report, Verdict
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.storage.files import sha256_of

FILES = ("blur.dng", "sharp.dng")
REJECTED = Verdict(keep=False, reason=Reason.MISALIGNED)


def records(root: Path, pairs: int, size: tuple[int, int]) -> list[PairRecord]:
    """Kept pairs of the shots in `root`, taken in turn; frames of a virtual camera that did not move."""
    height, width = size
    found = Alignment(
        rows=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        model="identity",
        gain=1.0,
        size=size,
        box=(8, 8, width - 8, height - 8),
        shift_px=(0.0, 0.0),
        zoom=1.0,
        rotation_deg=0.0,
        perspective_px=0.0,
        before_px=0.0,
        before_p95_px=0.0,
        residual_px=0.0,
        residual_p95_px=0.0,
        coc_px=0.0,
        coc_p95_px=0.0,
        ncc=1.0,
        unexplained_fraction=0.0,
        texture_fraction=1.0,
    )
    shots = sorted(root.glob("scene-*"))
    refs = [
        [FileRef(f"{shot.name}/{name}", (shot / name).stat().st_size, sha256_of(shot / name)) for name in FILES]
        for shot in shots
    ]
    return [
        PairRecord(
            f"pair-{number:04d}",
            f"scene-{number:04d}",
            PairKind.FOCUS,
            *refs[number % len(shots)],
            FrameMeta(),
            FrameMeta(),
            alignment=found,
            verdict=Verdict(keep=True),
        )
        for number in range(pairs)
    ]


def copy_files(shards: Path, to: Path) -> None:
    """Copies like `cp` and syncs every file, as packing does."""
    to.mkdir()
    for path in sorted(shards.iterdir()):
        shutil.copyfile(path, to / path.name)
        with (to / path.name).open("rb") as stream:
            os.fsync(stream.fileno())


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one way to get shards: their size, wall and CPU seconds, and how many pairs were copied of how many."""

    size_mb: float
    wall_s: float
    cpu_s: float
    copied: str


def measure_cost(work: Callable[[], object], folder: Path) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    report = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size_mb = sum(path.stat().st_size for path in folder.glob("*.h5")) / 1e6
    return Cost(size_mb, wall, cpu, f"{report.copied} of {report.total}" if isinstance(report, Report) else "")


def show(name: str, cost: Cost) -> None:
    rates = f"{cost.size_mb / cost.wall_s:>11.0f}{cost.size_mb / cost.cpu_s:>11.0f}"
    print(f"{name:28s}{cost.size_mb:>8.0f}{cost.wall_s:>9.2f}{cost.cpu_s:>9.2f}{rates}{cost.copied:>12s}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="pairs to pack")
    parser.add_argument("--shots", type=int, default=2, help="virtual pairs to shoot; the pairs are these in turn")
    parser.add_argument("--size", default="1944x1296", help="WxH of the frames")
    parser.add_argument("--per-shard", type=int, default=4)
    parser.add_argument("--profile", choices=["fast", "small", "raw", "portable"], default="fast")
    parser.add_argument("--repeats", type=int, default=3, help="runs of everything but the first row; the best counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder to work in; the system's temporary one by default")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    train, test = (SplitConfig(train_fraction=share, val_fraction=0.0, test_fraction=1.0 - share) for share in (1, 0))
    config = PackConfig(profile=Profile(options.profile), pairs_per_shard=options.per_shard, split=train)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        shoot(folder / "raw", camera, Series(scenes=options.shots, seed=options.seed), executor="local:2")
        every = records(folder / "raw", options.pairs, (height, width))
        fewer = [replace(every[0], verdict=REJECTED), *every[1:]]

        def pack(kept: list[PairRecord], how: PackConfig, shards: Path) -> Report:
            write_manifest(folder / "filtered.jsonl", Manifest(folder / "raw", tuple(kept)))
            return pack_dataset(folder / "filtered.jsonl", shards, how)

        print(f"{options.pairs} pairs of {width}x{height}, {options.per_shard} a shard, {options.profile}")
        print(f"{'':28s}{'MB':>8s}{'wall s':>9s}{'CPU s':>9s}{'MB/wall s':>11s}{'MB/CPU s':>11s}{'copied':>12s}")
        packed, again = folder / "packed", folder / "again"
        show("pack, from RAW", measure_cost(lambda: pack(every, config, packed), packed))
        anew = config.model_copy(update={"split": test})
        ways: dict[str, Callable[[], object]] = {
            "pack again, a pair fewer": lambda: pack(fewer, config, again),
            "pack again, another split": lambda: pack(every, anew, again),
            "cp and fsync": lambda: copy_files(packed, again),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, way in ways.items():
                if name != "cp and fsync":
                    copy_files(packed, again)
                costs[name].append(measure_cost(way, again))
                shutil.rmtree(again)
        for name, found in costs.items():
            show(name, min(found, key=lambda cost: cost.cpu_s))


if __name__ == "__main__":
    main()
