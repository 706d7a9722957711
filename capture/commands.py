"""The commands of the capture room; those of the virtual camera are in `capture.virtual.commands`."""

from __future__ import annotations

from pathlib import Path

import click

from sdd_toolkit.options import IN_PATH, echo_report, out_option, stage_options


@click.command()
@click.argument("sources", type=IN_PATH, nargs=-1, metavar="DIR...")
@out_option("Folder of the data set: ingested.jsonl and rejected_files.csv are written there.")
@click.option(
    "--pairing",
    type=click.Choice(["aperture", "focus", "sequence", "csv"]),
    help="What tells the blurred frame from the sharp one.",
)
@click.option("--table", type=IN_PATH, help="CSV file with the columns blur,sharp[,scene,id], for --pairing csv.")
@click.option("--dry-run", is_flag=True, help="Print the pairs and the files left over, write nothing.")
@stage_options
def ingest(
    sources: tuple[Path, ...], out: Path, pairing: str | None, table: Path | None, dry_run: bool, config: Path | None,
    executor: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find RAW files and images and form pairs: the manifest."""
    from capture.config import IngestConfig
    from capture.ingest import MANIFEST, collect, overview, run
    from sdd_toolkit.config import load_section
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.manifest import read
    from sdd_toolkit.progress import terminal

    section = load_section(IngestConfig, "ingest", config, pairing=pairing)
    how = executor or default_name()
    if dry_run:
        click.echo(overview(collect(sources, out, section, table=table, executor=how, track=terminal)))
        return
    report = run(sources, out, section, table=table, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
    if not as_json:
        click.echo(f"  {len(read(out / MANIFEST).records)} pairs")
