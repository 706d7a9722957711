"""Leakage between splits: scenes whose sharp frames look alike, and pairs that share a source file.

A network scores too well on a scene that it was trained on. Splitting by scene keeps the frames of one scene together,
but the same subject may occur as two scenes of different names.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from sdd_toolkit.errors import LeakageError
from sdd_toolkit.imaging.perceptual_hash import MAX_HAMMING_DISTANCE, hash_of, near_duplicates, to_integers
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.shards.index import Index
    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)
_MAX_SHOWN, _MAX_REFUSED = 5, 3
_MAX_SAME = 16


@dataclass(frozen=True, slots=True)
class HashedPair:
    """The properties of a pair that are compared with other pairs.

    Attributes:
        id: Its id.
        scene: Its scene.
        split: Its split.
        perceptual_hash: Of its sharp frame; None: not known.
        files: SHA-256 of its two source files.
    """

    id: str
    scene: str
    split: str
    perceptual_hash: str | None
    files: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Leak:
    """Two pairs of different splits that show the same subject.

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
    """The result of a search for leakage.

    Attributes:
        compared: Pairs whose hashes were compared.
        unknown: Pairs without a hash, which were compared by their files only.
        max_distance: Bits up to which two hashes count as alike.
        leaks: The closest one of any two scenes; shared files first.
    """

    compared: int
    unknown: int
    max_distance: int
    leaks: tuple[Leak, ...]


def check_leakage(shards: Location, max_distance: int = MAX_HAMMING_DISTANCE, *, decode: bool = True) -> Leakage:
    """Searches a packed set for leakage between its splits.

    Args:
        shards: Folder with `index.json`.
        max_distance: Bits up to which two hashes count as alike.
        decode: Whether pairs that were packed without a hash are decoded to compute it.

    Raises:
        InputError: No set there.
        IntegrityError: A shard is missing or damaged.
    """
    with ShardReader(shards) as reader:
        records = {name: reader.record(name) for name in reader.pair_ids}
        return find_leaks(hash_shards(reader, records, decode=decode), max_distance)


def refuse_unpublished(shards: Location, index: Index) -> None:
    """Refuses a finished set whose index is not written yet, if its splits tear scenes apart.

    Raises:
        LeakageError: Names the first scenes.
    """
    with ShardReader(shards, index=index) as reader:
        records = {name: reader.record(name) for name in reader.pair_ids}
        found = find_leaks(hash_shards(reader, records, decode=False))
    for line in format_leaks(found):  # all: without an index, `sdd leakage` cannot tell the others
        log.warning("%s", line)
    refuse_leaks(found)


def hash_shards(reader: ShardReader, records: Mapping[str, PairRecord], *, decode: bool) -> list[HashedPair]:
    """The hashed pairs of an open set, whose `records` have been read; `decode` as in `check_leakage`."""
    pairs = []
    for shard in reader.shards:
        for name in shard.pairs:
            sharp_hash = reader.perceptual_hash(name)
            if sharp_hash is None and decode:
                sharp_hash = hash_of(reader.read(name).sharp)
            pairs.append(hash_pair(records[name], shard.split, sharp_hash))
    return pairs


def hash_pair(record: PairRecord, split: str, perceptual_hash: str | None) -> HashedPair:
    """The properties of one pair that are compared."""
    return HashedPair(record.id, record.scene, split, perceptual_hash, (record.blur.sha256, record.sharp.sha256))


def find_leaks(pairs: Sequence[HashedPair], max_distance: int = MAX_HAMMING_DISTANCE) -> Leakage:
    """The leaks among pairs; see `Leakage`."""
    hashed = [pair for pair in pairs if pair.perceptual_hash is not None]
    leaks = [*_leaks_by_file(pairs), *_leaks_by_hash(hashed, max_distance)]
    closest: dict[tuple[str, ...], Leak] = {}
    for leak in leaks:
        closest.setdefault((*leak.splits, *leak.scenes), leak)
    return Leakage(len(hashed), len(pairs) - len(hashed), max_distance, tuple(closest.values()))


def warn_of_leakage(shards: Location) -> None:
    """Logs the leakage of a packed set; pairs without a hash are compared by their source files only."""
    log_leaks(check_leakage(shards, decode=False), shards)


def refuse_leaks(leakage: Leakage) -> None:
    """Refuses a split that tears a scene apart.

    Raises:
        LeakageError: Names the first scenes.
    """
    if not leakage.leaks:
        return
    lines = format_leaks(leakage)
    more = f", and {len(lines) - _MAX_REFUSED} more" if len(lines) > _MAX_REFUSED else ""
    raise LeakageError(
        f"the split tears scenes apart: {'; '.join(lines[:_MAX_REFUSED])}{more}",
        hint="leave out one of each, or put them into one split by the lists of [pack.split]; where they are different "
        'subjects, set leakage = "warn" in [build]',
    )


def log_leaks(leakage: Leakage, shards: Location) -> None:
    """Logs the first leaks of a packed set, and the number of the others."""
    for line in format_leaks(leakage)[:_MAX_SHOWN]:
        log.warning("%s", line)
    if len(leakage.leaks) > _MAX_SHOWN:
        log.warning("%d more: see `sdd leakage %s`", len(leakage.leaks) - _MAX_SHOWN, shards)


def format_leaks(leakage: Leakage) -> list[str]:
    """One line of text for each leak."""
    return [
        f"{leak.scenes[0]} ({leak.splits[0]}, {leak.pairs[0]}) and {leak.scenes[1]} ({leak.splits[1]}, "
        f"{leak.pairs[1]}) {'share a file' if leak.distance is None else f'look alike: {leak.distance} bits differ'}"
        for leak in leakage.leaks
    ]


def _leaks_by_hash(pairs: Sequence[HashedPair], max_distance: int) -> Iterable[Leak]:
    by_split = {split: _representatives(pair for pair in pairs if pair.split == split) for split in SPLITS}
    hashes = {
        split: to_integers([pair.perceptual_hash or "" for pair in members]) for split, members in by_split.items()
    }
    leaks = [
        _leak(by_split[first][row], by_split[second][column], distance)
        for first, second in combinations(SPLITS, 2)
        for row, column, distance in near_duplicates(hashes[first], hashes[second], max_distance).tolist()
    ]
    return sorted(leaks, key=lambda leak: (leak.distance, leak.pairs))


def _representatives(pairs: Iterable[HashedPair]) -> list[HashedPair]:
    """One pair of each hash and scene, and at most `_MAX_SAME` of each hash: identical frames are compared once."""
    firsts: dict[tuple[str | None, str], HashedPair] = {}
    for pair in pairs:
        firsts.setdefault((pair.perceptual_hash, pair.scene), pair)
    counts: Counter[str | None] = Counter()
    representatives = []
    for pair in firsts.values():
        counts[pair.perceptual_hash] += 1
        if counts[pair.perceptual_hash] <= _MAX_SAME:
            representatives.append(pair)
    return representatives


def _leaks_by_file(pairs: Sequence[HashedPair]) -> Iterable[Leak]:
    users: dict[str, list[HashedPair]] = defaultdict(list)
    for pair in pairs:
        for digest in set(pair.files) - {""}:
            users[digest].append(pair)
    leaks = set()
    for group in users.values():
        ordered = sorted(group, key=lambda pair: (SPLITS.index(pair.split), pair.id))
        # One pair stands for each scene, and at most `_MAX_SAME` of them for each split.
        scenes = list({(pair.split, pair.scene): pair for pair in reversed(ordered)}.values())[::-1]
        few = [pair for split in SPLITS for pair in [each for each in scenes if each.split == split][:_MAX_SAME]]
        leaks |= {_leak(one, other, None) for one, other in combinations(few, 2) if one.split != other.split}
    return sorted(leaks, key=lambda leak: leak.pairs)


def _leak(first: HashedPair, second: HashedPair, distance: int | None) -> Leak:
    return Leak((first.id, second.id), (first.scene, second.scene), (first.split, second.split), distance)
