"""The content of the shards in this folder. They were written when format 1 was frozen and are never written anew."""

from __future__ import annotations

import numpy as np

from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord
from sdd_toolkit.shards.schema import DTYPE, PackedPair, Patch

SIZE = (24, 32)


def golden_pair(encoding: Encoding) -> PackedPair:
    """A pair of ramps, made of integers alone."""
    dtype = np.dtype(DTYPE[encoding])
    rows, columns, channels = np.mgrid[: SIZE[0], : SIZE[1], :3]
    ramp = rows * 7 + columns * 3 + channels * 40
    scale = 1 if dtype == np.uint8 else 257
    ref = FileRef("scene/blur.dng", 1, "0" * 64)
    record = PairRecord("scene/01", "scene", PairKind.FOCUS, ref, ref, FrameMeta(make="Ä"), FrameMeta())
    flow = (np.mgrid[:6, :8].transpose(1, 2, 0) / 4).astype(np.float32)
    return PackedPair(
        id="scene/01",
        blur=(ramp % 200 * scale).astype(dtype),
        sharp=((ramp * 5) % 256 * scale).astype(dtype),
        valid=(rows + columns)[..., 0] % 9 != 0,
        flow=flow,
        record=record,
        box=(4, 8, 36, 32),
    )


def golden_patches() -> list[Patch]:
    """Its two patches of 16 px."""
    return [Patch("scene/01", 0, 0, 0.25, 0.890625), Patch("scene/01", 8, 13, 1.0, 0.8828125)]
