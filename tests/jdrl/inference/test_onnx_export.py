"""ONNX files give the outputs of their networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from jdrl import commands
from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.deblurrer import Deblurrer
from jdrl.config import Fusion
from jdrl.inference.onnx_export import OnnxExport, export_onnx
from jdrl.networks import build_network, localise
from jdrl.networks.guidance import Guide, add_guide, unwrap_guide
from sdd_toolkit.errors import InputError, MissingExtraError
from sdd_toolkit.imaging.encoding import Encoding

NAFNET = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def lively(name: str, **options: object) -> nn.Module:
    """A network without zero weights."""
    torch.manual_seed(0)
    network = build_network(name, **options)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


@pytest.fixture(scope="module")
def exporter() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def exported_by_command(exporter: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, OnnxExport]:
    """A NAFNet, and its file written by the command from a checkpoint of crops of 64 px."""
    folder = tmp_path_factory.mktemp("onnx")
    network = lively("nafnet", **NAFNET)
    header = checkpoint.CheckpointHeader(1, "nafnet", dict(NAFNET), Encoding.LINEAR16, "0" * 64, {"crop": 64})
    run = checkpoint.save_checkpoint(folder / "run", header, network.state_dict(), {"x": torch.ones(1)})
    target = folder / "out" / "model.onnx"
    result = CliRunner().invoke(commands.export_onnx, [str(run), "--out", str(target), "--json"])
    assert result.exit_code == 0, result.output
    return network, OnnxExport(**json.loads(result.stdout))


class TwoStages(nn.Module):
    """Two outputs, the first final, for sides of multiples of 2."""

    size_multiple = 2

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 12, 2, stride=2), nn.PixelShuffle(2)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        return [blurred + self.up(self.down(blurred)), blurred]


class TwoLevels(nn.Module):
    """A network with guided features at full and at half size."""

    size_multiple = 2
    guided_levels: ClassVar = {"fine": 4, "coarse": 8}

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 2, stride=2)
        self.up = nn.Sequential(nn.Conv2d(8, 12, 1), nn.PixelShuffle(2))

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred + self.up(self.coarse(self.fine(blurred)))


def assert_is_the_network(network: nn.Module, exported: OnnxExport, metadata: dict[str, str]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 54, 88)
    (output,) = session.run(["deblurred"], {"blurred": image.numpy()})
    with torch.no_grad():
        outputs = network(image)
    expected = (outputs if isinstance(outputs, Tensor) else outputs[0]).clamp(0, 1)
    assert (expected - image).abs().max() > 5 / 255
    assert (torch.from_numpy(output) - expected).abs().max() < 0.1 / 255
    assert exported.largest_difference is not None
    assert exported.largest_difference < 0.1 / 255
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert [path.name for path in Path(exported.path).parent.iterdir()] == ["model.onnx"]


def test_the_file_of_the_command_is_the_network_at_any_size(exported_by_command: tuple[nn.Module, OnnxExport]) -> None:
    network, exported = exported_by_command
    assert exported.size_multiple == 2
    metadata = {"sdd.size_multiple": "2", "sdd.encoding": "linear16", "sdd.window_px": "64"}
    assert_is_the_network(network, exported, metadata)


@pytest.mark.usefixtures("exporter")
def test_the_file_of_a_custom_network_has_its_final_output(tmp_path: Path) -> None:
    network = TwoStages().eval()
    exported = export_onnx(Deblurrer(localise(network, 64), Encoding.LINEAR16, 64), tmp_path / "model.onnx")
    assert_is_the_network(network, exported, {"sdd.size_multiple": "2", "sdd.encoding": "linear16"})


@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("fusion", ["modulation", "concat"])
def test_a_guided_network_is_exported_with_its_estimator(tmp_path: Path, fusion: Fusion) -> None:
    import onnxruntime

    network = add_guide(TwoLevels(), Guide(3, 4, fusion)).eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    exported = export_onnx(Deblurrer(network, Encoding.SRGB8, None), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 54, 88)
    (answer,) = session.run(["deblurred"], {"blurred": image.numpy()})
    with torch.no_grad():
        expected, alone = network(image)[0].clamp(0, 1), unwrap_guide(network)(image)
    assert (expected - alone.clamp(0, 1)).abs().max() > 1 / 255
    assert (torch.from_numpy(answer) - expected).abs().max() < 0.1 / 255


class Deciding(nn.Module):
    """A network whose control flow depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred * self.weight if float(blurred.mean()) > 0.5 else blurred


@pytest.mark.usefixtures("exporter")
def test_a_network_that_cannot_be_exported_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be exported to ONNX"):
        export_onnx(Deblurrer(Deciding(), Encoding.SRGB8, None), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_exporter_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jdrl.inference import onnx_export as module

    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError) as caught:
        export_onnx(Deblurrer(Deciding(), Encoding.SRGB8, None), tmp_path / "model.onnx")
    assert 'sdd-toolkit[onnx]"' in caught.value.hint


@pytest.mark.parametrize("arguments", [[], ["run", "--weights", "x.pth"]])
def test_either_a_checkpoint_or_weights_are_wanted(arguments: list[str]) -> None:
    result = CliRunner().invoke(commands.export_onnx, [*arguments, "--out", "model.onnx"])
    assert result.exit_code == 2
    assert "either a checkpoint or --weights" in result.output
