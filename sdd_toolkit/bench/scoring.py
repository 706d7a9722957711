"""Scores of deblurred test pictures against the truth: one row an arm, level, seed and scene."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.bench.plan import INPUT
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.storage.files import write_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_PROTOCOL = "unwarped"  # the target is the truth itself
_DETAIL_SIGMA_PX = 1.0


@dataclass(frozen=True, slots=True)
class Label:
    """What a score belongs to."""

    arm: str
    level: str
    seed: int


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The scores of one test picture.

    Attributes:
        arm: Name of the arm; `input` for the blurred frame.
        level: Name of the level.
        seed: Of the training.
        scene: Id of the test scene.
        psnr_db: Against the truth, sRGB, 8 bits, all pixels.
        ssim: The same; 7x7 uniform window.
        drift_px: Mean displacement against the blurred frame (`jdrl.metrics.drift`); None where no block has one.
        sharpness: Contrast of detail below about 2 px, divided by that of the truth.
    """

    arm: str
    level: str
    seed: int
    scene: str
    psnr_db: float
    ssim: float
    drift_px: float | None
    sharpness: float


COLUMNS = tuple(column.name for column in fields(ScoreRow))


def read_scores(evaluation: Path, test: Path, deblurred: Path, label: Label, *, with_input: bool) -> list[ScoreRow]:
    """The scores of one training.

    Args:
        evaluation: `evaluation.csv` of `sdd evaluate` on the set of the truth.
        test: Folder of the test pictures, blur/ and gt/.
        deblurred: Folder of the pictures that `sdd deblur` wrote.
        label: What they belong to.
        with_input: Whether the blurred frames are scored, too.
    """
    rows = []
    with evaluation.open(newline="", encoding="utf-8") as stream:
        for score in csv.DictReader(stream):
            is_input = score["image"] == INPUT
            if score["protocol"] != _PROTOCOL or score["pair"] == "mean" or (is_input and not with_input):
                continue
            scene = score["pair"]
            picture = test / "blur" / f"{scene}.png" if is_input else deblurred / f"{scene}_deblurred.png"
            rows.append(
                ScoreRow(
                    INPUT if is_input else label.arm,
                    label.level,
                    label.seed,
                    scene,
                    round(float(score["psnr_db"]), 4),
                    round(float(score["ssim"]), 5),
                    round(float(score["drift_px"]), 4) if score["drift_px"] else None,
                    round(detail(read_image(picture)) / detail(read_image(test / "gt" / f"{scene}.png")), 4),
                )
            )
    return rows


def detail(image: NDArray[np.uint8] | NDArray[np.uint16]) -> float:
    """Standard deviation of what a Gaussian of 1 px takes away from an 8-bit image, in grey levels."""
    values = image.astype(np.float32)
    return float((values - cv2.GaussianBlur(values, (0, 0), _DETAIL_SIGMA_PX)).std())


def write_rows(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Writes rows as CSV."""
    write_csv(path, COLUMNS, [astuple(row) for row in rows])


def read_rows(paths: Sequence[Path]) -> list[ScoreRow]:
    """The rows of tables of `write_rows`, in their order.

    Raises:
        InputError: A table cannot be read or has other columns.
    """
    rows: list[ScoreRow] = []
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                rows += [_parse(line) for line in csv.DictReader(stream)]
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path} is no table of scores: {error}", hint="remove it and run again") from error
    return rows


def _parse(line: dict[str, str]) -> ScoreRow:
    return ScoreRow(
        line["arm"],
        line["level"],
        int(line["seed"]),
        line["scene"],
        float(line["psnr_db"]),
        float(line["ssim"]),
        float(line["drift_px"]) if line["drift_px"] else None,
        float(line["sharpness"]),
    )
