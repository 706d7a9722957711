"""What is in two splits at once: scenes whose sharp frames look alike, and pairs made of the same file.

A network that was trained on a scene scores too well on it. Splitting by scene keeps frames of one scene together, but
nothing keeps one place from being two scenes by name.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from sdd_toolkit.imaging.perceptual_hash import MAX_HAMMING_DISTANCE, hash_of, near_duplicates, to_integers
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)
_MAX_SHOWN = 5
_MAX_SAME = 16


@dataclass(frozen=True, slots=True)
class HashedPair:
    """What is compared of a pair.

    Attributes:
        look: Perceptual hash of its sharp frame; None: not known.
        files: SHA-256 of its two source files.
    """

    id: str
    scene: str
    split: str
    look: str | None
    files: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Leak:
    """Two pairs of different splits that show the same.

    Attributes:
        pairs: Their ids.
        scenes: Their scenes.
        splits: Their splits.
        distance: Bits in which the hashes of their sharp frames differ; None: they share a source file.
    """

    pairs: tuple[str, str]
    scenes: tuple[str, str]
    splits: tuple[str, str]
    distance: int | None


@dataclass(frozen=True, slots=True)
class Leakage:
    """What a search for leakage found.

    Attributes:
        compared: Pairs whose hashes were compared.
        unknown: Pairs without a hash, which were compared by their files only.
        max_distance: Bits up to which two hashes count as alike.
        leaks: One for each two scenes, the closest; shared files first.
    """

    compared: int
    unknown: int
    max_distance: int
    leaks: tuple[Leak, ...]


def check_leakage(shards: Location, max_distance: int = MAX_HAMMING_DISTANCE, *, decode: bool = True) -> Leakage:
    """Looks for leakage between the splits of a packed set.

    Args:
        shards: Folder with `index.json`.
        max_distance: Bits up to which two hashes count as alike.
        decode: Whether the hashes of pairs that were packed without one are made now, from the stored frames.

    Raises:
        InputError: No set there.
        IntegrityError: A shard is missing or damaged.
    """
    with ShardReader(shards) as reader:
        records = {name: reader.record(name) for name in reader.pair_ids}
        return find_leaks(hash_shards(reader, records, decode=decode), max_distance)


def hash_shards(reader: ShardReader, records: Mapping[str, PairRecord], *, decode: bool) -> list[HashedPair]:
    """What is compared of the pairs of an open set, whose `records` have been read; `decode` as in `check`."""
    found = []
    for shard in reader.shards:
        for name in shard.pairs:
            record, look = records[name], reader.look(name)
            if look is None and decode:
                look = hash_of(reader.read(name).sharp)
            found.append(hash_pair(record, shard.split, look))
    return found


def hash_pair(record: PairRecord, split: str, look: str | None) -> HashedPair:
    """What is compared of one pair."""
    return HashedPair(record.id, record.scene, split, look, (record.blur.sha256, record.sharp.sha256))


def find_leaks(seen: Sequence[HashedPair], max_distance: int = MAX_HAMMING_DISTANCE) -> Leakage:
    """The leaks among pairs; see `Leakage`."""
    known = [each for each in seen if each.look is not None]
    leaks = [*_leaks_by_file(seen), *_leaks_by_hash(known, max_distance)]
    closest: dict[tuple[str, ...], Leak] = {}
    for leak in leaks:
        closest.setdefault((*leak.splits, *leak.scenes), leak)
    return Leakage(len(known), len(seen) - len(known), max_distance, tuple(closest.values()))


def warn_of_leakage(shards: Location) -> None:
    """Logs the leakage of a packed set; pairs without a hash are compared by their files only."""
    log_leaks(check_leakage(shards, decode=False), shards)


def log_leaks(found: Leakage, shards: Location) -> None:
    """Logs what was found in a packed set, the first of it."""
    for line in format_leaks(found)[:_MAX_SHOWN]:
        log.warning("%s", line)
    if len(found.leaks) > _MAX_SHOWN:
        log.warning("%d more: see `sdd leakage %s`", len(found.leaks) - _MAX_SHOWN, shards)


def format_leaks(found: Leakage) -> list[str]:
    """A line for each leak."""
    return [
        f"{leak.scenes[0]} ({leak.splits[0]}, {leak.pairs[0]}) and {leak.scenes[1]} ({leak.splits[1]}, "
        f"{leak.pairs[1]}) {'share a file' if leak.distance is None else f'look alike: {leak.distance} bits differ'}"
        for leak in found.leaks
    ]


def _leaks_by_hash(known: Sequence[HashedPair], max_distance: int) -> Iterable[Leak]:
    members = {split: _representatives(each for each in known if each.split == split) for split in SPLITS}
    found = []
    for one, other in combinations(SPLITS, 2):
        looks = [to_integers([each.look or "" for each in members[split]]) for split in (one, other)]
        for first, second, distance in near_duplicates(looks[0], looks[1], max_distance).tolist():
            found.append(_leak(members[one][first], members[other][second], distance))
    return sorted(found, key=lambda leak: (leak.distance, leak.pairs))


def _representatives(seen: Iterable[HashedPair]) -> list[HashedPair]:
    """One pair of each hash and scene, and no hash more than `_SAME` times: what looks all the same is told once."""
    firsts: dict[tuple[str | None, str], HashedPair] = {}
    for each in seen:
        firsts.setdefault((each.look, each.scene), each)
    counts: Counter[str | None] = Counter()
    kept = []
    for each in firsts.values():
        counts[each.look] += 1
        if counts[each.look] <= _MAX_SAME:
            kept.append(each)
    return kept


def _leaks_by_file(seen: Sequence[HashedPair]) -> Iterable[Leak]:
    users: dict[str, list[HashedPair]] = defaultdict(list)
    for each in seen:
        for digest in set(each.files) - {""}:
            users[digest].append(each)
    found = set()
    for group in users.values():
        ordered = sorted(group, key=lambda each: (SPLITS.index(each.split), each.id))
        # One of each scene stands for all, and of each split no more than some.
        scenes = list({(each.split, each.scene): each for each in reversed(ordered)}.values())[::-1]
        some = [each for split in SPLITS for each in [one for one in scenes if one.split == split][:_MAX_SAME]]
        found |= {_leak(one, other, None) for one, other in combinations(some, 2) if one.split != other.split}
    return sorted(found, key=lambda leak: leak.pairs)


def _leak(first: HashedPair, second: HashedPair, distance: int | None) -> Leak:
    return Leak((first.id, second.id), (first.scene, second.scene), (first.split, second.split), distance)
