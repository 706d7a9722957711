from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from sdd_toolkit.cli.options import RunOptions, run_options, stage_options
from sdd_toolkit.cli.progress_bar import terminal_progress
from sdd_toolkit.execution.spec import default_name
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.records import Report

REPORT = Report("filter", 3, 2, 1, {"clipped": 1}, 0.25, ("out/filtered.jsonl",))


@click.command()
@click.argument("manifest")
@stage_options
def measure(manifest: str, run: RunOptions) -> None:
    click.echo(f"{manifest} {run.config} {run.executor} {run.overwrite} {run.as_json}")


@click.command()
@run_options("executor", "as_json")
def check(run: RunOptions) -> None:
    run.echo(REPORT)


def output_of(command: click.Command, *words: str) -> str:
    return CliRunner().invoke(command, words, catch_exceptions=False).stdout


def test_a_command_gets_the_shared_options_as_one_value() -> None:
    assert output_of(measure, "m.jsonl") == f"m.jsonl None {default_name()} False False\n"
    words = ["m.jsonl", "--config", "sdd.toml", "--executor", "serial", "--overwrite", "--json"]
    assert output_of(measure, *words) == "m.jsonl sdd.toml serial True True\n"


def test_the_options_stand_in_the_help_in_the_order_they_are_named() -> None:
    assert [option.opts for option in measure.params[1:]] == [["--config"], ["--executor"], ["--overwrite"], ["--json"]]
    assert [option.opts for option in check.params] == [["--executor"], ["--json"]]


def test_a_report_is_printed_as_lines_or_as_json() -> None:
    lines = ["filter: 2 done, 1 unchanged, 1 rejected of 3 in 0.2 s", "      1 clipped", "  -> out/filtered.jsonl"]
    assert output_of(check).splitlines() == lines
    assert output_of(check, "--json").startswith('{"stage": "filter", "total": 3, "done": 2,')


def test_a_section_comes_from_the_configuration_file_and_a_given_flag_wins(tmp_path: Path) -> None:
    path = tmp_path / "sdd.toml"
    path.write_text("[filter]\nmax_residual_px = 0.5\n")
    run = RunOptions(config=path)
    assert run.section(FilterConfig, "filter").max_residual_px == 0.5
    assert run.section(FilterConfig, "filter", max_residual_px=None).max_residual_px == 0.5
    assert run.section(FilterConfig, "filter", max_residual_px=2.0).max_residual_px == 2.0


def test_a_stage_gets_executor_overwrite_and_progress() -> None:
    run = RunOptions(executor="serial", overwrite=True)
    assert run.stage == {"executor": "serial", "overwrite": True, "track": terminal_progress}
