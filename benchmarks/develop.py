"""Our development against LibRaw's own, on real RAW files, and what developing costs.

`python benchmarks/develop.py [FOLDER] [--megapixels 24]` develops every decodable RAW file of FOLDER (default:
../shared/data/raw) to sRGB of 16 bits twice: as `sdd pack` does, and by LibRaw alone with equal settings (sRGB curve,
as-shot white balance, clipped highlights, nothing automatic, equal demosaic). It prints the mean and the 99.9th
percentile of the absolute difference in percent of full scale, and how many pixels lie more than a step of linear light
apart before the curve: those that took the other of two directions. Then it develops a planted mosaic of so many
megapixels in processes of their own, one thread each, and prints CPU seconds and peak memory; `LibRaw's AHD` is LibRaw
alone.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import rawpy
from numpy.typing import NDArray

from benchmarks.fresh_process import in_fresh_process, resident_mb
from sdd_toolkit.errors import SddError
from sdd_toolkit.formats.containers import RAW_SUFFIXES
from sdd_toolkit.frames.reading import develop_frame, read_white_balance
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.raw.development import Demosaic
from tests.support.dng_files import write_dng

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "raw"
_LIBRAW = {Demosaic.AHD: rawpy.DemosaicAlgorithm.AHD, Demosaic.DHT: rawpy.DemosaicAlgorithm.DHT}


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one file, in percent of full scale."""

    name: str
    demosaic: str
    size: tuple[int, int]
    mean: float
    high: float
    other: float


def reference(path: Path, demosaic: Demosaic, gamma: tuple[float, float] = (2.4, 12.92)) -> NDArray[np.uint16]:
    """LibRaw's own 16-bit sRGB, curve and all; (1, 1) is no curve."""
    red, green, blue = read_white_balance(path)
    with rawpy.imread(str(path)) as raw:
        return np.asarray(
            raw.postprocess(
                demosaic_algorithm=_LIBRAW[demosaic],
                user_wb=[red, green, blue, green],
                output_bps=16,
                gamma=gamma,
                no_auto_bright=True,
                adjust_maximum_thr=0.0,
                highlight_mode=rawpy.HighlightMode.Clip,
                output_color=rawpy.ColorSpace.sRGB,
            )
        )


def difference(path: Path, demosaic: Demosaic, *, mean_only: bool = False) -> Difference:
    """Our `srgb16` against LibRaw's; `mean_only` leaves the other two NaN, which take another development."""
    frame = develop_frame(path, demosaic=demosaic)
    ours = encode(frame.linear, Encoding.SRGB16)
    height, width = ours.shape[:2]
    gap = cv2.absdiff(ours, reference(path, demosaic)[:height, :width].reshape(ours.shape))
    high = other = math.nan
    if not mean_only:
        plain = reference(path, demosaic, (1, 1))[:height, :width].reshape(ours.shape)
        high = 100 * float(np.percentile(gap, 99.9)) / 65535
        other = 100 * float(np.mean(np.abs(frame.linear * 65535 - plain).max(axis=-1) > 1.5))
    return Difference(path.name, frame.facts.demosaic, (height, width), 100 * float(gap.mean()) / 65535, high, other)


def differences(folder: Path, *, mean_only: bool = False) -> Iterator[Difference]:
    """Of every file of the folder that can be decoded, by both algorithms."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in RAW_SUFFIXES or not path.is_file():
            continue
        for demosaic in _LIBRAW:
            try:
                found = difference(path, demosaic, mean_only=mean_only)
            except SddError as error:
                print(f"{path.name}: {error.what}", file=sys.stderr)
                break
            yield found
            if found.demosaic != demosaic.value:  # no mosaic to choose an algorithm for
                break


def cost(work: Callable[[], object], megapixels: float) -> tuple[float, float]:
    """CPU seconds of `work` in a process of its own, and the growth of its peak memory in bytes a pixel."""
    seconds, grown_mb = in_fresh_process(measure_cost, work)
    return seconds, grown_mb / megapixels


def by_libraw(path: Path) -> object:
    """LibRaw's AHD, linear, 16 bits."""
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD, output_bps=16, gamma=(1, 1), no_auto_bright=True
        )


def measure_cost(work: Callable[[], object]) -> tuple[float, float]:
    cv2.setNumThreads(1)
    before_mb, started = resident_mb("VmHWM"), time.process_time()
    work()
    return time.process_time() - started, resident_mb("VmHWM") - before_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--megapixels", type=float, default=24.0)
    options = parser.parse_args()
    print("| file | pixels | demosaic | mean % | 99.9th percentile % | other pixels % |\n" + 6 * "|---" + "|")
    for row in differences(options.folder):
        size = f"{row.size[1]} x {row.size[0]}"
        print(f"| {row.name} | {size} | {row.demosaic} | {row.mean:.4f} | {row.high:.3f} | {row.other:.3f} |")
    height = round((options.megapixels * 1e6 / 1.5) ** 0.5 / 2) * 2
    width = round(1.5 * height / 2) * 2
    print(f"\n| {width} x {height} | CPU s | peak bytes a pixel |\n|---|---|---|")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of LibRaw and NumPy in processes to come
    with tempfile.TemporaryDirectory() as scratch:
        noise = np.random.default_rng(0).random((height // 16 + 1, width // 16 + 1, 3)).astype(np.float32)
        light = noise.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        path = write_dng(Path(scratch) / "planted.dng", 0.02 + 0.98 * light)
        work: dict[str, Callable[[], object]] = {"LibRaw's AHD": partial(by_libraw, path)}
        work |= {demosaic.value: partial(develop_frame, path, demosaic=demosaic) for demosaic in Demosaic}
        for name, one in work.items():
            seconds, bytes_a_pixel = cost(one, width * height / 1e6)
            print(f"| {name} | {seconds:.2f} | {bytes_a_pixel:.0f} |")


if __name__ == "__main__":
    main()
