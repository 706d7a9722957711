"""One number of a benchmark with everything it belongs to, kept as one line of a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value of one method on one case.

    Attributes:
        section: The experiment, e.g. `planted`.
        group: What its table has a column or a part for, e.g. `disc of 4 px`.
        case: The pair, e.g. `photograph 3`.
        method: The aligner.
        quantity: What was measured, with its unit, e.g. `corner_error_px`.
        value: NaN where the method gave no answer.
    """

    section: str
    group: str
    case: str
    method: str
    quantity: str
    value: float


Job = Callable[[], list[Measurement]]


def distinct(found: Iterable[str]) -> list[str]:
    """In the order of first appearance."""
    return list(dict.fromkeys(found))


def values(rows: Iterable[Measurement], quantity: str, **where: str) -> list[float]:
    """The values of a quantity; `where` narrows section, group, case or method."""
    wanted = {"quantity": quantity, **where}
    return [row.value for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def median(found: list[float]) -> float:
    """A method that gives no answer has an infinite error; NaN of nothing."""
    if not found:
        return math.nan
    ordered = sorted(math.inf if math.isnan(value) else value for value in found)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else (low + high) / 2


def write(path: Path, rows: Iterable[Measurement]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([field.name for field in fields(Measurement)])
        for row in rows:
            *words, value = astuple(row)
            table.writerow([*words, f"{value:.5g}"])


def read(path: Path) -> list[Measurement]:
    """The lines `write` wrote; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    return [Measurement(*words, float(value)) for *words, value in lines]
