"""The progress bar of the terminal, drawn by rich."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdd_toolkit.execution.progress import Advance

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def terminal_progress(label: str, total: int) -> Iterator[Advance]:
    """A bar with count, elapsed time and ETA on stderr (plain lines when stderr is no terminal)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from sdd_toolkit.cli.terminal_text import escape_unprintable

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=escape_unprintable(note))

        yield advance
