"""Containers of public training code: which weights are found, what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from jdrl.networks.published_layout import describe_content, find_weights

EXPECTED = ("body.weight", "body.bias", "a.b")
WEIGHTS: dict[str, Tensor] = {name: torch.ones(2) for name in EXPECTED}
OTHER: dict[str, Tensor] = {name: torch.zeros(2) for name in EXPECTED}


def prefixed(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (WEIGHTS, "the file itself"),
        ({"params": WEIGHTS, "iter": 3}, "params"),
        ({"model": WEIGHTS, "epoch": 7}, "model"),
        ({"model_state_dict": WEIGHTS, "loss": 0.1}, "model_state_dict"),
        ({"G_state_dict": WEIGHTS}, "G_state_dict"),
        ({"generator": WEIGHTS, "discriminator": {"c.weight": torch.ones(1)}}, "generator"),
        ({"net_g": {"params": WEIGHTS}}, "net_g/params"),
        ({"epoch": 3, "state_dict": prefixed("module."), "optimizer": {"state": {0: {}}}}, "state_dict: module.*"),
        ({"state_dict": prefixed("net."), "hyper_parameters": {"lr": 1e-4}}, "state_dict: net.*"),
        ({"params": prefixed("_orig_mod.")}, "params"),
        ({"params": prefixed("module._orig_mod.")}, "params: module.*"),
        ({"params": {name.replace("body.", "body._orig_mod."): value for name, value in WEIGHTS.items()}}, "params"),
    ],
)
def test_the_weights_are_found_in_each_container_in_use(content: dict[str, Any], place: str) -> None:
    found = find_weights(content, EXPECTED)
    assert set(found.tensors) == set(EXPECTED)
    assert all(torch.equal(found.tensors[name], WEIGHTS[name]) for name in EXPECTED)  # type: ignore[arg-type]
    assert (found.place, found.averaged, found.others, found.left_out) == (place, False, (), 0)


@pytest.mark.parametrize(
    ("content", "place", "other"),
    [
        ({"params": OTHER, "params_ema": WEIGHTS}, "params_ema", "params"),
        ({"state_dict": OTHER, "state_dict_ema": prefixed("module.")}, "state_dict_ema: module.*", "state_dict"),
        (
            {"state_dict": {**prefixed("net.", OTHER), **prefixed("net_ema.")}},
            "state_dict: net_ema.*",
            "state_dict: net.*",
        ),
        ({"model": OTHER, "ema": {"n_averaged": torch.tensor(9), **prefixed("module.")}}, "ema: module.*", "model"),
    ],
)
def test_averaged_weights_are_preferred_and_said(content: dict[str, Any], place: str, other: str) -> None:
    found = find_weights(content, EXPECTED)
    assert all(torch.equal(found.tensors[name], WEIGHTS[name]) for name in EXPECTED)  # type: ignore[arg-type]
    assert (found.place, found.averaged, found.others) == (place, True, (other,))


def test_tensors_of_losses_beside_the_network_are_counted() -> None:
    content = {"state_dict": {**prefixed("net."), "loss.vgg.weight": torch.ones(1)}}
    assert find_weights(content, EXPECTED).left_out == 1


def test_without_a_complete_set_the_nearest_container_is_returned_for_the_message() -> None:
    content = {"epoch": 1, "other": {"x": torch.ones(1)}, "params": {"module.a.b": torch.ones(2)}}
    found = find_weights(content, EXPECTED)
    assert (set(found.tensors), found.place) == ({"a.b"}, "params")
    text = describe_content(content)
    assert "params: 1 tensors (module.a.b" in text
    assert "values epoch" in text


def test_a_dictionary_that_holds_itself_ends() -> None:
    content: dict[str, object] = {"epoch": 1}
    content.update({str(number): content for number in range(1000)})
    assert find_weights(content, EXPECTED).place == ""
