"""Finds a network's weights in the containers of public training code: BasicSR, MPRNet, Lightning, `torch.compile`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_DEPTH = 4
_AVERAGED = ("ema", "averaged", "swa")
_COMPILED = "_orig_mod."  # of torch.compile, before the names of whatever was compiled
_STRIPPED = ("module.", "Network.")  # where no name fits, for a message in the network's own terms


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights found in a file.

    Attributes:
        tensors: By the network's names, as far as they could be matched.
        place: Keys that lead to them, `state_dict`; with the prefix of their names: `state_dict: net.*`.
        averaged: Whether they are a moving average of the training's weights.
        others: Places of further complete sets of weights in the same file.
        left_out: Number of tensors beside them: of losses, discriminators and the like.
    """

    tensors: Mapping[str, object]
    place: str
    averaged: bool = False
    others: tuple[str, ...] = ()
    left_out: int = 0


def find_weights(content: Mapping[str, object], expected: Collection[str]) -> PublishedWeights:
    """Finds the weights with the `expected` names, or the container that comes nearest.

    A moving average is preferred, otherwise the outermost complete set. Prefixes are whatever stands before every name.

    Args:
        content: Of a weights file.
        expected: Names of the network's weights.
    """
    found = [weights for keys, part in _containers(content) for weights in _complete_sets(keys, part, expected)]
    if not found:
        return _nearest(content, expected)
    chosen = next((weights for weights in found if weights.averaged), found[0])
    others = tuple(weights.place for weights in found if weights.place != chosen.place)
    return replace(chosen, others=others)


def describe_content(content: Mapping[str, object]) -> str:
    """What a weights file holds: its containers with their numbers of tensors, its other keys and first names."""
    parts = []
    for keys, part in _containers(content):
        names = [name for name, value in part.items() if isinstance(value, Tensor)]
        if names:
            parts.append(f"{'/'.join(keys) or 'the file itself'}: {len(names)} tensors ({', '.join(names[:3])}, …)")
    plain = [name for name, value in content.items() if not isinstance(value, Tensor | Mapping)]
    if plain:
        parts.append(f"values {', '.join(plain[:5])}")
    return "; ".join(parts[:5]) or f"no tensors, only {', '.join(list(content)[:5]) or 'an empty dictionary'}"


def _containers(content: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    """The mapping and those within it, outermost first; names with the marks of `torch.compile` removed."""
    level: list[tuple[tuple[str, ...], Mapping[str, object]]] = [((), content)]
    seen = {id(content)}  # a pickled dictionary can hold itself
    for _ in range(_MAX_DEPTH):
        inner: list[tuple[tuple[str, ...], Mapping[str, object]]] = []
        for keys, part in level:
            yield keys, {str(name).replace(_COMPILED, ""): value for name, value in part.items()}
            for name, value in part.items():
                if isinstance(value, Mapping) and id(value) not in seen:
                    seen.add(id(value))
                    inner.append(((*keys, str(name)), value))
        level = inner


def _complete_sets(
    keys: tuple[str, ...], part: Mapping[str, object], expected: Collection[str]
) -> Iterator[PublishedWeights]:
    """The sets of weights in one container that have every expected name behind a common prefix."""
    if not expected:
        return
    anchor = max(expected, key=len)
    for name in part:
        prefix = name.removesuffix(anchor)
        if name == prefix or (prefix and not prefix.endswith(".")) or any(prefix + end not in part for end in expected):
            continue
        tensors = {end.removeprefix(prefix): value for end, value in part.items() if end.startswith(prefix)}
        beside = sum(isinstance(value, Tensor) for value in part.values()) - len(tensors)
        place = "/".join(keys) + (f": {prefix}*" if prefix else "")
        yield PublishedWeights(tensors, place or "the file itself", _is_averaged((*keys, prefix)), (), max(beside, 0))


def _nearest(content: Mapping[str, object], expected: Collection[str]) -> PublishedWeights:
    """The container, without its usual prefixes, that shares most names; with equal numbers the one of most tensors."""

    def rank(found: PublishedWeights) -> tuple[int, int]:
        count = sum(isinstance(value, Tensor) for value in found.tensors.values())
        return len(found.tensors.keys() & set(expected)), count

    candidates = [PublishedWeights(_stripped(part), "/".join(keys)) for keys, part in _containers(content)]
    return max(candidates, key=rank)


def _stripped(part: Mapping[str, object]) -> Mapping[str, object]:
    for prefix in _STRIPPED:
        if part and all(name.startswith(prefix) for name in part):
            return _stripped({name.removeprefix(prefix): value for name, value in part.items()})
    return part


def _is_averaged(keys: tuple[str, ...]) -> bool:
    words = "/".join(keys).lower().replace(".", "/").replace("_", "/").replace("-", "/").split("/")
    return any(word in _AVERAGED for word in words)
