"""The two notebooks of a run: TensorBoard for looking, CSV for computing."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from sdd_toolkit.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Logs:
    """Rows of numbers by step, written at once: RUN/train.csv, RUN/val.csv and RUN/tensorboard/."""

    def __init__(self, run: Path, board: SummaryWriter) -> None:
        self.run = run
        self.board = board

    def write(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Appends one row to RUN/`table`.csv and the same to TensorBoard.

        Args:
            table: `train` or `val`; its columns are those of its first row.
            step: Optimiser steps done.
            values: By column.
        """
        path = self.run / f"{table}.csv"
        fresh = not path.is_file()
        with path.open("a", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            if fresh:
                rows.writerow(["step", *values])
            rows.writerow([step, *(f"{value:.8g}" for value in values.values())])
        for name, value in values.items():
            self.board.add_scalar(f"{table}/{name}", value, step)


@contextmanager
def opened(run: Path, step: int) -> Iterator[Logs]:
    """The logs of a run that starts or goes on after `step`; later rows of an interrupted run are dropped."""
    for path in (run / "train.csv", run / "val.csv"):
        _cut_after(path, step)
    board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
    try:
        yield Logs(run, board)
    finally:
        board.close()


def _cut_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines() or [""]
    kept = [row for row in rows if row.partition(",")[0].isdigit() and int(row.partition(",")[0]) <= step]
    if kept:
        write_text(path, "\n".join([header, *kept]) + "\n")
    else:
        path.unlink()
