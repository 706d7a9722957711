"""Networks by name: built-in, of installed packages, and custom."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cli import cli
from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint, of_weights
from jdrl.config import EvaluateConfig, TrainConfig
from jdrl.evaluation import stage as evaluate
from jdrl.networks import BUILT_IN, build_network, catalogue, listing, network_names
from jdrl.networks.listing import describe_network
from jdrl.training import train
from sdd_toolkit.errors import CheckpointError, ConfigError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import Encoding

described = cache(describe_network)
SMALL = {"width": 4, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}
OWN = '''
from torch import nn

class Brighter(nn.Module):
    """Two outputs, the first final; sides in multiples of 8."""

    size_multiple = 8

    def __init__(self, times: float = 1.5, *, depth: int = 1) -> None:
        super().__init__()
        self.scale = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.dirac_(self.scale.weight)
        self.scale.weight.data *= times
        self.depth = depth

    def forward(self, blurred):
        assert blurred.shape[-1] % 8 == 0 and blurred.shape[-2] % 8 == 0
        final = self.scale(blurred)
        return [final, blurred]

def no_module(): return 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_networks:Brighter"
    sys.modules.pop("my_networks", None)


def test_every_network_of_the_toolkit_can_be_built_and_described() -> None:
    for name in BUILT_IN:
        found = described(name)
        assert found.name == name
        assert found.parameters > 1e5
        assert found.gmac_per_megapixel is not None
        assert found.gmac_per_megapixel > 10
        assert found.size_multiple >= 1
        assert found.paper
        assert found.licence


def test_costs_are_those_counted_by_hand() -> None:
    unet = described("unet")
    assert unet.parameters == 31_033_411
    assert unet.gmac_per_megapixel == pytest.approx(834.944, rel=1e-6)
    assert described("nafnet64").parameters == pytest.approx(4 * described("nafnet").parameters, rel=0.1)


def test_a_users_own_network_is_built_by_its_module_and_name(own: str) -> None:
    image = torch.full((1, 3, 8, 8), 0.4)
    outputs = build_network(own, times=2.0)(image)
    torch.testing.assert_close(outputs[0], 2 * image)
    with pytest.raises(ConfigError, match="tims"):
        build_network(own, tims=2.0)
    with pytest.raises(ConfigError, match="no torch module"):
        build_network("my_networks:no_module")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("restormr", "did you mean 'restormer'"),
        ("no_such_package.networks:Net", "cannot load"),
        ("jdrl.networks.unet:Nothing", "cannot load"),
        ("jdrl.networks.unet:DROPOUT", "no class or function"),
        (":", "cannot load"),
        ("torch:", "cannot load"),
    ],
)
def test_a_network_that_cannot_be_built_is_named_with_the_reason(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(name)
    assert words in f"{caught.value.what} {caught.value.hint}"


def test_an_installed_package_adds_networks_but_replaces_none(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("brighter", own, catalogue.GROUP), EntryPoint("unet", own, catalogue.GROUP)]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points if group == catalogue.GROUP else [])
    assert network_names() == (*BUILT_IN, "brighter")
    assert type(build_network("brighter")).__name__ == "Brighter"
    assert type(build_network("unet")).__name__ == "UNet"
    found = describe_network("brighter")
    assert (found.parameters, found.size_multiple, found.paper) == (9, 8, "")


def saved(run: Path, network: str, built: nn.Module, **options: object) -> Path:
    header = checkpoint.CheckpointHeader(1, network, dict(options), Encoding.SRGB8, "0" * 64, {"crop": 32})
    return checkpoint.save_checkpoint(run, header, built.state_dict(), {"x": torch.ones(1)})


def test_a_checkpoint_runs_custom_code_only_if_its_network_is_named(own: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", own, build_network(own), times=2.0)
    sys.modules.pop("my_networks")
    with pytest.raises(CheckpointError, match="custom network") as caught:
        of_checkpoint(folder)
    assert f"--network {own}" in caught.value.hint
    assert "my_networks" not in sys.modules
    deblurrer = of_checkpoint(folder, own)
    assert type(deblurrer.network).__name__ == "Brighter"
    assert deblurrer.crop_px == 32


def test_a_checkpoint_of_another_network_than_named_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", "nafnet", build_network("nafnet", **SMALL), **SMALL)
    with pytest.raises(CheckpointError, match="is of the network 'nafnet', not 'unet'"):
        of_checkpoint(folder, "unet")
    assert of_checkpoint(folder, "nafnet").crop_px == 32


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_published_weights_deblur_a_photograph(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import save_file

    weights = build_network("nafnet").state_dict()  # a new NAFNet is the identity
    path = tmp_path / f"published.{kind}"
    if kind == "pth":
        torch.save({"params": {f"module.{name}": value for name, value in weights.items()}, "epoch": 7}, path)
    else:
        save_file(weights, path)
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    write_image(tmp_path / "a.png", picture)
    arguments = ["deblur", str(tmp_path / "a.png"), "--weights", str(path), "--network", "nafnet", "--device", "cpu"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a_deblurred.png"), picture)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_weights_that_would_run_code_or_are_none_are_refused(tmp_path: Path) -> None:
    torch.save({"params": {}, "extra": Bomb(tmp_path / "mark")}, tmp_path / "bomb.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    torch.save({"params": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:200])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("bomb.pth", "tensor.pth", "other.pth", "text.pth", "cut.pth", "empty.safetensors", "missing.pth"):
        with pytest.raises(CheckpointError):
            of_weights(tmp_path / name, "nafnet")
    assert not (tmp_path / "mark").exists()


def test_deblur_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "w.pth"):
        Path(name).touch()
    result = CliRunner().invoke(cli, ["deblur", "a.png", "--weights", "w.pth", "--out", "out"])
    assert result.exit_code == 2
    assert "--network" in result.output


def test_the_list_of_networks_as_table_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(name: str, options: Mapping[str, object] | None = None) -> listing.NetworkDescription:
        return described(name) if options is None else describe_network(name, options)

    monkeypatch.setattr(listing, "describe_network", describe)
    result = CliRunner().invoke(cli, ["networks", "--json"])
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in json.loads(result.stdout)] == ["default", *network_names()]
    table = CliRunner().invoke(cli, ["networks"], env={"COLUMNS": "160"})
    assert "31.03 M" in table.stdout
    assert "arXiv 2111.09881" in table.stdout


def test_a_users_own_network_is_trained_evaluated_and_used(
    own: str, shards: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    """Two outputs and sides of 8 px; nothing is written for it but the module."""
    config = tiny.model_copy(update={"network": own, "network_options": {"times": 1.0}})
    train.train(shards, tmp_path / "run", config)
    with pytest.raises(CheckpointError, match="custom network"):
        evaluate.evaluate(tmp_path / "run", shards, tmp_path / "no", EvaluateConfig(device="cpu"))
    found = evaluate.evaluate(
        tmp_path / "run",
        shards,
        tmp_path / "scores",
        EvaluateConfig(device="cpu"),
        evaluate.EvaluationOptions(network=own),
    )
    assert found.report.done == 1
    write_image(tmp_path / "a.png", np.full((13, 21, 3), 100, np.uint8))
    arguments = ["deblur", str(tmp_path / "run"), str(tmp_path / "a.png"), "--device", "cpu", "--out", str(tmp_path)]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code != 0
    used = CliRunner().invoke(cli, [*arguments, "--network", own])
    assert used.exit_code == 0, used.output
    assert read_image(tmp_path / "a_deblurred.png").shape == (13, 21, 3)
