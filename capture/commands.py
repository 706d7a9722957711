"""The commands of the capture room; those of the virtual camera are in `capture.virtual.commands`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from capture.ingest.stage import Ingested


@click.command()
@click.argument("sources", type=IN_PATH, nargs=-1, metavar="DIR...")
@out_option("Folder of the data set: ingested.jsonl and rejected_files.csv are written there.")
@click.option(
    "--pairing",
    type=click.Choice(["aperture", "focus", "sequence", "csv", "auto"]),
    help="What tells the blurred frame from the sharp one; auto looks at the images.",
)
@click.option("--table", type=IN_PATH, help="CSV file with the columns blur,sharp[,scene,id], for --pairing csv.")
@click.option("--check-pixels", is_flag=True, default=None, help="Decode every file to see that its pixels are whole.")
@click.option("--dry-run", is_flag=True, help="Print the pairs, why, and the files left over; write nothing.")
@stage_options
def ingest(
    sources: tuple[Path, ...], out: Path, pairing: str | None, table: Path | None, check_pixels: bool | None,
    dry_run: bool, config: Path | None, executor: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find RAW files and images and form pairs: the manifest."""
    from capture.config import IngestConfig
    from capture.ingest.stage import collect, ingest_photographs, pair_count
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name

    section = load_section(IngestConfig, "ingest", config, pairing=pairing, check_pixels=check_pixels)
    how = executor or default_name()
    if dry_run:
        _show(collect(sources, out, section, table=table, executor=how, track=terminal), as_json)
        return
    lock_folders(out)
    report = ingest_photographs(sources, out, section, table=table, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
    if not as_json:
        click.echo(f"  {pair_count(out)} pairs")


def _show(found: Ingested, as_json: bool) -> None:
    import shutil
    import sys

    from capture.ingest import dry_run as overview

    if as_json:
        click.echo(overview.as_json(found))
    elif sys.stdout.isatty():
        click.echo(overview.as_table(found, shutil.get_terminal_size().columns))
    else:
        click.echo(overview.as_text(found))
