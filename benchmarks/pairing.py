"""Accuracy of `--pairing auto` on pairs without metadata, by their pixels alone.

`python benchmarks/pairing.py [--scenes 100] [--sizes 324x216 648x432 1296x864] [--workers 2] [--seed 0]` shoots virtual
pairs, focus and aperture, with every planted fault, then writes each frame anew under a name of chance, without
any EXIF: as a bare DNG (mosaic, pattern, black and white level) or as a JPEG; the folder is shuffled by these names.

A scene counts as findable if its two frames show the same thing and neither is black: the planted faults
`different_scene` and `black_frame` must stay without a pair. *lowest* is the agreement of the worst right pair
accepted, *next* the best agreement any frame has with one of another scene.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

UNFINDABLE = ("different_scene", "black_frame")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one set of frames."""

    findable: int
    right: int
    swapped: int
    false: int
    lowest: float
    following: float
    seconds: float


def strip_metadata(raw: Path, folder: Path, form: str, chance: random.Random) -> dict[str, tuple[str, str]]:
    """Every frame of `raw` under a new name; scene and role by that name."""
    folder.mkdir(parents=True)
    origins = {}
    for path in sorted(raw.rglob("*.dng")):
        name = f"{chance.getrandbits(48):012x}.{form}"
        (bare_dng if form == "dng" else jpeg)(path, folder / name)
        origins[name] = (path.parent.name, path.stem)
    return origins


def bare_dng(source: Path, target: Path) -> None:
    """The mosaic with the least a DNG needs."""
    import rawpy
    import tifffile

    with rawpy.imread(str(source)) as raw:
        mosaic, black, white = raw.raw_image_visible.copy(), raw.black_level_per_channel[0], raw.white_level
    pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes((0, 1, 1, 2)), True)]
    levels = [(50706, "B", 4, bytes((1, 4, 0, 0)), True), (50714, "H", 1, black, True), (50717, "H", 1, white, True)]
    tifffile.imwrite(target, mosaic, photometric=32803, extratags=pattern + levels, metadata=None, software=False)


def jpeg(source: Path, target: Path) -> None:
    """The developed frame at quality 85."""
    import cv2

    from sdd_toolkit.frames import reading as frames
    from sdd_toolkit.imaging import encoding

    codes = encoding.encode(frames.read_full(source), encoding.Encoding.SRGB8)
    cv2.imwrite(str(target), codes[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def judge_pairing(folder: Path, origins: dict[str, tuple[str, str]], unfindable: set[str], executor: str) -> Outcome:
    """`sdd ingest --pairing auto` against the truth."""
    from capture.config import IngestConfig
    from capture.ingest.stage import find_pairs

    started = time.perf_counter()
    found = find_pairs([folder], folder.parent / "out", IngestConfig(pairing="auto"), executor=executor)
    seconds = time.perf_counter() - started
    right = swapped = false = 0
    for record in found.pairs.records:
        (scene, role), (other, _) = origins[record.blur.path], origins[record.sharp.path]
        right += scene == other and role == "blur"
        swapped += scene == other and role == "sharp"
        false += scene != other
    numbers = [re.findall(r"content ([\d.]+), next best ([\d.]+)", why)[0] for why in found.evidence.values()]
    return Outcome(
        findable=len({scene for scene, _ in origins.values()} - unfindable),
        right=right,
        swapped=swapped,
        false=false,
        lowest=min((float(own) for own, _ in numbers), default=0.0),
        following=max((float(other) for _, other in numbers), default=0.0),
        seconds=seconds,
    )


def unfindable_scenes(raw: Path) -> set[str]:
    """The scenes whose fault leaves nothing to find."""
    import numpy as np

    names = set()
    for path in raw.rglob("truth.npz"):
        with np.load(path) as truth:
            fault = str(truth["defect"]) if "defect" in truth else ""
        if fault in UNFINDABLE:
            names.add(path.parent.name)
    return names


def main() -> None:
    import capture.virtual.stage
    from capture.virtual.config import SimulateConfig

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--sizes", nargs="+", default=["324x216", "648x432", "1296x864"], help="WxH of the frames")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    executor = f"local:{options.workers}" if options.workers > 1 else "serial"
    heads = ("findable", "right", "swapped", "false", "lowest", "next", "files/s")
    print(f"{options.scenes} scenes and every fault a set, {options.workers} workers")
    print(f"{'':24s}" + "".join(f"{head:>10s}" for head in heads))
    for number, size in enumerate(options.sizes):
        width, height = (int(part) for part in size.split("x"))
        for kind in ("focus", "aperture"):
            with tempfile.TemporaryDirectory() as name:
                raw, seed = Path(name) / "raw", options.seed + 2 * number + (kind == "aperture")
                camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
                series = capture.virtual.stage.Series(options.scenes, kind, seed, defects=True)
                capture.virtual.stage.simulate_pairs(raw, camera, series, executor=executor)
                for form in ("dng", "jpg"):
                    origins = strip_metadata(raw, Path(name) / form, form, random.Random(seed))
                    one = judge_pairing(Path(name) / form, origins, unfindable_scenes(raw), executor)
                    cells = (one.findable, one.right, one.swapped, one.false)
                    print(
                        f"{kind + ' ' + size + ' ' + form:24s}" + "".join(f"{cell:>10d}" for cell in cells)
                        + f"{one.lowest:>10.2f}{one.following:>10.2f}{len(origins) / one.seconds:>10.0f}",
                        flush=True,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
