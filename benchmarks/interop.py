"""In and out: what `sdd import`, `sdd export` and `sdd.read_index` cost beside doing it by hand with OpenCV.

`python benchmarks/interop.py [--pairs 12] [--size 1680x1120] [--table-pairs 2000]` writes pairs in DPDD's layout as
8-bit PNG, takes them in and gives them out, each time beside OpenCV decoding and encoding the same files; then packs
`table-pairs` pairs of 8x8 pixels with full records and reads them as tables. CPU seconds of one process; what comes
back is checked to be what went in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

import sdd_toolkit as sdd
from sdd_toolkit.cards import stage as cards
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts import export_stage, import_stage
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.records import ShardInfo
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of
from tests.support.small_dataset import pair as small_pair
from tests.support.small_dataset import texture

PER_SHARD = 100


def foreign(root: Path, pairs: int, size: tuple[int, int]) -> list[Path]:
    """PNG pairs of textures with noise in DPDD's layout."""
    files = []
    for number in range(pairs):
        noise = np.random.default_rng(number).integers(-3, 4, (*size, 3))
        sharp = np.clip(texture(number, size).astype(np.int16) + noise, 0, 255).astype(np.uint8)
        for role, image in (("target", sharp), ("source", cv2.GaussianBlur(sharp, (0, 0), 3))):
            path = root / f"train_c/{role}/{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            files.append(path)
    return files


def tables(folder: Path, pairs: int) -> Path:
    """Shards of tiny pairs whose records say all that records say."""
    (folder / "one").mkdir(parents=True)
    record = small_pair(folder / "one", "pair", "scene", 0)
    image, flow = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2, 2), np.float32)
    shards = []
    for first in range(0, pairs, PER_SHARD):
        names = [f"pair-{number:06d}" for number in range(first, min(first + PER_SHARD, pairs))]
        path = folder / f"train-{first // PER_SHARD:05d}-of-{-(-pairs // PER_SHARD):05d}.h5"
        rows = (
            (
                PackedPair(name, image, image, np.ones((8, 8), np.bool_), flow, replace(record, id=name, scene=name)),
                [Patch(name, 0, 0, 0.5, 1.0)] * 4,
            )
            for name in names
        )
        ids, patches = write_shard(path, ShardHeader("train", Encoding.SRGB8, 8, "none"), rows)
        shards.append(ShardInfo(path.name, "train", ids, patches, path.stat().st_size, sha256_of(path)))
    scenes = {"train": tuple(name for shard in shards for name in shard.pairs)}
    index = Index("tables", Encoding.SRGB8, TRANSFER[Encoding.SRGB8], 8, "none", "", "", scenes, tuple(shards))
    write_index(folder, index)
    return folder


def print_cost(name: str, pairs: int, work: Callable[[], object]) -> None:
    before = time.process_time()
    work()
    cpu_s = time.process_time() - before
    print(f"{name:24s}{pairs:>8d}{cpu_s:>10.2f}{1000 * cpu_s / pairs:>14.2f}", flush=True)


def by_hand(files: list[Path], out: Path | None) -> None:
    for path in files:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if out is not None:
            cv2.imwrite(str(out / f"{path.parent.name}-{path.name}"), image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="pairs to take in and give out")
    parser.add_argument("--size", default="1680x1120", help="WxH of the frames")
    parser.add_argument("--table-pairs", type=int, default=2000, help="pairs to read as a table")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    pairs, rows = options.pairs, options.table_pairs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = foreign(folder / "set", pairs, (height, width))
        shards, png = folder / "shards", folder / "png"
        (folder / "copy").mkdir()
        print(f"{pairs} pairs of {width}x{height}, 8 bits; {rows} pairs in tables")
        print(f"{'':24s}{'pairs':>8s}{'CPU s':>10s}{'CPU ms a pair':>14s}")
        print_cost("OpenCV, decode", pairs, lambda: by_hand(files, None))
        print_cost("import", pairs, lambda: import_stage.import_dataset(folder / "set", shards, PackConfig()))
        print_cost("import, again", pairs, lambda: import_stage.import_dataset(folder / "set", shards, PackConfig()))
        print_cost("OpenCV, decode, encode", pairs, lambda: by_hand(files, folder / "copy"))
        print_cost("export, png", pairs, lambda: export_stage.export_dataset(shards, png, layout="png"))
        print_cost(
            "export, webdataset",
            pairs,
            lambda: export_stage.export_dataset(shards, folder / "tar", layout="webdataset"),
        )
        print_cost("import of export", pairs, lambda: import_stage.import_dataset(png, folder / "back", PackConfig()))
        with ShardReader(folder / "back") as reader:
            for number, name in enumerate(reader.pair_ids):
                assert np.array_equal(reader.read(name).sharp[..., ::-1], cv2.imread(str(files[2 * number])))
        print_cost("iterate", pairs, lambda: sum(len(row["id"]) for row in sdd.iterate(shards)))
        packed = tables(folder / "tables", rows)
        print_cost("read_index, patches", rows, lambda: sdd.read_index(packed, level="patches"))
        print_cost("read_index, shards", rows, lambda: sdd.read_index(packed))
        print_cost("card", rows, lambda: cards.write_card(packed, CardConfig()))
        print_cost("read_index, pairs.csv", rows, lambda: sdd.read_index(packed))


if __name__ == "__main__":
    main()
