"""Building networks by name, loading published weights, running on images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from pydantic import create_model
from torch import Tensor, nn
from torch.nn import functional as F

from jdrl.networks.catalogue import KNOWN, factory_of
from sdd_toolkit.config import Section, validate
from sdd_toolkit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

REACH_PX = 48
"""Taken for networks that do not say how far they look."""

_CONTAINERS = ("G_state_dict", "state_dict", "params")
_PREFIXES = ("module.", "Network.")


def build_network(name: str, **options: object) -> nn.Module:
    """A new network.

    Args:
        name: One of `jdrl.networks.names()`, or `package.module:factory` for a class or function of the user's own. It
            answers `B -> D` or `B -> [D_0, D_1, …]`, first output final; its attribute `size_multiple`, if there is
            one, says of which number the sides of B must be multiples; for `guided_levels` see `GuidedNetwork`.
        **options: The network's own keyword arguments, e.g. `width=32, encoder_blocks=[1, 1, 1, 28]`.

    Raises:
        ConfigError: No such network, or options it does not take.
    """
    factory = factory_of(name)
    published = KNOWN[name].options if name in KNOWN else {}
    checked = validate(options_model(name), options, where=f"network_options of {name!r}")
    try:
        network = factory(**{**published, **{option: getattr(checked, option) for option in options}})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"network {name!r}: {error}", hint="check the network's options") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"network {name!r} is a {type(network).__name__}, no torch module", hint="name what makes one"
        )
    return network


def options_model(name: str) -> type[Section]:
    """The options of a network as a configuration section, read off its factory's signature."""
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
    factory = factory_of(name)
    try:
        return list(signature(factory, eval_str=True).parameters.values())
    except NameError:
        # Annotations that only a type checker can resolve say nothing here.
        return list(signature(factory).parameters.values())


def load_published(network: nn.Module, state_dict: Mapping[str, object]) -> None:
    """Loads a checkpoint in a published layout: containers unwrapped, `module.` and `Network.` stripped.

    Args:
        network: Receives the weights, in place.
        state_dict: What `torch.load(file, weights_only=True)` or safetensors returned.

    Raises:
        CheckpointError: Missing or extra names, or shapes that differ. The network is then unchanged.
    """
    network.load_state_dict(fitting(network, state_dict))


def fitting(network: nn.Module, state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of a published layout by the network's own names; the network may be one on the meta device.

    Raises:
        CheckpointError: Missing or extra names, or shapes that differ.
    """
    found = _stripped(_unwrapped(state_dict))
    wanted = network.state_dict()
    kind = type(network).__name__
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or extra:
        parts = [f"{label} {_listed(names)}" for label, names in (("lacks", missing), ("has extra", extra)) if names]
        raise CheckpointError(
            f"the checkpoint does not fit {kind}: it {' and '.join(parts)}",
            hint="check the network's name and options against those the checkpoint was trained with",
        )
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if wrong:
        first = wrong[0]
        got = tuple(tensors[first].shape) if first in tensors else type(found[first]).__name__
        raise CheckpointError(
            f"the checkpoint does not fit {kind}: {first} is {got}, not {tuple(wanted[first].shape)}"
            f" ({len(wrong)} such entries)",
            hint="check the network's width and blocks against those the checkpoint was trained with",
        )
    return tensors


def restore(network: nn.Module, blurred: Tensor) -> list[Tensor]:
    """Runs any network on an image of any size.

    The image is extended at the right and bottom to a multiple of `network.size_multiple` (1 if it has none), by
    reflection, or by repetition where the image is too small to reflect, and every output is cropped back.

    Args:
        network: `B -> D` or `B -> [D_0, D_1, …]`.
        blurred: (B, 3, H, W) in [0, 1].

    Returns:
        Its outputs, each (B, 3, H, W); the first is final.

    Raises:
        ConfigError: It answers something else.
    """
    height, width = blurred.shape[-2:]
    multiple = int(getattr(network, "size_multiple", 1))
    down, right = -height % multiple, -width % multiple
    if down or right:
        mode = "reflect" if down < height and right < width else "replicate"
        blurred = F.pad(blurred, (0, right, 0, down), mode=mode)
    answer = network(blurred)
    outputs = [answer] if isinstance(answer, Tensor) else list(answer)
    # After the images a guided network answers its kernel weights, of as many pixels.
    if not outputs or outputs[0].shape != blurred.shape or any(o.shape[-2:] != blurred.shape[-2:] for o in outputs):
        raise ConfigError(
            f"the network answers {[tuple(output.shape) for output in outputs]} to an image {tuple(blurred.shape)}",
            hint="every output must have the shape of the input; are H and W multiples of another size_multiple?",
        )
    return [output[..., :height, :width] for output in outputs]


def reach_px(network: nn.Module) -> int:
    """How far from a tile's border its answer is no longer the whole frame's: its attribute `reach_px`, or 48."""
    return int(getattr(network, "reach_px", REACH_PX))


def _unwrapped(checkpoint: Mapping[str, object]) -> Mapping[str, object]:
    for key in _CONTAINERS:
        inner = checkpoint.get(key)
        if isinstance(inner, Mapping):
            return _unwrapped(inner)
    return checkpoint


def _stripped(weights: Mapping[str, object]) -> Mapping[str, object]:
    for prefix in _PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return _stripped({name.removeprefix(prefix): value for name, value in weights.items()})
    return weights


def _listed(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    more = f" … ({len(ordered)} in all)" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
