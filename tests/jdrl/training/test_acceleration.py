"""Gradient checkpointing and compilation change neither outputs nor gradients."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from jdrl.config import TrainConfig
from jdrl.networks import build_network, restore
from jdrl.training.acceleration import compile_network, find_blocks, recompute_blocks
from jdrl.training.train import train
from sdd_toolkit.errors import ConfigError

SMALL: dict[str, dict[str, object]] = {
    "nafnet": {"width": 4, "encoder_blocks": [1, 2], "middle_blocks": 1, "decoder_blocks": [1, 1]},
    "unet": {"width": 2},
}


class Own(nn.Module):
    """A custom network: a layer, then a list of blocks, one of them random."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        body = (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Dropout(0.5), nn.GELU()) for _ in range(3))
        self.body = nn.ModuleList(body)
        self.tail = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, blurred: Tensor) -> list[Tensor]:
        features = self.head(blurred)
        for block in self.body:
            features = features + block(features)
        return [self.tail(features), blurred]


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = Own() if name == "own" else build_network(name, **SMALL[name])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.train()


def kept_and_gradients(network: nn.Module, blurred: Tensor) -> tuple[int, list[Tensor | None]]:
    """Bytes saved between forward and backward pass, with the blocks' inputs, and the gradients."""
    kept: list[int] = []
    for block in find_blocks(network):
        block.register_forward_pre_hook(lambda block, images: kept.append(images[0].nbytes))

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = restore(network, blurred)[0].square().mean()
    before = sum(kept)
    loss.backward()
    return before, [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("name", ["nafnet", "unet", "own"])
def test_a_network_that_recomputes_has_the_same_gradients_and_keeps_less(name: str) -> None:
    plain = network_of(name)
    thrifty = copy.deepcopy(plain)
    recompute_blocks(thrifty)
    blurred = torch.rand(1, 3, 32, 32)
    kept, expected = kept_and_gradients(plain, blurred)
    kept_less, gradients = kept_and_gradients(thrifty, blurred)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)
    assert kept_less < 0.6 * kept
    assert list(thrifty.state_dict()) == list(plain.state_dict())


def test_blocks_are_found_below_chains_and_lists_but_not_inside_each_other() -> None:
    naf, unet = network_of("nafnet"), network_of("unet")
    assert len(list(find_blocks(naf))) == 1 + 2 + 1 + 1 + 1 + 2
    assert len(list(find_blocks(unet))) == 5 + 4 + 4 + 1
    assert list(find_blocks(nn.Conv2d(3, 3, 1))) == []


def test_a_missing_compiler_is_an_error_that_suggests_one() -> None:
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(ConfigError, match="cpu") as caught:
        compile_network(nn.Conv2d(3, 3, 1), torch.device("cpu"))
    assert "no-such-compiler" in caught.value.what
    assert "g++" in caught.value.hint


def test_a_run_through_the_compiler_learns_the_same_under_the_same_names(
    shards: Path, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tiny.model_copy(update={"steps": 2})
    train(shards, tmp_path / "plain", short)
    torch.compiler.reset()
    # Building compiled code takes half a minute; the traced code is run as it is.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    train(shards, tmp_path / "compiled", short.model_copy(update={"compile": True}))
    ends = [tmp_path / folder / "step-00000002" / "training.safetensors" for folder in ("plain", "compiled")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
