"""Command line of `sdd report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, set_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions


@click.command()
@click.argument("dataset", type=IN_PATH)
@out_option("Folder of report.html and pairs.csv.")
@click.option("--pictures", type=click.IntRange(min=0), default=None, help="Number of pairs to picture (default 40).")
@set_options
def report(dataset: Path, out: Path, pictures: int | None, run: RunOptions) -> None:
    """Write one HTML page of statistics and pictures, and a CSV."""
    from sdd_toolkit.report import stage

    lock_folders(out)
    folder = dataset if dataset.is_dir() else dataset.parent
    config = run.set_section(folder, stage.ReportConfig, "report", max_pictures=pictures)
    result = stage.write_report(dataset, out, config, **run.stage)
    run.record_change(folder, report=config)
    run.echo(result)
