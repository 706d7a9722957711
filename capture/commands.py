"""Command line of `sdd ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from capture.ingest.stage import IngestResult
    from sdd_toolkit.cli.options import RunOptions


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
    sources: tuple[Path, ...], out: Path, table: Path | None, dry_run: bool, run: RunOptions, **settings: Any
) -> None:
    """Find RAW files and images and form pairs: the manifest."""
    from capture.config import IngestConfig
    from capture.ingest import stage

    config = run.section(IngestConfig, "ingest", **settings)
    if dry_run:
        collected = stage.find_pairs(sources, out, config, table=table, executor=run.executor, track=run.track)
        _print_pairs(collected, run.as_json)
        return
    lock_folders(out)
    run.echo(stage.ingest_photographs(sources, out, config, table=table, **run.stage))
    if not run.as_json:
        click.echo(f"  {stage.count_pairs(out)} pairs")


def _print_pairs(collected: IngestResult, as_json: bool) -> None:
    import shutil
    import sys

    from capture.ingest import dry_run

    if as_json:
        click.echo(dry_run.format_json(collected))
    elif sys.stdout.isatty():
        click.echo(dry_run.format_table(collected, shutil.get_terminal_size().columns))
    else:
        click.echo(dry_run.format_text(collected))
