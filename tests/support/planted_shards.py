"""Small data sets with planted blur and flow, written as real shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.records import Exposure, FileRef, FrameMeta, PairKind, PairRecord, ShardInfo
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.schema import PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard

MARGIN_PX = 16


class MakeShards(Protocol):
    """The type of `write_planted_shards`."""

    def __call__(
        self,
        folder: Path,
        *,
        scenes: dict[str, int] | None = None,
        size: tuple[int, int] = (96, 128),
        patch: int = 64,
        flow: tuple[int, int] = (0, 0),
        radius_px: float = 2.0,
        encoding: Encoding = Encoding.SRGB8,
        stored: bool = True,
    ) -> Path: ...


def dead_leaves(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """A dead-leaves image in linear light: opaque discs of power-law size."""
    draw = np.random.default_rng([7, seed])
    canvas = np.full((height, width, 3), 0.2, dtype=np.float32)
    for _ in range(height * width // 60):
        radius = int(2 / np.sqrt(draw.uniform(0.02, 1)))
        centre = (int(draw.integers(0, width)), int(draw.integers(0, height)))
        cv2.circle(canvas, centre, radius, draw.uniform(0, 1, 3).tolist(), -1)
    return canvas


def defocus(image: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """Blurs `image` by a uniform disc."""
    reach = int(np.ceil(radius_px))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius_px + 0.5 - np.hypot(rows, columns), 0, 1)
    return cv2.filter2D(image, -1, (disc / disc.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT)


def write_planted_shards(
    folder: Path,
    *,
    scenes: dict[str, int] | None = None,
    size: tuple[int, int] = (96, 128),
    patch: int = 64,
    flow: tuple[int, int] = (0, 0),
    radius_px: float = 2.0,
    encoding: Encoding = Encoding.SRGB8,
    stored: bool = True,
) -> Path:
    """Writes a folder of shards, one a split, of pairs whose sharp frame is displaced by the whole-pixel `flow` (x, y).

    With `stored` false the flow is not stored, as in imported pairs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, number = [], 0
    for split, count in (scenes or {"train": 3, "test": 1}).items():
        pairs = []
        for _ in range(count):
            pair, patches = planted_pair(f"scene-{number:02d}", number, size, flow, radius_px, encoding, patch)
            pairs.append((pair if stored else replace(pair, flow=0 * pair.flow), patches))
            number += 1
        path = folder / f"{split}-0000.h5"
        ids, patches = write_shard(path, ShardHeader(split=split, encoding=encoding, patch_size=patch), pairs)
        shards.append(ShardInfo(path.name, split, ids, patches, path.stat().st_size, "0" * 64))
    write_index(
        folder,
        Index(
            name="planted",
            encoding=encoding,
            transfer=TRANSFER[encoding],
            patch_size=patch,
            codec="blosc2-bitshuffle-lz4",
            toolkit="0",
            config="0",
            splits={shard.split: shard.pairs for shard in shards},
            shards=tuple(shards),
        ),
    )
    return folder


def planted_pair(
    name: str,
    seed: int,
    size: tuple[int, int],
    flow: tuple[int, int],
    radius_px: float,
    encoding: Encoding,
    patch: int,
) -> tuple[PackedPair, list[Patch]]:
    """A pair of dead leaves, blurred by a disc and displaced by `flow`, and its patches."""
    (height, width), (dx, dy) = size, flow
    truth = dead_leaves(height + 2 * MARGIN_PX, width + 2 * MARGIN_PX, seed)

    def window(image: NDArray[np.float32], x: int, y: int) -> NDArray[Any]:
        rows, columns = slice(MARGIN_PX + y, MARGIN_PX + y + height), slice(MARGIN_PX + x, MARGIN_PX + x + width)
        return encode(image[rows, columns], encoding)

    ref = FileRef(path=f"{name}.png", bytes=1, sha256=f"{seed:064d}")
    meta = FrameMeta(exposure=Exposure())
    coarse = np.broadcast_to(np.float32([dx, dy]), (-(-height // 4), -(-width // 4), 2))
    pair = PackedPair(
        id=name,
        blur=window(defocus(truth, radius_px), 0, 0),
        sharp=window(truth, -dx, -dy),
        valid=np.ones(size, dtype=np.bool_),
        flow=coarse.astype(np.float32),
        record=PairRecord(name, name, PairKind.FOCUS, ref, ref, meta, meta),
    )
    tops, lefts = range(0, height - patch + 1, patch // 2), range(0, width - patch + 1, patch // 2)
    return pair, [Patch(name, top, left, 1.0, 1.0) for top in tops for left in lefts]
