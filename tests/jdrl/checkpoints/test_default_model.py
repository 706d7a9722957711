"""The default network: it ships, it works without network access, and its name works wherever a checkpoint's does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli import cli
from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.arguments import DEFAULT, MODEL_CARD, checkpoint_path, default_checkpoint, split_checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint
from jdrl.checkpoints.default_model import default_header, describe_default
from jdrl.training.recipe import load_train_config
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image
from tests.support.paths import ROOT

# Runs a command with every way to another machine closed: a socket cannot be made, a name not be looked up.
OFFLINE = """
import socket
def refuse(*_, **__):
    raise AssertionError("network access")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from cli import main
main()
"""


def photograph(path: Path, size: tuple[int, int] = (40, 56)) -> Path:
    write_image(path, np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8))
    return path


def test_a_photograph_is_deblurred_offline_without_a_checkpoint(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    command = [sys.executable, "-c", OFFLINE, "deblur", "a.jpg", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_image(tmp_path / "out" / "a_deblurred.jpg").shape == (40, 56, 3)


def test_the_default_network_is_small_and_has_a_card() -> None:
    found = describe_default()
    assert found.name == DEFAULT
    assert found.weights_mb is not None
    assert found.weights_mb < 8
    assert 0.5e6 < found.parameters < 2.5e6
    assert found.gmac_per_megapixel is not None
    assert MODEL_CARD.read_text(encoding="utf-8").startswith("# Model card")


def test_a_checkpoint_in_one_file_is_that_of_the_folder(tmp_path: Path) -> None:
    one, again = tmp_path / "one.safetensors", tmp_path / "again.safetensors"
    for target in (one, again):
        checkpoint.write_single_file(ROOT / "tests" / "golden_checkpoint" / "step-00000004", target)
    assert one.read_bytes() == again.read_bytes()
    folder = ROOT / "tests" / "golden_checkpoint" / "step-00000004"
    assert checkpoint.locate(one) == one
    assert checkpoint.read_header(one) == checkpoint.read_header(folder)
    weights = checkpoint.load_network(folder)[0].state_dict()
    for name, value in of_checkpoint(one).network.state_dict().items():
        assert value.equal(weights[name])
    checkpoint.write_single_file(one, again)
    assert one.read_bytes() == again.read_bytes()


def test_weights_without_a_header_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(
        (ROOT / "tests" / "golden_checkpoint" / "step-00000004" / checkpoint.WEIGHTS).read_bytes()
    )
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        of_checkpoint(tmp_path / "w.safetensors")
    assert "--weights" in caught.value.hint
    with pytest.raises(CheckpointError, match="cannot read"):
        of_checkpoint(tmp_path / "damaged.safetensors")


def test_a_photograph_is_never_taken_for_a_checkpoint_nor_the_other_way_round(tmp_path: Path) -> None:
    photo, run, weights = tmp_path / "a.png", tmp_path / "model.png", tmp_path / "w.safetensors"
    photograph(photo)
    run.mkdir()
    weights.touch()
    unknown = tmp_path / "notes.txt"
    unknown.touch()
    shipped = default_checkpoint()
    for paths, expected in (
        ([photo], (shipped, (photo,))),
        ([photo, photo], (shipped, (photo, photo))),
        ([tmp_path / "missing.NEF"], (shipped, (tmp_path / "missing.NEF",))),
        ([unknown, photo], (shipped, (unknown, photo))),
        ([checkpoint_path("default"), photo], (shipped, (photo,))),
        ([run, photo], (run, (photo,))),
        ([weights, photo], (weights, (photo,))),
        ([tmp_path / "misspelt", photo], (tmp_path / "misspelt", (photo,))),
    ):
        assert split_checkpoint(paths) == expected
    for paths, words in (
        ([checkpoint_path("default")], "no photograph is given"),
        ([run], "no photograph is given"),
        ([photo, run], "is a folder"),
        ([photo, weights], "is a file of weights"),
        ([photo, checkpoint_path("default")], "default stands among the photographs"),
    ):
        with pytest.raises(InputError, match=words):
            split_checkpoint(paths)


def test_a_folder_named_default_is_given_with_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("default").mkdir()
    photograph(Path("a.png"))
    arguments = ["a.png", "--out", "out", "--device", "cpu"]
    refused = CliRunner().invoke(cli, ["deblur", "./default", *arguments])
    assert refused.exit_code != 0
    assert "default is no checkpoint" in str(refused.exception or refused.output)
    done = CliRunner().invoke(cli, ["deblur", "default", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_training_starts_from_the_default_network_with_its_options_unless_given(tmp_path: Path) -> None:
    header = default_header()
    taken = load_train_config(weights="default")
    assert (taken.network, taken.network_options) == (header.network, header.network_options)
    assert taken.weights == "default"
    assert load_train_config(weights="./default").weights == Path("default")
    config = tmp_path / "sdd.toml"
    config.write_text('[train]\nweights = "default"\nnetwork_options = {width = 8}\n')
    given = load_train_config(path=config)
    assert (given.network, given.network_options) == (header.network, {"width": 8})
    other = load_train_config(weights="default", network="restormer")
    assert (other.network, other.network_options) == ("restormer", {})


def test_a_run_from_the_default_network_is_scored_beside_it(shards: Path, tmp_path: Path) -> None:
    config = tmp_path / "sdd.toml"
    config.write_text("[train]\ncrop = 32\nbatch = 1\nreblur_width = 4\nlearning_rate = 1e-6\nwarm_up_fraction = 1\n")
    run = tmp_path / "run"
    options = ["--out", str(run), "--config", str(config), "--steps", "1", "--device", "cpu", "--weights", "default"]
    trained = CliRunner().invoke(cli, ["train", str(shards), *options], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    assert json.loads((run / "config.json").read_text())["weights"] == "default"
    shipped = checkpoint.read_tensors(default_checkpoint())
    after = checkpoint.read_tensors(checkpoint.locate(run) / checkpoint.WEIGHTS)
    assert max(float((after[name] - value).abs().max()) for name, value in shipped.items()) < 1e-3
    arguments = ["evaluate", "default", str(run), str(shards), "--out", str(tmp_path / "scores"), "--device", "cpu"]
    scored = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert scored.exit_code == 0, scored.output
    labels = {row["checkpoint"] for row in json.loads(scored.stdout)["standings"]}
    assert labels == {"", "default", "run/step-00000001"}
