"""The contents of a shard: a pair, a patch, the names and types of their arrays, as `docs/format.md` specifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.encoding import Encoding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.raw.development import PairDevelopment
    from sdd_toolkit.records import PairRecord

ARRAYS = ("blur", "sharp", "valid", "flow")
"""The arrays of a pair, and of a row of the patch layout."""

PATCH_FORMAT = "sdd-patches"
"""The `format` of shards in the patch layout."""

# The attributes that store the fields of `ReuseKeys`, in their order.
REUSE_ATTRIBUTES = ("pixels", "patching", "look")
DTYPE: Mapping[Encoding, type[np.uint8] | type[np.uint16]] = {
    Encoding.SRGB8: np.uint8,
    Encoding.SRGB16: np.uint16,
    Encoding.LINEAR16: np.uint16,
}


@dataclass(frozen=True, slots=True)
class ReuseKeys:
    """The fingerprints by which a stored pair is recognised, so that it can be copied instead of packed again.

    Attributes:
        pixels: Fingerprint over everything its arrays depend on.
        patching: Fingerprint of the rule that chose its patches.
        perceptual_hash: Of the sharp frame, 16 hex digits, see `imaging.perceptual_hash`.
    """

    pixels: str
    patching: str
    perceptual_hash: str


@dataclass(frozen=True, slots=True, eq=False)
class PackedPair:
    """One pair as it lies in a shard, on the sharp frame's grid, cropped to where both frames are valid.

    Attributes:
        id: The pair's id in the manifest.
        blur: (H, W, 3) uint8 or uint16, encoded as the index declares.
        sharp: (H, W, 3), the same type.
        valid: (H, W) bool: where the pixels of `blur` were resampled from the photograph, not invented.
        flow: (h, w, 2) float32, residual u[blur→sharp] in full-size px: `sharp(x + flow(x))` looks like `blur(x)`.
            From `ShardReader.read`: quarter-size grid, coarse pixel q covers 4q … 4q + 3. From `read_window`: the
            window's own grid. With a `reduction` of 2 all pixels here are packed ones, those of the record twice
            as small.
        record: The pair's line of the manifest.
        box: (left, top, right, bottom), half open, of the whole pair on the sharp frame; None in the first shards.
        development: How the two frames were developed; None in the first shards.
        reuse_keys: None in the first shards.
    """

    id: str
    blur: NDArray[np.uint8] | NDArray[np.uint16]
    sharp: NDArray[np.uint8] | NDArray[np.uint16]
    valid: NDArray[np.bool_]
    flow: NDArray[np.float32]
    record: PairRecord
    box: tuple[int, int, int, int] | None = None
    development: PairDevelopment | None = None
    reuse_keys: ReuseKeys | None = None


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A pair of a finished shard, to be copied chunk by chunk into a new one.

    Attributes:
        id: Its id in the new shard.
        record: Its record there.
        path: The shard it lies in; its SHA-256 has been checked.
        stored_id: Its id in that shard.
        patching: Fingerprint of the rule for its patches in the new shard; None if not known.
    """

    id: str
    record: PairRecord
    path: Path
    stored_id: str
    patching: str | None


@dataclass(frozen=True, slots=True)
class Patch:
    """One square training window of a pair; its edge is the index's `patch_size`.

    Attributes:
        pair: The pair's id.
        top: First row.
        left: First column.
        sharpness: 0 … 1, amount of fine detail in the sharp frame, relative to the pair's other patches.
        valid_fraction: Share of valid pixels.
    """

    pair: str
    top: int
    left: int
    sharpness: float
    valid_fraction: float


def group_name(pair_id: str) -> str:
    """The HDF5 group of a pair. HDF5 reserves `/` and `.`, which are percent-encoded (`%2F`, `%2E`)."""
    plain = pair_id.replace("%", "%25").replace("/", "%2F")
    return "pairs/" + (plain.replace(".", "%2E") if set(plain) == {"."} else plain)
