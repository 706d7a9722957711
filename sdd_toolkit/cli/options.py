"""Command-line options that mean the same in every command, and the output of a command's result."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from sdd_toolkit.cli.progress_bar import terminal_progress
from sdd_toolkit.execution.spec import default_name
from sdd_toolkit.storage.locations import parse_location

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdd_toolkit.config import Section, SectionT
    from sdd_toolkit.execution.progress import Track
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
change_config_option = click.option(
    "--change-config", is_flag=True, help="Go on although the data set was begun with another configuration."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
pairs_per_shard_option = click.option(
    "--pairs-per-shard", type=click.IntRange(min=1), default=4, show_default=True, help="Pairs in one HDF5 file."
)

_RUN_OPTIONS = {
    "config": config_option,
    "executor": executor_option,
    "overwrite": overwrite_option,
    "change_config": change_config_option,
    "as_json": json_option,
}


class StageOptions(TypedDict):
    """Keyword arguments that every stage function takes."""

    executor: str
    overwrite: bool
    track: Track


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Values of the options that every stage command has; see `run_options`.

    Attributes:
        config: `--config`, or None.
        executor: `--executor`; by default one local worker a core.
        overwrite: `--overwrite`.
        change_config: `--change-config`.
        as_json: `--json`.
        track: Progress bar of the terminal.
    """

    config: Path | None = None
    executor: str = field(default_factory=default_name)
    overwrite: bool = False
    change_config: bool = False
    as_json: bool = False
    track: Track = terminal_progress

    @property
    def stage(self) -> StageOptions:
        """The keyword arguments of a stage function."""
        return {"executor": self.executor, "overwrite": self.overwrite, "track": self.track}

    def section(self, model: type[SectionT], name: str, /, **flags: object) -> SectionT:
        """Section `name` of `--config`, with `flags` that are not None on top; see `config.load_section`."""
        from sdd_toolkit.config import load_section

        return load_section(model, name, self.config, **flags)

    def set_section(self, folder: Path, model: type[SectionT], name: str, /, **flags: object) -> SectionT:
        """Section `name` as by `section`; refused where the data set in `folder` was begun with other values.

        Raises:
            ConfigError: It differs from the recorded one, and `--change-config` was not given.
        """
        from sdd_toolkit.recorded_config import check_section

        section = self.section(model, name, **flags)
        if not self.change_config:
            check_section(folder, name, section, [key for key, value in flags.items() if value is not None])
        return section

    def record(self, before: Path, folder: Path, /, **sections: Section) -> None:
        """Records the configuration for the data set in `folder`: that of the folder `before`, and new in `--config`.

        With `--change-config`, `sections` take the place of recorded ones.
        """
        from sdd_toolkit.config import read_toml
        from sdd_toolkit.recorded_config import read_recorded, record_sections

        known = {**read_recorded(before), **read_recorded(folder)}
        changed = {name: section.model_dump(mode="json") for name, section in sections.items()}
        record_sections(
            folder,
            {**read_toml(self.config), **known, **(changed if self.change_config else {})},
            overwrite=self.overwrite,
        )

    def record_change(self, folder: Path, /, **sections: Section) -> None:
        """Records `sections` for the data set in `folder`, if it has recorded any and `--change-config` was given."""
        from sdd_toolkit.recorded_config import read_recorded

        if self.change_config and read_recorded(folder):
            self.record(folder, folder, **sections)

    def echo(self, report: Report) -> None:
        """Prints `report` as JSON or as text; see `--json`."""
        echo_report(report, self.as_json)


def run_options(*names: str) -> Callable[[F], F]:
    """Adds the options `names` to a command, which receives them together as `run`, a `RunOptions`.

    Args:
        *names: Fields of `RunOptions`, in the order of the help page.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def bundle(*args: Any, **parameters: Any) -> Any:
            values = {name: parameters.pop(name) for name in names}
            given = {name: value for name, value in values.items() if value is not None}
            return command(*args, run=RunOptions(**given), **parameters)

        decorated: Any = bundle
        for name in reversed(names):
            decorated = _RUN_OPTIONS[name](decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


stage_options = run_options("config", "executor", "overwrite", "as_json")
"""`--config --executor --overwrite --json`: the options of every stage that works through a manifest."""


set_options = run_options("config", "executor", "overwrite", "change_config", "as_json")
"""The options of a stage whose configuration is recorded for its data set."""


def lock_folders(*folders: Location) -> None:
    """Locks `folders` against other runs until the current command ends; see `sdd_toolkit.storage.folder_lock`.

    A folder in an object store cannot be locked.
    """
    from sdd_toolkit.storage.folder_lock import folder_lock

    if (context := click.get_current_context(silent=True)) is not None:
        for folder in folders:
            if isinstance(folder, Path):
                context.with_resource(folder_lock(folder))


def out_option(help_text: str) -> Callable[[F], F]:
    """The required option `--out`; `help_text` says what is written there."""
    return click.option("--out", type=OUT_PATH, required=True, help=help_text)


def shards_option(function: F) -> F:
    """The option `--out` of a command that writes shards."""
    help_text = "Folder of the shards, or a URL: s3://, gs:// …."
    return click.option("--out", type=FOLDER_OR_URL, required=True, help=help_text)(function)


def echo_report(report: Report, as_json: bool) -> None:
    """Prints the result of a stage: JSON, or a few lines of text."""
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
    if report.side_files:
        click.echo(f"  {report.side_files:5d} other files of the toolkit")
    for output in report.outputs:
        click.echo(f"  -> {output}")
