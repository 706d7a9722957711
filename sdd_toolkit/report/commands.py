"""Command line of `sdd report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("dataset", type=IN_PATH)
@out_option("Folder of report.html and pairs.csv.")
@click.option("--pictures", type=click.IntRange(min=0), default=None, help="How many pairs to picture (default 40).")
@stage_options
def report(
    dataset: Path,
    out: Path,
    pictures: int | None,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write one HTML page of statistics and pictures, and a CSV."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.report.stage import ReportConfig, write_report

    lock_folders(out)
    section = load_section(ReportConfig, "report", config, max_pictures=pictures)
    how = executor or default_name()
    echo_report(write_report(dataset, out, section, executor=how, overwrite=overwrite, track=terminal), as_json)
