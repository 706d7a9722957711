"""Golden outputs of published networks, the weights that they belong to, and a check that all weights are trained."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jdrl.networks import restore
from tests.support.paths import SHARED

GOLDEN = SHARED / "golden"


def deterministic_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights of the golden outputs: noise seeded by each entry's name, scaled by its fan-in."""
    weights = {}
    for key, shape in shapes.items():
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) >= 2 else 1
        centre = 1.0 if key.endswith(("weight", "temperature")) else 0.0
        value = noise / np.sqrt(fan_in) if fan_in > 1 else centre + 0.1 * noise
        weights[key] = torch.from_numpy(value).float()
    return weights


def golden_outputs(name: str) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]:
    """The shapes of a network's weights by name, and its inputs and outputs; skips the test without the files."""
    if not (GOLDEN / f"{name}.npz").is_file():
        pytest.skip(f"golden outputs of {name} are not here")
    keys = json.loads((GOLDEN / f"{name}_keys.json").read_text())
    return {key: tuple(shape) for key, shape in keys.items()}, dict(np.load(GOLDEN / f"{name}.npz"))


def all_parameters_learn(network: nn.Module) -> bool:
    """Whether every parameter has a gradient in the third step: those behind a zero have none in the first."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        losses = [(output - 0.3).square().mean() for output in restore(network, torch.rand(1, 3, 32, 32))]
        torch.stack(losses).sum().backward()
        optimiser.step()
    gradients = [parameter.grad for parameter in network.parameters()]
    return all(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)
