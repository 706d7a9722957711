"""Random windows of pairs: from a shard, against the same frames as PNG files and as one raw memory-mapped array.

`python benchmarks/reading.py [--pairs 3] [--size 1944x1296] [--reads 200] [--window 512] [--seed 0]` shoots virtual
pairs, develops them to 8-bit sRGB, stores them in every form in a temporary folder, reads the same windows from each
and prints reads per second and bytes on disk. All of it is in the page cache: decoding is measured, not the disk.

One read is the blurred and the sharp window. A shard's read also brings the mask, the flow enlarged to the window and
the pair's record; the row "images only" leaves these out, read by plain h5py as `docs/format.md` describes. Every form
must give equal pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from capture.virtual.config import SimulateConfig
from capture.virtual.stage import run as shoot
from sdd_toolkit.develop import Encoding, encode
from sdd_toolkit.files import sha256_of
from sdd_toolkit.frames import as_shot_white_balance, read_full
from sdd_toolkit.residual_flow import FLOW_FACTOR
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import PackedPair, group_name
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.types import FileRef, FrameMeta, PairKind, PairRecord, ShardInfo

Pixels = NDArray[np.uint8]
Window = tuple[int, int, int]
Read = Callable[[Window], tuple[Pixels, Pixels]]
SHARD = "train-00000-of-00001.h5"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to keep the pairs: how to read a window, and the bytes it takes on disk."""

    read: Read
    disk_bytes: int


def frames(raw: Path, camera: SimulateConfig, pairs: int, seed: int) -> list[tuple[Pixels, Pixels]]:
    shoot(raw, camera, scenes=pairs, seed=seed, executor="local:2" if pairs > 1 else "serial")
    both = []
    for scene in sorted(raw.glob("scene-*")):
        balance = as_shot_white_balance(scene / "sharp.dng")
        blur, sharp = (encode(read_full(scene / name, balance), Encoding.SRGB8) for name in ("blur.dng", "sharp.dng"))
        both.append((blur, sharp))
    return both


def packed(folder: Path, images: list[tuple[Pixels, Pixels]], codec: str) -> Path:
    """A folder with one shard of all pairs, as `sdd pack` lays it out."""
    folder.mkdir()
    pairs = []
    for number, (blur, sharp) in enumerate(images):
        size = blur.shape[:2]
        flow = np.zeros((-(-size[0] // FLOW_FACTOR), -(-size[1] // FLOW_FACTOR), 2), np.float32)
        nowhere = FileRef("none.dng", 0, "")
        record = PairRecord(
            f"pair-{number}", f"scene-{number}", PairKind.FOCUS, nowhere, nowhere, FrameMeta(), FrameMeta()
        )
        pairs.append(PackedPair(record.id, blur, sharp, np.ones(size, np.bool_), flow, record))
    header = ShardHeader("train", Encoding.SRGB8, 512, codec)
    ids, patches = write_shard(folder / SHARD, header, ((pair, ()) for pair in pairs))
    shard = ShardInfo(SHARD, "train", ids, patches, (folder / SHARD).stat().st_size, sha256_of(folder / SHARD))
    scenes = {"train": tuple(pair.record.scene for pair in pairs)}
    index = Index("reading", Encoding.SRGB8, TRANSFER[Encoding.SRGB8], 512, codec, "", "", scenes, (shard,))
    write_index(folder, index)
    return folder


def from_shard(folder: Path, side: int) -> Form:
    reader = ShardReader(folder)

    def read(window: Window) -> tuple[Pixels, Pixels]:
        number, top, left = window
        pair = reader.read_window(f"pair-{number}", top, left, side, side)
        return pair.blur, pair.sharp

    return Form(read, (folder / SHARD).stat().st_size)


def images_only(folder: Path, side: int) -> Form:
    file = h5py.File(folder / SHARD, "r", locking=False)

    def read(window: Window) -> tuple[Pixels, Pixels]:
        number, top, left = window
        group = file[group_name(f"pair-{number}")]
        blur, sharp = (group[name][top : top + side, left : left + side] for name in ("blur", "sharp"))
        return blur, sharp

    return Form(read, (folder / SHARD).stat().st_size)


def from_png(folder: Path, images: list[tuple[Pixels, Pixels]], side: int) -> Form:
    folder.mkdir()
    for number, pair in enumerate(images):
        for name, image in zip(("blur", "sharp"), pair, strict=True):
            cv2.imwrite(str(folder / f"{number}-{name}.png"), image[..., ::-1])

    def read(window: Window) -> tuple[Pixels, Pixels]:
        number, top, left = window
        blur, sharp = (
            cv2.imread(str(folder / f"{number}-{name}.png"))[top : top + side, left : left + side, ::-1]
            for name in ("blur", "sharp")
        )
        return blur, sharp

    return Form(read, sum(path.stat().st_size for path in folder.iterdir()))


def from_memmap(path: Path, images: list[tuple[Pixels, Pixels]], side: int) -> Form:
    np.save(path, np.stack([np.stack(pair) for pair in images]))
    array = np.load(path, mmap_mode="r")

    def read(window: Window) -> tuple[Pixels, Pixels]:
        number, top, left = window
        blur, sharp = np.array(array[number, :, top : top + side, left : left + side])
        return blur, sharp

    return Form(read, path.stat().st_size)


def measured(form: Form, windows: list[Window]) -> tuple[float, float]:
    """Reads per wall second and per CPU second."""
    form.read(windows[0])
    wall, cpu = time.perf_counter(), time.process_time()
    for window in windows:
        form.read(window)
    return len(windows) / (time.perf_counter() - wall), len(windows) / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="virtual pairs to store")
    parser.add_argument("--size", default="1944x1296", help="WxH of the frames")
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    side = options.window
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    chance = np.random.default_rng(options.seed)
    ends = (options.pairs, height - side + 1, width - side + 1)
    windows: list[Window] = [tuple(row) for row in chance.integers(0, ends, (options.reads, 3)).tolist()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = frames(folder / "raw", camera, options.pairs, options.seed)
        shard = packed(folder / "lz4", images, "bitshuffle-lz4")
        forms = {
            "shard, bitshuffle-lz4": from_shard(shard, side),
            "  images only": images_only(shard, side),
            "shard, gzip": from_shard(packed(folder / "gzip", images, "gzip"), side),
            "shard, uncompressed": from_shard(packed(folder / "none", images, "none"), side),
            "PNG files": from_png(folder / "png", images, side),
            "numpy memmap": from_memmap(folder / "raw.npy", images, side),
        }
        print(f"{options.pairs} pairs of {width}x{height}, {options.reads} reads of 2x{side}x{side}x3 bytes")
        print(f"{'':24s}{'reads/s':>10s}{'reads/CPU s':>13s}{'MB on disk':>12s}")
        for name, form in forms.items():
            number, top, left = windows[0]
            for found, image in zip(form.read(windows[0]), images[number], strict=True):
                assert np.array_equal(found, image[top : top + side, left : left + side])
            wall, cpu = measured(form, windows)
            print(f"{name:24s}{wall:>10.0f}{cpu:>13.0f}{form.disk_bytes / 1e6:>12.1f}", flush=True)


if __name__ == "__main__":
    main()
