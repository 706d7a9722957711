"""Matching of pictures in a folder to pairs: by the pair's id, or by the name of its blurred source file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.layouts.frame_names import composed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class PairNames:
    """The names by which a pair is known.

    Attributes:
        id: The pair's id: the name of its frames in an export.
        source: Path of its blurred source file; empty where it is not read.
        wanted: Whether it belongs to the split that is scored.
    """

    id: str
    source: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class NameMatches:
    """The pictures of the pairs, and what does not fit.

    Attributes:
        pictures: The picture of each wanted pair, by its id.
        problems: Name of a picture or id of a pair, and what is wrong with it.
        elsewhere: Number of pictures of pairs of other splits.
    """

    pictures: Mapping[str, str]
    problems: tuple[tuple[str, str], ...]
    elsewhere: int


def match_names(pictures: Sequence[str], pairs: Sequence[PairNames]) -> NameMatches:
    """Matches pictures to pairs, suffix aside: by the whole id, else by the longest common end of the source path.

    Args:
        pictures: POSIX paths relative to their folder.
        pairs: Of all splits.

    Example:
        >>> pairs = [PairNames("scene-01", "raw/IMG_1.CR2", True), PairNames("scene-02", "raw/IMG_2.CR2", True)]
        >>> found = match_names(["scene-01.png", "IMG_2.tif", "cover.png"], pairs)
        >>> sorted(found.pictures.items())
        [('scene-01', 'scene-01.png'), ('scene-02', 'IMG_2.tif')]
        >>> found.problems
        (('cover.png', 'the name of no pair'),)
    """
    problems: list[tuple[str, str]] = []
    claims: dict[str, list[str]] = {}
    unclear: set[str] = set()
    elsewhere = 0
    index = _by_last_name(pairs)
    for picture in sorted(pictures):
        found = _pairs_of(picture, index)
        if len(found) > 1:
            problems.append((picture, f"the name of {' and of '.join(repr(pair.id) for pair in found[:3])}"))
            unclear |= {pair.id for pair in found}
        elif not found:
            problems.append((picture, "the name of no pair"))
        elif found[0].wanted:
            claims.setdefault(found[0].id, []).append(picture)
        else:
            elsewhere += 1
    problems += [
        (pair, f"has several pictures: {', '.join(names[:3])}") for pair, names in claims.items() if len(names) > 1
    ]
    known = unclear | claims.keys()
    problems += [(pair.id, "has no picture") for pair in pairs if pair.wanted and pair.id not in known]
    matched = {pair: names[0] for pair, names in claims.items() if len(names) == 1}
    return NameMatches(matched, tuple(problems), elsewhere)


Index = dict[str, list[tuple[PairNames, tuple[str, ...], bool]]]


def _by_last_name(pairs: Sequence[PairNames]) -> Index:
    """For each last component of an id or a source: the pair, all components, and whether they are an id's."""
    index: Index = {}
    for pair in pairs:
        identifier = tuple(composed(pair.id).split("/"))
        index.setdefault(identifier[-1], []).append((pair, identifier, True))
        if pair.source:
            source = _components(pair.source)
            index.setdefault(source[-1], []).append((pair, source, False))
    return index


def _pairs_of(picture: str, index: Index) -> list[PairNames]:
    """The pair that a picture is named after; several where the name does not tell them apart."""
    name = _components(picture)
    near = [(pair, _common_end(name, parts), parts, is_id) for pair, parts, is_id in index.get(name[-1], ())]
    by_id = [(pair, length) for pair, length, parts, is_id in near if is_id and length == len(parts)]
    by_source = [(pair, length) for pair, length, _, is_id in near if not is_id]
    chosen = _longest(by_id) or _longest(by_source)
    others = [pair for pair, _ in by_source if pair.wanted and pair not in chosen]
    if by_id and others and chosen[0] not in [pair for pair, _ in by_source]:
        return [*chosen, *others]  # the id of one pair is the file name of another
    return chosen


def _longest(found: Sequence[tuple[PairNames, int]]) -> list[PairNames]:
    longest = max((length for _, length in found), default=0)
    best = [pair for pair, length in found if length == longest]
    return [pair for pair in best if pair.wanted] or best


def _components(path: str) -> tuple[str, ...]:
    """The components of a path, the last one without its suffix."""
    *folders, last = composed(path).split("/")
    stem, dot, _ = last.rpartition(".")
    return (*folders, stem if dot and stem else last)


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        count += 1
    return count
