"""Candidates for the chunks of pixels: size and speed of decoding, one after the other on the same chunks.

`python benchmarks/codecs.py [--size 1944x1296] [--edge 128] [--chunks 60] [--rounds 5] [--photographs DIR] [--seed 0]`

Chunks of `edge` px with three channels are cut from a virtual pair with sensor noise and from photographs as
`benchmarks/reading.py` lays them out; PNG has patches of 512 px. CPU seconds of one thread, best of the rounds; every
candidate must give its chunks back.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import blosc2
import cv2
import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from reading import PHOTOGRAPHS, Both, decoded_png, photographs, virtual_pairs

from capture.virtual.config import SimulateConfig
from sdd_toolkit.imaging.encoding import Encoding

Chunk = NDArray[np.uint8]
Codec = tuple[Callable[[Chunk], Any], Callable[[Any, Chunk], Any]]
NOTHING, SHUFFLE, BITS, DELTA = (
    blosc2.Filter.NOFILTER,
    blosc2.Filter.SHUFFLE,
    blosc2.Filter.BITSHUFFLE,
    blosc2.Filter.BYTEDELTA,
)
LZ4, LZ4HC, ZSTD = blosc2.Codec.LZ4, blosc2.Codec.LZ4HC, blosc2.Codec.ZSTD


def blosc(codec: Any, level: int, element: int, *filters: Any) -> Codec:
    how = {
        "codec": codec,
        "clevel": level,
        "typesize": element,
        "filters": [*filters, *[NOTHING] * (6 - len(filters))],
        "filters_meta": [3 if each == DELTA else 0 for each in filters] + [0] * (6 - len(filters)),
        "nthreads": 1,
    }
    return (
        lambda chunk: blosc2.compress2(chunk, blocksize=chunk.nbytes, **how),
        lambda stored, chunk: blosc2.decompress2(stored, dst=chunk, nthreads=1),
    )


def in_hdf5(**filters: Any) -> Codec:
    """One file in memory a chunk, no chunk cache: what HDF5's own filters cost."""

    def store(chunk: Chunk) -> Any:
        options = {"driver": "core", "backing_store": False, "rdcc_nbytes": 0}
        file = h5py.File(f"chunk-{time.monotonic_ns()}", "w", **options)
        return file.create_dataset("x", data=chunk, chunks=chunk.shape, **filters)

    return store, lambda data, chunk: data.read_direct(chunk)


CANDIDATES: dict[str, Codec] = {
    "fast: bits/192 lz4-9": blosc(LZ4, 9, 192, BITS),
    "bits/24 lz4-9": blosc(LZ4, 9, 24, BITS),
    "bits/3 lz4-9": blosc(LZ4, 9, 3, BITS),
    "bits/192 lz4hc-3": blosc(LZ4HC, 3, 192, BITS),
    "bits/3 zstd-1": blosc(ZSTD, 1, 3, BITS),
    "planes+delta zstd-1": blosc(ZSTD, 1, 3, SHUFFLE, DELTA),
    "planes+delta zstd-5": blosc(ZSTD, 5, 3, SHUFFLE, DELTA),
    "hdf5 bitshuffle-lz4": in_hdf5(**hdf5plugin.Bitshuffle(cname="lz4")),
    "hdf5 zstd-3": in_hdf5(**hdf5plugin.Zstd(clevel=3)),
    "small: hdf5 htj2k": in_hdf5(**hdf5plugin.Htj2k()),
    "portable: hdf5 gzip-4": in_hdf5(compression="gzip", compression_opts=4, shuffle=True),
}


def cut(images: list[Both], edge: int, most: int) -> list[Chunk]:
    """Up to `most` whole chunks, spread over all frames."""
    found = [
        np.ascontiguousarray(image[top : top + edge, left : left + edge])
        for pair in images
        for image in pair
        for top in range(0, image.shape[0] - edge + 1, edge)
        for left in range(0, image.shape[1] - edge + 1, edge)
    ]
    return found[:: max(1, len(found) // most)][:most]


def show(kind: str, images: list[Both], options: argparse.Namespace) -> None:
    patches = cut(images, min(512, *images[0][0].shape[:2]), 12)
    png: Codec = (lambda chunk: cv2.imencode(".png", chunk[..., ::-1])[1], lambda stored, chunk: decoded_png(stored))
    print(f"\n{kind}: chunks of {options.edge}x{options.edge}x3 srgb8")
    print(f"{'':24s}{'of raw':>9s}{'x PNG size':>12s}{'decode MB/s':>13s}{'encode MB/s':>13s}")
    png_size = 1.0
    for name, (pack, unpack) in {"PNG patches": png, **CANDIDATES}.items():
        chunks = patches if name == "PNG patches" else cut(images, options.edge, options.chunks)
        raw = sum(chunk.nbytes for chunk in chunks)
        started = time.process_time()
        stored = [pack(chunk) for chunk in chunks]
        packing = time.process_time() - started
        target, best = np.empty_like(chunks[0]), float("inf")
        for one, chunk in zip(stored, chunks, strict=True):
            found = unpack(one, target)
            assert np.array_equal(target if name in CANDIDATES else found, chunk), name
        for _ in range(options.rounds):
            started = time.process_time()
            for one in stored:
                unpack(one, target)
            best = min(best, time.process_time() - started)
        size = sum(one.id.get_storage_size() if isinstance(one, h5py.Dataset) else len(one) for one in stored) / raw
        png_size = size if name == "PNG patches" else png_size
        rates = f"{raw / best / 1e6:>13.0f}{raw / packing / 1e6:>13.0f}"
        print(f"{name:24s}{size:>9.3f}{size / png_size:>12.3f}{rates}", flush=True)
        for one in stored:
            if isinstance(one, h5py.Dataset):
                one.file.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1944x1296", help="WxH of the virtual frame")
    parser.add_argument("--edge", type=int, default=128, help="edge of a chunk in px")
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    with tempfile.TemporaryDirectory() as scratch:
        images = virtual_pairs(Path(scratch) / "raw", camera, 1, options.seed, Encoding.SRGB8)
    show("virtual", images, options)
    if len(sorted(options.photographs.glob("kodak_*.png"))) >= 6:
        show("photographs", photographs(options.photographs, Encoding.SRGB8, options.seed), options)


if __name__ == "__main__":
    main()
