"""Time and memory of the bookkeeping of a large data set, on synthetic manifests without photographs.

Every row is one step on a manifest of so many pairs, four a scene, each record as full as a real one, in a process
that does nothing else: CPU seconds and peak memory. `judge again` is `sdd filter` after a threshold was changed.
`ingest` and `ingest, unchanged` are on small real files, --files of them. The last table is the model of
docs/scaling.md with what a pair costs put in.

    python benchmarks/scale.py [--pairs 1000 10000 100000] [--files 2000 4000 8000] [--cpu-s 8]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import capture.ingest.stage
import capture.virtual.stage
from benchmarks.fresh_process import in_fresh_process, resident_mb
from benchmarks.ingest import multiply_scenes
from capture.config import IngestConfig
from capture.virtual.config import SimulateConfig
from sdd_toolkit.audit import leakage, verify
from sdd_toolkit.cards import stage as cards
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.measurement_table import build_table
from sdd_toolkit.packing import splits
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.plan import ShardPlan, plan_shards
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.quality import stage as quality
from sdd_toolkit.quality.criteria import FilterConfig, judge
from sdd_toolkit.records import (
    Alignment,
    Exposure,
    FileRef,
    FrameMeta,
    PairKind,
    PairRecord,
    Quality,
    ShardInfo,
    Step,
)
from sdd_toolkit.report import stage as report
from sdd_toolkit.shards.index import TRANSFER, Index, read_index, write_index

STEPS = ("load", "write", "filter, unchanged", "judge again", "split", "plan shards", "card", "report", "index")


def record(number: int, draw: random.Random) -> PairRecord:
    """A pair as `sdd align` leaves it; one in twenty is no good."""

    scene = f"scene-{number // 4:06d}"

    def ref(role: str) -> FileRef:
        return FileRef(f"{scene}/{number:07d}_{role}.dng", 48_000_000, f"{draw.getrandbits(256):064x}")

    def meta(f_number: float) -> FrameMeta:
        exposure = Exposure(100.0, 0.01 * f_number, f_number, 50.0, round(draw.uniform(0.5, 20.0), 3))
        taken = f"2026-05-{1 + number % 28:02d}T10:{number % 60:02d}:00.250000"
        return FrameMeta("Canon", "EOS R6", "RF50mm F1.8", taken, 1, (4000, 6000), exposure, "+02:00", "012345")

    def row() -> tuple[float, float, float]:
        return draw.gauss(0, 1), draw.gauss(0, 1), draw.gauss(0, 1)

    alignment = Alignment(
        rows=(row(), row(), row()),
        model="homography",
        gain=draw.gauss(1, 0.1),
        size=(4000, 6000),
        box=(12, 9, 5990, 3991),
        shift_px=(draw.gauss(0, 5), draw.gauss(0, 5)),
        zoom=draw.gauss(1, 0.01),
        rotation_deg=draw.gauss(0, 0.1),
        perspective_px=draw.random(),
        before_px=10 * draw.random(),
        before_p95_px=10 + draw.random(),
        residual_px=0.3 * draw.random() if number % 20 else 3.0,
        residual_p95_px=1.0,
        coc_px=10 * draw.random(),
        coc_p95_px=15.0,
        ncc=0.9 + 0.1 * draw.random(),
        unexplained_fraction=0.001,
        texture_fraction=0.9,
        error_px=0.2 * draw.random(),
        flow_file=f"flow/{number:07d}.npz",
    )
    history = (Step("align", "0.1.0", "0123456789abcdef", f"{draw.getrandbits(64):016x}"),)
    files = (ref("blur"), ref("sharp"), meta(2.8), meta(16.0))
    return PairRecord(f"{number:07d}", scene, PairKind.APERTURE, *files, alignment, history=history)


def write_manifests(folder: Path, pairs: int) -> None:
    """`aligned.jsonl`, `filtered.jsonl` and an index of shards that are not there."""

    draw = random.Random(0)
    config = FilterConfig()
    aligned = [record(number, draw) for number in range(pairs)]
    manifest.write_manifest(folder / "aligned.jsonl", manifest.Manifest(folder, tuple(aligned)))
    done = []
    for one in aligned:
        facts = Quality(draw.uniform(1.2, 3), 0.8, 0.01, 0.6, 0.2, draw.gauss(0, 0.1), 0.01, 0.7, 0.7, 0.9)
        step = manifest.step_of(quality.STAGE, config, one, line=manifest.to_json(one))
        verdict = judge(facts, one.alignment, config)
        done.append(replace(one, quality=facts, verdict=verdict, history=(*one.history, step)))
    manifest.write_manifest(folder / "filtered.jsonl", manifest.Manifest(folder, tuple(done)))


def step(name: str, folder: Path) -> None:
    """One step, from files to files where it has any."""

    if name in ("judge again", "filter, unchanged"):
        config = FilterConfig(max_residual_px=0.9) if name == "judge again" else FilterConfig()
        done = quality.filter_pairs(folder / "aligned.jsonl", folder, config)
        assert done.done == (done.total if name == "judge again" else 0)
        return
    if name == "report":
        report.write_report(folder, folder / "report", report.ReportConfig(max_pictures=0), overwrite=True)
        return
    source = manifest.read_manifest(folder / "filtered.jsonl")
    if name == "load":
        return
    if name == "write":
        manifest.write_manifest(folder / "copy.jsonl", source)
        return
    kept = [one for one in source.records if one.verdict is not None and one.verdict.keep]
    shares = splits.assign_splits((one.scene for one in kept), splits.SplitConfig())
    if name == "split":
        return
    plans = plan_shards(kept, shares, PackConfig())
    if name == "plan shards":
        return
    index = index_of(plans, shares)
    if name == "card":
        sizes, nothing = [(3980, 5976)] * len(kept), leakage.find_leaks([])
        card = cards.gather_facts(
            index, kept, build_table(kept), sizes, CardConfig(), folder / "filtered.jsonl", FilterConfig(), nothing
        )
        cards.render_card(card)
        return
    write_index(folder, index)
    assert not list(verify.index_findings(folder, read_index(folder)))


def index_of(plans: Sequence[ShardPlan], shares: dict[str, str]) -> Index:
    """The index of shards that are not there."""

    members: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for scene, split in shares.items():
        members[split].append(scene)
    shards = tuple(
        ShardInfo(plan.name, plan.split, tuple(one.id for one in plan.records), 1000, 10**9, "0" * 64) for plan in plans
    )
    encoding = Encoding.SRGB8
    return Index(
        name="large",
        encoding=encoding,
        transfer=TRANSFER[encoding],
        patch_size=512,
        codec="bitshuffle-lz4",
        toolkit="0",
        config="0",
        splits={split: tuple(scenes) for split, scenes in members.items()},
        shards=shards,
        plans={plan.name: plan.fingerprint for plan in plans},
    )


def ingest(raw: Path, out: Path) -> None:
    capture.ingest.stage.ingest_photographs([raw], out, IngestConfig())


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds and peak megabytes of `work`; meant for a fresh process."""
    before_s = sum(os.times()[:2])
    work()
    return sum(os.times()[:2]) - before_s, resident_mb("VmHWM")


def print_row(name: str, costs: list[tuple[float, float]]) -> None:
    print(f"{name:24s}" + "".join(f"{cpu_s:>12.2f}{peak_mb:>8.0f}" for cpu_s, peak_mb in costs), flush=True)


def measure_steps(folder: Path, counts: list[int]) -> None:
    print(f"{'pairs':24s}" + "".join(f"{count:>20,}" for count in counts))
    print(f"{'':24s}" + f"{'CPU s':>12s}{'MB':>8s}" * len(counts))
    folders = [folder / str(count) for count in counts]
    for place, count in zip(folders, counts, strict=True):
        place.mkdir()
        in_fresh_process(cost, partial(write_manifests, place, count))
    rows = {}
    for name in STEPS:
        rows[name] = [in_fresh_process(cost, partial(step, name, place)) for place in folders]
        print_row(name, rows[name])
    # Each row but `judge again` holds what comes before it: here each is counted once.
    together = []
    for column in range(len(counts)):
        cpu_s = {name: rows[name][column][0] for name in STEPS}
        own_s = cpu_s["judge again"] + cpu_s["split"] + cpu_s["card"] - cpu_s["plan shards"]
        together.append((own_s, max(rows[name][column][1] for name in ("load", "judge again", "split", "card"))))
    print_row("load … card, together", together)


def measure_ingest(folder: Path, counts: list[int]) -> None:
    camera = SimulateConfig(width=96, height=64, pixel_pitch_um=100.0)
    capture.virtual.stage.simulate_pairs(folder / "shot", camera, capture.virtual.stage.Series(scenes=2, seed=0))
    print(f"{'files':24s}" + "".join(f"{count:>20,}" for count in counts))
    for count in counts:
        multiply_scenes(folder / "shot", folder / f"raw-{count}", count)
    for name in ("ingest", "ingest, unchanged"):
        print_row(
            name,
            [
                in_fresh_process(cost, partial(ingest, folder / f"raw-{count}", folder / f"set-{count}"))
                for count in counts
            ],
        )


def model(cpu_s: float, in_mb: float, out_mb: float) -> None:
    """Hours for a million pairs: the slower of the cores and the file system; see docs/scaling.md."""
    moved_mb = 3 * in_mb + 2 * out_mb
    what = f"{cpu_s:g} CPU s, {in_mb:g} MB in and {out_mb:g} MB out"
    print(f"hours for 1,000,000 pairs of {what}: {moved_mb:g} MB moved a pair")
    bandwidths = (0.5, 2.0, 10.0)
    print(f"{'cores':24s}" + "".join(f"{f'{gigabytes:g} GB/s':>12s}" for gigabytes in bandwidths))
    for cores in (16, 128, 1024):
        hours = (max(cpu_s / cores, moved_mb / (1000 * gigabytes)) * 1e6 / 3600 for gigabytes in bandwidths)
        print(f"{cores:<24d}" + "".join(f"{value:>12.0f}" for value in hours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--files", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--cpu-s", type=float, default=8.0, help="of one pair, all stages")
    parser.add_argument("--in-mb", type=float, default=50.0, help="both RAW files of a pair")
    parser.add_argument("--out-mb", type=float, default=100.0, help="a packed pair")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_steps(Path(folder), options.pairs)
        measure_ingest(Path(folder), options.files)
    model(options.cpu_s, options.in_mb, options.out_mb)


if __name__ == "__main__":
    main()
