"""Section `[ingest]`: how frames become scenes and pairs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.types import PairKind


class IngestConfig(Section):
    """How files are grouped into scenes and which frame of a scene is blurred, which sharp (docs/ingest.md)."""

    pairing: PairKind = Field(PairKind.FOCUS, description="`focus`, `aperture`, `sequence` or `csv`.")
    first: Literal["blur", "sharp"] = Field("blur", description="`sequence`: which frame of a pair was shot first.")
    reference: Literal["detail", "first", "last"] = Field(
        "detail",
        description="`focus` without role words: the sharp frame is the `first`, the `last` or that of most `detail`.",
    )
    gap_s: float = Field(
        30.0, gt=0, description="A longer pause between two shots in a folder of many scenes starts a new scene."
    )
    scene_frames: int = Field(
        50, ge=2, description="Most frames that a folder or a focal stack may have to count as one scene."
    )
    max_exposure_ev: float = Field(
        4.0, gt=0, description="Largest difference of exposure that a linear gain may bridge, in stops."
    )
    check_pixels: bool = Field(
        True, description="Decode every file to find those whose metadata is fine and whose pixels are not."
    )
