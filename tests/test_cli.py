"""The command line: a fast help without heavy imports, complete, and one form of error messages."""

from __future__ import annotations

import logging
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import BENCH_COMMANDS, CAPTURE_COMMANDS, COMMANDS, cli
from sdd_toolkit.cli.lazy_group import LazyGroup, run_cli
from sdd_toolkit.errors import InputError, IntegrityError
from tests.support.paths import ROOT

HEAVY = ("numpy", "torch", "h5py", "cv2", "rawpy", "pandas", "matplotlib", "pydantic", "rich")
WORDS = [
    [],
    ["capture"],
    *(["capture", spec.name] for spec in CAPTURE_COMMANDS),
    ["bench"],
    *(["bench", spec.name] for spec in BENCH_COMMANDS),
    *([spec.name] for spec in COMMANDS),
]


def test_no_help_imports_anything_heavy() -> None:
    """One process for all commands: a module that is imported stays, so the first command that imports it is named."""
    code = (
        "import sys\nfrom cli import cli\n"
        f"for words in {WORDS!r}:\n"
        "    cli.main([*words, '--help'], standalone_mode=False)\n"
        f"    print(words, sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(re.findall("^Usage:", done.stdout, re.MULTILINE)) == len(WORDS)
    assert done.stderr.splitlines() == [f"{words} []" for words in WORDS]


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Processor time, the least of five: what others do on the machine is not the point."""
    times_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times_s.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times_s) < 0.3


def test_every_command_loads_and_its_line_is_the_real_help() -> None:
    groups = (cli, COMMANDS), (cli.commands["capture"], CAPTURE_COMMANDS), (cli.commands["bench"], BENCH_COMMANDS)
    for group, spec in ((group, spec) for group, specs in groups for spec in specs):
        assert isinstance(group, LazyGroup)
        command = group.get_command(click.Context(group), spec.name)
        assert command is not None, spec
        assert (command.help or "").splitlines()[0] == spec.line


def every_command() -> list[tuple[str, click.Command]]:
    commands = []
    for words in WORDS:
        command: click.Command = cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        commands.append((" ".join(words), command))
    return commands


def test_every_option_of_every_command_is_explained() -> None:
    bare = [
        f"{name} {option.opts}"
        for name, command in every_command()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert bare == []


def test_the_same_option_name_means_the_same_everywhere() -> None:
    shared = {"--config", "--executor", "--overwrite", "--json"}
    meanings: dict[str, set[tuple[str, str | None]]] = {}
    for _, command in every_command():
        for option in command.params:
            for name in shared & set(option.opts):
                assert isinstance(option, click.Option)
                meanings.setdefault(name, set()).add((option.name or "", option.help))
    assert {name: len(uses) for name, uses in meanings.items()} == dict.fromkeys(shared, 1)


def test_a_mistyped_command_gets_a_suggestion() -> None:
    result = CliRunner().invoke(cli, ["allign"])
    assert result.exit_code == 2
    assert "Did you mean 'align'?" in result.output


def test_a_deliberate_error_is_two_lines_its_exit_code_and_no_traceback(tmp_path: Path) -> None:
    words = ["align", str(tmp_path / "missing.jsonl"), "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "cli", *words], cwd=ROOT, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]


def test_an_unknown_exception_keeps_its_traceback() -> None:
    @click.group(invoke_without_command=True)
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sdd"])
        with pytest.raises(ZeroDivisionError):
            run_cli(broken)


def test_an_error_raised_in_a_command_ends_with_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    @click.group(invoke_without_command=True)
    def refusing() -> None:
        raise IntegrityError("shard a.h5: flipped byte", hint="copy it again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sdd"])
        with pytest.raises(SystemExit) as stop:
            run_cli(refusing)
    assert stop.value.code == 3
    assert capsys.readouterr().err == "error: shard a.h5: flipped byte\nhint: copy it again\n"


@pytest.mark.parametrize("words", [("--verbose", "verify"), ("verify", "-v"), ("verify", "--verbose")])
def test_verbose_shows_what_is_for_information_before_and_behind_the_command(
    tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "level", logging.WARNING)
    with pytest.raises(InputError):
        cli.main([*words, str(tmp_path)], standalone_mode=False)
    assert logger.level == logging.INFO
