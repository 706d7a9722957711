"""The commands of JDRL on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cli import COMMANDS
from jdrl.commands import deblur, evaluate, train
from sdd_toolkit.errors import ConfigError
from sdd_toolkit.frames.writing import write_image

TINY = (
    "[train]\ncrop = 32\nbatch = 1\nreblur_width = 4\n"
    "network_options = {width = 4, encoder_blocks = [1], decoder_blocks = [1]}\n"
)


def test_train_evaluate_deblur_in_a_row(shards: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "sdd.toml", tmp_path / "run"
    config.write_text(TINY)
    write_image(tmp_path / "photo.png", np.zeros((40, 40, 3), np.uint8))
    runner = CliRunner()
    options = ["--out", str(out), "--config", str(config), "--steps", "2", "--device", "cpu", "--json"]
    trained = runner.invoke(train, [str(shards), *options], catch_exceptions=False)
    assert json.loads(trained.stdout)["done"] == 2
    scored = runner.invoke(evaluate, [str(out), str(shards), "--out", str(tmp_path / "scores")])
    assert scored.exit_code == 0
    assert "deblurred" in scored.stdout
    assert (tmp_path / "scores" / "evaluation.html").is_file()
    config.write_text("[evaluate]\nplanted_shifts_px = [1]\nplanted_zooms = []\nplanted_crop = 64\nbootstrap = 100\n")
    options = ["--out", str(tmp_path / "both"), "--config", str(config), "--misalignment", "--json"]
    compared = runner.invoke(evaluate, [str(out), str(out), str(shards), *options])
    assert (tmp_path / "both" / "misalignment.csv").is_file()
    printed = json.loads(compared.stdout)
    assert {row["checkpoint"] for row in printed["standings"]} == {"", "run/step-00000002", "run/step-00000002 #2"}
    files = [str(tmp_path / "photo.png"), str(tmp_path / "missing.png")]
    deblurred = runner.invoke(deblur, [str(out), *files, "--out", str(tmp_path / "images")])
    assert deblurred.exit_code == 2
    assert (tmp_path / "images" / "photo_deblurred.png").is_file()


def test_a_flag_wins_over_the_file_and_a_bad_one_is_named(shards: Path, tmp_path: Path) -> None:
    config = tmp_path / "sdd.toml"
    config.write_text(TINY + "steps = 5\n")
    arguments = [str(shards), "--out", str(tmp_path / "run"), "--config", str(config), "--steps", "0"]
    with pytest.raises(ConfigError, match="steps = 0"):
        CliRunner().invoke(train, arguments, catch_exceptions=False)


def test_a_recipe_is_trained_with_what_the_file_and_the_flags_change(shards: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "sdd.toml", tmp_path / "run"
    config.write_text('[train]\ncrop = 32\nreblur_width = 4\nnetwork_options = {width = 2}\nsteps = 9\nflow = "dis"\n')
    options = ["--recipe", "official", "--config", str(config), "--epochs", "0.1", "--device", "cpu", "--json"]
    trained = CliRunner().invoke(train, [str(shards), "--out", str(out), *options], catch_exceptions=False)
    # A tenth of the twelve patches that are not held out for validation, one a step.
    assert json.loads(trained.stdout)["done"] == 2
    kept = json.loads((out / "config.json").read_text())
    assert (kept["network"], kept["optimiser"], kept["steps"], kept["epochs"]) == ("unet", "adam", 2, None)


def test_a_network_that_does_not_exist_is_answered_with_those_that_do(shards: Path, tmp_path: Path) -> None:
    arguments = [str(shards), "--out", str(tmp_path / "run"), "--network", "nafnett"]
    with pytest.raises(ConfigError, match="unknown network 'nafnett'") as caught:
        CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert "nafnet" in caught.value.hint


def test_an_evaluation_without_a_checkpoint_says_what_is_missing(shards: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(evaluate, [str(shards), "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2
    assert "at least one checkpoint" in refused.output


@pytest.mark.parametrize("command", [train, evaluate, deblur])
def test_every_option_has_help_and_the_first_line_is_that_of_the_table(command: click.Command) -> None:
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    (line,) = [spec.line for spec in COMMANDS if spec.name == command.name]
    assert command.help is not None
    assert command.help.splitlines()[0] == line
