"""Logs of a training run: CSV tables, TensorBoard and sample pictures."""

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
    """Writes numbers by step, without delay, to RUN/train.csv, RUN/val.csv and RUN/tensorboard/."""

    def __init__(self, run: Path, tensorboard: SummaryWriter) -> None:
        self.run = run
        self.tensorboard = tensorboard

    def write(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Appends one row to RUN/`table`.csv and the same to TensorBoard.

        Args:
            table: `train` or `val`; its columns are those of its first row, also where an earlier version wrote it.
            step: Optimiser steps done.
            values: Numbers by column name.
        """
        path = self.run / f"{table}.csv"
        columns = ["step", *values]
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                columns = next(csv.reader(stream), columns)
        is_new = not path.is_file()
        with path.open("a", encoding="utf-8", newline="") as stream:
            rows = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
            if is_new:
                rows.writeheader()
            rows.writerow({"step": step, **{name: f"{value:.8g}" for name, value in values.items()}})
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{table}/{name}", value, step)

    def picture(self, name: str, step: int, image: NDArray[np.uint8]) -> None:
        """Writes a picture to RUN/samples/ and to TensorBoard.

        Args:
            name: Its tag in TensorBoard.
            step: Optimiser steps done.
            image: (H, W, 3).
        """
        folder = self.run / "samples"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"step-{step:08d}.png", image)
        self.tensorboard.add_image(name, image, step, dataformats="HWC")


@contextmanager
def open_logs(run: Path, step: int) -> Iterator[Logs]:
    """Opens the logs of a run that continues after `step`; rows and pictures of later steps are deleted."""
    for path in (run / "train.csv", run / "val.csv"):
        _drop_rows_after(path, step)
    for path in (run / "samples").glob("step-*.png"):
        if path.stem.removeprefix("step-").isdigit() and int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
    try:
        yield Logs(run, tensorboard)
    finally:
        tensorboard.close()


def _drop_rows_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines() or [""]
    earlier = [row for row in rows if row.partition(",")[0].isdigit() and int(row.partition(",")[0]) <= step]
    if earlier:
        write_text(path, "\n".join([header, *earlier]) + "\n")
    else:
        path.unlink()
