"""Section `[ingest]` of the configuration: grouping into scenes and pairing."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from sdd_toolkit.config import Section
from sdd_toolkit.records import PairKind


class IngestConfig(Section):
    """Grouping of files into scenes, and the rule that forms pairs (docs/ingest.md)."""

    # Fields are described here: pydantic's search for docstrings takes as long as the scan of a thousand files.
    model_config = ConfigDict(use_attribute_docstrings=False)

    pairing: PairKind = Field(
        PairKind.FOCUS, description="`focus`, `aperture`, `sequence`, `csv` or `auto`, which compares the images."
    )
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
    cameras: Literal["apart", "together"] = Field(
        "apart", description="`together`: frames of two bodies may form a scene (beam splitter, two tripods)."
    )
    clock: Literal["auto", "trust"] = Field(
        "auto",
        description="`auto`: clocks of bodies that shoot `together`, and daylight-saving jumps, are corrected; "
        "`trust`: the times are taken as they are.",
    )
    clock_offsets_s: dict[str, float] = Field(
        {}, description="Seconds to add to the times of a body, by its model, maker and model, or serial number."
    )
    exiftool: bool = Field(True, description="Read with ExifTool, where it is installed, what no other reader finds.")
    check_pixels: bool = Field(
        False, description="Decode every file, to find files with intact structure and damaged pixels."
    )
