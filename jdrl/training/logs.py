"""The notebooks of a run: TensorBoard and pictures for looking, CSV for computing."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.storage.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


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

    def picture(self, name: str, step: int, image: NDArray[np.uint8]) -> None:
        """Writes a picture to RUN/samples/ and to TensorBoard.

        Args:
            name: What it shows.
            step: Optimiser steps done.
            image: (H, W, 3).
        """
        folder = self.run / "samples"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"step-{step:08d}.png", image)
        self.board.add_image(name, image, step, dataformats="HWC")


@contextmanager
def open_logs(run: Path, step: int) -> Iterator[Logs]:
    """The logs of a run that starts or goes on after `step`; later rows and pictures of an earlier one are dropped."""
    for path in (run / "train.csv", run / "val.csv"):
        _cut_after(path, step)
    for path in (run / "samples").glob("step-*.png"):
        if path.stem.removeprefix("step-").isdigit() and int(path.stem.removeprefix("step-")) > step:
            path.unlink()
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
