"""Builds networks by name, loads published weights, and runs networks on images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from pydantic import create_model
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.networks.catalogue import BUILT_IN, find_factory
from jdrl.networks.published_layout import find_weights
from sdd_toolkit.config import Section, validate
from sdd_toolkit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

REACH_PX = 48
"""Half the receptive field that is assumed for networks without an attribute `reach_px`, pixels."""


def build_network(name: str, **options: object) -> nn.Module:
    """Builds a new network.

    Args:
        name: One of `jdrl.networks.network_names()`, or `package.module:factory` for a class or function of the
            user's own. It maps `B -> D` or `B -> [D_0, D_1, …]`, final output first. Its optional attribute
            `size_multiple` is the number that the sides of B must be multiples of; for `guided_levels` see
            `GuidedNetwork`.
        **options: The network's own keyword arguments, e.g. `width=32, encoder_blocks=[1, 1, 1, 28]`.

    Raises:
        ConfigError: There is no such network, or it has no such options.
    """
    factory = find_factory(name)
    published = BUILT_IN[name].options if name in BUILT_IN else {}
    checked = validate(options_model(name), options, where=f"network_options of {name!r}")
    try:
        network = factory(**{**published, **{option: getattr(checked, option) for option in options}})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"network {name!r}: {error}", hint="check the network's options") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"network {name!r} is a {type(network).__name__}, no torch module",
            hint="name a class or function that returns one",
        )
    return network


def options_model(name: str) -> type[Section]:
    """The options of a network as a configuration section, from its factory's signature."""
    fields: dict[str, Any] = {
        option.name: (
            Any if option.annotation is Parameter.empty or isinstance(option.annotation, str) else option.annotation,
            ... if option.default is Parameter.empty else option.default,
        )
        for option in _parameters(name)
        if option.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    return create_model(f"{name}_options", __base__=Section, **fields)


def _parameters(name: str) -> list[Parameter]:
    factory = find_factory(name)
    try:
        return list(signature(factory, eval_str=True).parameters.values())
    except NameError:
        # Annotations of names that exist for a type checker only cannot be evaluated.
        return list(signature(factory).parameters.values())


def load_published(network: nn.Module, state_dict: Mapping[str, object]) -> None:
    """Loads weights in a published layout: containers are unwrapped, prefixes stripped (`published_layout`).

    Args:
        network: Receives the weights, in place.
        state_dict: The result of `torch.load(file, weights_only=True)` or of safetensors.

    Raises:
        CheckpointError: Names are missing or extra, or shapes differ. The network is then unchanged.
    """
    network.load_state_dict(match_weights(network, state_dict))


def match_weights(network: nn.Module, state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Maps the tensors of a published layout to the network's names; the network may be on the meta device.

    Raises:
        CheckpointError: Names are missing or extra, or shapes differ.
    """
    return check_weights(network, find_weights(state_dict, network.state_dict()).tensors)


def check_weights(network: nn.Module, weights: Mapping[str, object]) -> dict[str, Tensor]:
    """Checks that weights have the network's names and shapes; the network may be on the meta device.

    Raises:
        CheckpointError: Names are missing or extra, or shapes differ.
    """
    expected = network.state_dict()
    class_name = type(network).__name__
    missing, extra = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or extra:
        parts = [
            f"{label} {_list_names(names)}" for label, names in (("lacks", missing), ("has extra", extra)) if names
        ]
        raise CheckpointError(
            f"the checkpoint does not fit {class_name}: it {' and '.join(parts)}",
            hint="check the network's name and options against those the checkpoint was trained with",
        )
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    wrong = [name for name in expected if name not in tensors or tensors[name].shape != expected[name].shape]
    if wrong:
        first = wrong[0]
        actual = tuple(tensors[first].shape) if first in tensors else type(weights[first]).__name__
        raise CheckpointError(
            f"the checkpoint does not fit {class_name}: {first} is {actual}, not {tuple(expected[first].shape)}"
            f" ({len(wrong)} such entries)",
            hint="check the network's width and blocks against those the checkpoint was trained with",
        )
    return tensors


def restore(network: nn.Module, blurred: Tensor) -> list[Tensor]:
    """Runs any network on images of any size.

    The images are padded at the right and bottom to a multiple of `network.size_multiple` (1 if it has none), by
    reflection, or by repetition where they are too small to reflect; every output is cropped back.

    Args:
        network: `B -> D` or `B -> [D_0, D_1, …]`.
        blurred: (B, 3, H, W) in [0, 1].

    Returns:
        The outputs, each (B, 3, H, W), final output first.

    Raises:
        ConfigError: The outputs have other shapes.
    """
    height, width = blurred.shape[-2:]
    multiple = int(getattr(network, "size_multiple", 1))
    down, right = -height % multiple, -width % multiple
    if down or right:
        mode = "reflect" if down < height and right < width else "replicate"
        blurred = F.pad(blurred, (0, right, 0, down), mode=mode)
    result = network(blurred)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    # A guided network in training mode returns its kernel weights, of the same height and width, after the images.
    if not outputs or outputs[0].shape != blurred.shape or any(o.shape[-2:] != blurred.shape[-2:] for o in outputs):
        raise ConfigError(
            f"the network returns {[tuple(output.shape) for output in outputs]} for an image {tuple(blurred.shape)}",
            hint="every output must have the shape of the input; are H and W multiples of another size_multiple?",
        )
    return [output[..., :height, :width] for output in outputs]


def reach_px(network: nn.Module) -> int:
    """Half the receptive field of a network: its attribute `reach_px`, or 48. Closer to a border tiles differ."""
    return int(getattr(network, "reach_px", REACH_PX))


def _list_names(names: Iterable[str], max_count: int = 5) -> str:
    ordered = sorted(names)
    more = f" … ({len(ordered)} in all)" if len(ordered) > max_count else ""
    return ", ".join(ordered[:max_count]) + more
