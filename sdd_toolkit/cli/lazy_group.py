"""A click group that imports a command only when it is used, and the handler that turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import logging
import signal
import sys
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sdd_toolkit.cli.terminal_text import PrintableFormatter, escape_unprintable
from sdd_toolkit.errors import SddError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _log_everything(_context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        logging.getLogger().setLevel(logging.INFO)


def verbose_option(*, hidden: bool = False) -> click.Option:
    """`-v`, `--verbose`: also prints what the toolkit and its libraries log for information."""
    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        hidden=hidden,
        callback=_log_everything,
        help="Also print what is only for information.",
    )


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command of the program: its name, its `module:attribute` and the first line of its help."""

    name: str
    target: str
    line: str


class LazyGroup(click.Group):
    """A click group that lists its commands without importing them, so that `--help` and completion stay fast."""

    def __init__(self, *args: Any, specs: Sequence[CommandSpec] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.specs = {spec.name: spec for spec in specs}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the pipeline, not of the alphabet."""
        return [*self.commands, *self.specs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `cmd_name`; its module is imported now."""
        spec = self.specs.get(cmd_name)
        if spec is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = spec.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        # `sdd --verbose build` and `sdd build --verbose` are the same.
        if not any("--verbose" in option.opts for option in command.params):
            command.params.append(verbose_option(hidden=True))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolves a command as click does, with a suggestion for a mistyped name."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Commands: {', '.join(names)}."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one line for each command, without importing it."""
        rows = [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        rows += [(spec.name, spec.line) for spec in self.specs.values()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def run_cli(group: click.Group) -> None:
    """Runs `group` on the arguments of the process; an `SddError` is printed as two lines and sets the exit code."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    try:
        code = group.main(standalone_mode=False)
    except SddError as error:
        end_with_error(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # A second interrupt during shutdown would end the process with another exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Python ends with SIGINT, not 130, if Ctrl-C came while a dataclass was being defined; another one clears that.
        make_dataclass("Defined", ())
        # click hides the KeyboardInterrupt, whose message may say how to resume.
        advice = str(error.__cause__ or error) or "run the same command again to resume"
        click.echo(f"interrupted: {escape_unprintable(advice)}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def end_with_error(error: SddError) -> NoReturn:
    """Prints an error as two lines and ends the process with its exit code."""
    click.echo(f"error: {escape_unprintable(error.what)}", err=True)
    click.echo(f"hint: {escape_unprintable(error.hint)}", err=True)
    sys.exit(error.exit_code)
