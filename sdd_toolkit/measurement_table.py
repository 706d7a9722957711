"""The measurements of a data set as one pandas table: one row a pair, one column a quantity.

The report, its CSV, the data card and `read_index` all take their numbers from here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sdd_toolkit.records import Alignment, Exposure, Quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sdd_toolkit.records import FrameMeta, PairRecord

KEPT, REJECTED, OPEN = "kept", "rejected", "open"
_ROWS = 5000

_EXPOSURE = tuple(entry.name for entry in fields(Exposure))
_QUALITY = tuple(entry.name for entry in fields(Quality))
_TUPLES = ("rows", "size", "box", "shift_px", "colour_gain", "vignetting")
_ALIGNED_ELSEWHERE = (*_TUPLES, "flow_file", "failure", "detail")
_ALIGNED = tuple(entry.name for entry in fields(Alignment) if entry.name not in _ALIGNED_ELSEWHERE)
# Two stages measure texture, each with its own definition.
_RENAMED = {"texture_fraction": "align_texture_fraction", "model": "global_model"}
_MATRIX = tuple(f"h{row}{column}" for row in range(3) for column in range(3))
_BOX = ("box_left", "box_top", "box_right", "box_bottom")
_PHOTOMETRY = ("gain_red", "gain_green", "gain_blue", "vignetting_a", "vignetting_b")

TEXT_COLUMNS = (
    *("id", "scene", "kind", "verdict", "reason", "detail", "make", "model", "lens"),
    *("blur_file", "sharp_file", "blur_taken_at", "sharp_taken_at", "global_model"),
)
COLUMNS = (
    *("id", "scene", "kind", "verdict", "reason", "detail", "make", "model", "lens", "height", "width"),
    *("blur_file", "blur_taken_at", *(f"blur_{name}" for name in _EXPOSURE)),
    *("sharp_file", "sharp_taken_at", *(f"sharp_{name}" for name in _EXPOSURE)),
    *("aligned", "shift_x_px", "shift_y_px", "shift_px", "zoom_percent"),
    *(_RENAMED.get(name, name) for name in _ALIGNED),
    *("radial_px", *_PHOTOMETRY),
    *_BOX,
    *_MATRIX,
    *_QUALITY,
)
NUMBER_COLUMNS = tuple(name for name in COLUMNS if name not in (*TEXT_COLUMNS, "aligned"))


def build_table(records: Iterable[PairRecord]) -> pd.DataFrame:
    """One row a pair with all its facts, in the order of `COLUMNS`.

    Numbers that were not measured are NaN, missing texts empty. The geometry of a pair whose alignment failed is
    left out: its numbers describe nothing.
    """
    rows = list(records)
    # In parts: a row of a hundred objects takes ten times the memory of a hundred numbers.
    starts = range(0, len(rows), _ROWS) or (0,)
    return pd.concat([_table_part(rows[start : start + _ROWS]) for start in starts], ignore_index=True)


def _table_part(records: Sequence[PairRecord]) -> pd.DataFrame:
    frame = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    texts = {
        name: pd.Series([text if isinstance(text, str) else "" for text in frame[name]], dtype=str)
        for name in TEXT_COLUMNS
    }
    numbers = {name: pd.to_numeric(frame[name]).astype(np.float64) for name in NUMBER_COLUMNS}
    return frame.assign(**texts, **numbers, aligned=frame["aligned"].astype(bool))


def _row(record: PairRecord) -> dict[str, object]:
    verdict, sharp, blur = record.verdict, record.sharp_meta, record.blur_meta
    size = record.alignment.size if record.alignment else sharp.size or (None, None)
    return {
        "id": record.id,
        "scene": record.scene,
        "kind": str(record.kind),
        "verdict": OPEN if verdict is None else KEPT if verdict.keep else REJECTED,
        "reason": str(verdict.reason) if verdict and verdict.reason else "",
        "detail": verdict.detail if verdict else "",
        "make": sharp.make or blur.make,
        "model": sharp.model or blur.model,
        "lens": sharp.lens or blur.lens,
        "height": size[0],
        "width": size[1],
        "blur_file": record.blur.path,
        "sharp_file": record.sharp.path,
        **_frame_row("blur", blur),
        **_frame_row("sharp", sharp),
        **_alignment_row(record.alignment),
        **(asdict(record.quality) if record.quality else {}),
    }


def _frame_row(role: str, meta: FrameMeta) -> dict[str, object]:
    exposure = {f"{role}_{name}": value for name, value in asdict(meta.exposure).items()}
    return {f"{role}_taken_at": meta.taken_at, **exposure}


def _alignment_row(alignment: Alignment | None) -> dict[str, object]:
    if alignment is None or alignment.failure is not None:
        return {"aligned": False}
    dx, dy = alignment.shift_px
    return {
        "aligned": True,
        "shift_x_px": dx,
        "shift_y_px": dy,
        "shift_px": float(np.hypot(dx, dy)),
        "zoom_percent": 100.0 * (alignment.zoom - 1.0),
        **{_RENAMED.get(name, name): getattr(alignment, name) for name in _ALIGNED},
        "radial_px": abs(alignment.radial) * float(np.hypot(*alignment.size)) / 2.0,
        **dict(zip(_PHOTOMETRY, (*alignment.colour_gain, *alignment.vignetting), strict=True)),
        **dict(zip(_BOX, alignment.box, strict=True)),
        **dict(zip(_MATRIX, np.ravel(alignment.rows).tolist(), strict=True)),
    }
