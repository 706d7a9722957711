"""Command line of `sdd ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, set_options

if TYPE_CHECKING:
    from capture.ingest.pairs import IngestResult
    from sdd_toolkit.cli.options import RunOptions


@click.command()
@click.argument("sources", type=IN_PATH, nargs=-1, metavar="DIR...")
@out_option("Folder of the data set: ingested.jsonl and rejected_files.csv are written there.")
@click.option(
    "--pairing",
    type=click.Choice(["aperture", "focus", "sequence", "csv", "auto"]),
    help="How the blurred frame of a pair is recognised; auto compares the images.",
)
@click.option("--table", type=IN_PATH, help="CSV file with the columns blur,sharp[,scene,id], for --pairing csv.")
@click.option("--check-pixels", is_flag=True, default=None, help="Decode every file; reject those whose pixels fail.")
@click.option("--dry-run", is_flag=True, help="Print pairs, their evidence and the files left over; write nothing.")
@set_options
def ingest(
    sources: tuple[Path, ...], out: Path, table: Path | None, dry_run: bool, run: RunOptions, **settings: Any
) -> None:
    """Find RAW files and images and form pairs: the manifest."""
    from capture.config import IngestConfig
    from capture.ingest import stage

    config = run.set_section(out, IngestConfig, "ingest", **settings)
    if dry_run:
        result = stage.find_pairs(sources, out, config, table=table, executor=run.executor, track=run.track)
        _print_result(result, run.as_json)
        stage.check_found_pairs(result, config.pairing)
        return
    lock_folders(out)
    report = stage.ingest_photographs(sources, out, config, table=table, **run.stage)
    run.record(out, out, ingest=config)
    stage.check_has_pairs(out, config.pairing)
    run.echo(report)
    if not run.as_json:
        click.echo(f"  {stage.count_pairs(out)} pairs")


def _print_result(result: IngestResult, as_json: bool) -> None:
    import shutil
    import sys

    from capture.ingest import dry_run

    if as_json:
        click.echo(dry_run.format_json(result))
    elif sys.stdout.isatty():
        click.echo(dry_run.format_table(result, shutil.get_terminal_size().columns))
    else:
        click.echo(dry_run.format_text(result))
