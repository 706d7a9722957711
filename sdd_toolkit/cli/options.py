"""Command-line options that mean the same in every command, and how a command tells what it did."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.storage.locations import Location

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sdd_toolkit.storage.locations import parse_location

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdd_toolkit.records import Report
    from sdd_toolkit.storage.locations import Location

FOLDER_OR_URL = click.types.FuncParamType(parse_location)
FOLDER_OR_URL.name = "folder or url"
F = TypeVar("F", bound="Callable[..., Any]")

IN_PATH = click.Path(path_type=Path)
OUT_PATH = click.Path(path_type=Path)

config_option = click.option("--config", type=IN_PATH, default=None, help="See docs/configuration.md.")
executor_option = click.option(
    "--executor", default=None, metavar="NAME", help="serial, local:N (default: all cores) or dask://HOST:PORT."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Do everything again, resume nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def lock_folders(*folders: Location) -> None:
    """Keeps other runs out of `folders` until the command that is running ends; see `sdd_toolkit.storage.folder_lock`.

    A folder in a store cannot be held.
    """
    from sdd_toolkit.storage.folder_lock import folder_lock

    if (context := click.get_current_context(silent=True)) is not None:
        for folder in folders:
            if isinstance(folder, Path):
                context.with_resource(folder_lock(folder))


def out_option(what: str) -> Callable[[F], F]:
    """The `--out` option; `what` says what is written there."""
    return click.option("--out", type=OUT_PATH, required=True, help=what)


def shards_option(function: F) -> F:
    """The `--out` option of a command that writes shards."""
    where = "Folder of the shards, or a URL: s3://, gs:// …."
    return click.option("--out", type=FOLDER_OR_URL, required=True, help=where)(function)


def stage_options(function: F) -> F:
    """`--config --executor --overwrite --json`: what every stage that works through a manifest takes."""
    for option in (json_option, overwrite_option, executor_option, config_option):
        function = option(function)
    return function


def echo_report(report: Report, as_json: bool) -> None:
    """Prints what a stage did: JSON, or a few lines for people."""
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    rejected = sum(report.rejected.values())
    copied = f" ({report.copied} copied)" if report.copied else ""
    click.echo(
        f"{report.stage}: {report.done} done{copied}, {report.skipped} unchanged, {rejected} rejected "
        f"of {report.total} in {report.seconds:.1f} s"
    )
    for reason, count in report.rejected.items():
        click.echo(f"  {count:5d} {reason}")
    for output in report.outputs:
        click.echo(f"  -> {output}")


pairs_per_shard_option = click.option(
    "--pairs-per-shard", type=click.IntRange(min=1), default=4, show_default=True, help="Pairs in one HDF5 file."
)
