"""Creates a packed data set from existing ones (`sdd split`, `merge`, `subset`); chunks are copied, never decoded."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.audit.leakage import warn_of_leakage
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.measurement_table import TEXT_COLUMNS, build_table
from sdd_toolkit.packing.splits import assign_splits, scenes_by_split
from sdd_toolkit.pipeline.manifest import is_file_name, to_json
from sdd_toolkit.rearranging.conditions import matching_rows
from sdd_toolkit.rearranging.writing import Member, RearrangedSet, write_rearranged
from sdd_toolkit.records import Report, Step
from sdd_toolkit.shards.index import INDEX_NAME, Index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import StoredPair
from sdd_toolkit.statistics import camera_name
from sdd_toolkit.storage.files import resolve_inside, sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.rearranging.conditions import Values

PAIRS_PER_SHARD = 4
# Short names of columns; the long ones are in `measurement_table.COLUMNS`.
ALIASES = {"blur_gain": "sharpness_gain", "f_number": "blur_f_number"}


@dataclass(frozen=True, slots=True)
class _PackedSet:
    """An existing set.

    Attributes:
        folder: Its folder.
        index: Its index.
        sha256: The first 16 digits of the SHA-256 of `index.json`.
        members: Its pairs, in reading order.
    """

    folder: Path
    index: Index
    sha256: str
    members: tuple[Member, ...]


def split_dataset(
    shards: Path,
    out: Path,
    config: PackConfig,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Divides the scenes of a set anew among the splits.

    A pair that changes its split gets the patches of its new one; the others keep theirs.

    Args:
        shards: Folder of the set.
        out: Folder of the new set.
        config: Section `[pack]`: `split` and `pairs_per_shard`; `train_overlap` and `min_valid_fraction` must be those
            that the set was packed with.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether another set in `out` is replaced.
        track: Shows progress.

    Raises:
        InputError: No set there, or `out` holds another.
        ConfigError: The split lists do not fit, or patches were chosen with other settings.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    source = _read_set(shards, out)
    scenes = {scene for members in source.index.splits.values() for scene in members}
    splits = assign_splits(scenes, config.split)
    config = config.model_copy(update={"patch_size": source.index.patch_size})
    step = _step("split", config.split.fingerprint(), source)
    members = [_move_to_split(member, splits[member.pair.record.scene], config) for member in source.members]
    index = replace(
        source.index,
        splits=scenes_by_split(splits),
        history=(*source.index.history, f"split anew, of {_describe(source)}"),
    )
    members = [_with_step(member, step) for member in members]
    new = RearrangedSet("split", members, index)
    return _write(new, out, config.pairs_per_shard, started, executor=executor, overwrite=overwrite, track=track)


def merge_datasets(
    sources: Sequence[Path],
    out: Path,
    prefixes: Sequence[str] = (),
    pairs_per_shard: int = PAIRS_PER_SHARD,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Joins several sets. A scene that occurs in two of them is one scene, and must be in one split.

    Args:
        sources: Folders of the sets.
        out: Folder of the new set.
        prefixes: One for each set, put before the ids and scenes of its pairs; empty: they stay as they are.
        pairs_per_shard: Pairs in one HDF5 file.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether another set in `out` is replaced.
        track: Shows progress.

    Raises:
        InputError: No set there, they were packed differently, share ids or have a scene in two splits, or `out` holds
            another set.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    if prefixes and len(prefixes) != len(sources):
        raise InputError(
            f"{len(prefixes)} prefixes for {len(sources)} sets", hint="give one --prefix for each, or none"
        )
    sets = [_read_set(folder, out) for folder in sources]
    for other in sets[1:]:
        _check_compatible(sets[0], other)
    sets = [_add_prefix(each, prefix) for each, prefix in zip(sets, prefixes or [""] * len(sets), strict=True)]
    _check_ids_differ(sets)
    settings = _fingerprint(list(prefixes))
    members = [_with_step(member, _step("merge", settings, each)) for each in sets for member in each.members]
    new = RearrangedSet("merge", members, _merge_indexes(sets))
    return _write(new, out, pairs_per_shard, started, executor=executor, overwrite=overwrite, track=track)


def _check_ids_differ(sets: Sequence[_PackedSet]) -> None:
    counts = Counter(member.id for each in sets for member in each.members)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        what = f"{len(repeated)} ids are in more than one of the sets, the first is {repeated[0]!r}"
        raise InputError(what, hint="tell them apart with one --prefix for each set")


def _merge_indexes(sets: Sequence[_PackedSet]) -> Index:
    indexes = [each.index for each in sets]
    return replace(
        indexes[0],
        name=" + ".join(dict.fromkeys(each.name for each in indexes)),
        config=_fingerprint([each.config for each in indexes]),
        splits=_merge_splits(sets),
        failed=tuple(failure for each in indexes for failure in each.failed),
        configs=dict(sorted((key, entry) for each in indexes for key, entry in each.configs.items())),
        libraries=_merge_versions([each.libraries for each in indexes]),
        history=(
            *dict.fromkeys(line for each in indexes for line in each.history),
            f"merged, of {' and '.join(map(_describe, sets))}",
        ),
    )


def subset_dataset(
    shards: Path,
    out: Path,
    where: str,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    *,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Selects the pairs of a set that fulfil a condition; splits stay as they are.

    Args:
        shards: Folder of the set.
        out: Folder of the new set.
        where: Condition on the columns of `columns`, see `conditions.matching_rows`.
        pairs_per_shard: Pairs in one HDF5 file.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether another set in `out` is replaced.
        track: Shows progress.

    Raises:
        InputError: No set there, no condition, an unknown column, no pair fulfils it, or `out` holds another set.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    source = _read_set(shards, out)
    selected = matching_rows(where, columns(source.members))
    if not selected.any():
        what = f"none of the {len(selected)} pairs of {shards} fulfils {where!r}"
        raise InputError(what, hint="`sdd report` shows how the columns are spread")
    step = _step("subset", _fingerprint(where), source)
    members = [_with_step(member, step) for member, keep in zip(source.members, selected, strict=True) if keep]
    scenes = {member.pair.record.scene for member in members}
    index = replace(
        source.index,
        splits={name: tuple(s for s in members_of if s in scenes) for name, members_of in source.index.splits.items()},
        failed=(),
        history=(*source.index.history, f"subset where {where}, of {_describe(source)}"),
    )
    left_out = {"not_selected": len(selected) - len(members)} if len(members) < len(selected) else {}
    new = RearrangedSet("subset", members, index, left_out)
    return _write(new, out, pairs_per_shard, started, executor=executor, overwrite=overwrite, track=track)


def columns(members: Sequence[Member]) -> dict[str, Values]:
    """The columns of a condition: those of `measurement_table.build_table`, `split`, `camera` and short names."""
    frame = build_table(member.pair.record for member in members)
    measured: dict[str, Values] = {
        name: np.array(list(frame[name]), dtype=np.str_) if name in TEXT_COLUMNS else frame[name].to_numpy()
        for name in frame.columns
    }
    cameras = [camera_name(make, model) for make, model in zip(frame["make"], frame["model"], strict=True)]
    added: dict[str, Values] = {"split": np.array([member.split for member in members]), "camera": np.array(cameras)}
    return {**measured, **added, **{short: measured[name] for short, name in ALIASES.items()}}


def _read_set(folder: Path, out: Path) -> _PackedSet:
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} is both input and output", hint="give another --out")
    members = []
    with ShardReader(folder) as reader:
        for shard in reader.shards:
            path = resolve_inside(folder, shard.name)
            for name in shard.pairs:
                keys = reader.reuse_keys(name)
                pair = StoredPair(name, reader.record(name), path, name, None if keys is None else keys.patching)
                members.append(Member(pair, shard, shard.split))
    return _PackedSet(folder, reader.index, sha256_of(folder / INDEX_NAME)[:16], tuple(members))


def _move_to_split(member: Member, split: str, config: PackConfig) -> Member:
    if split == member.split:
        return member
    before, after = config.patching(member.split), config.patching(split)
    if member.pair.patching not in (None, before.fingerprint()):
        raise ConfigError(
            f"the patches of {member.pair.id!r} were not chosen with train_overlap = {config.train_overlap:g} and "
            f"min_valid_fraction = {config.min_valid_fraction:g}",
            hint="give the --config that the set was packed with",
        )
    return Member(replace(member.pair, patching=after.fingerprint()), member.source, split, after)


def _add_prefix(source: _PackedSet, prefix: str) -> _PackedSet:
    if not prefix:
        return source
    members = []
    for member in source.members:
        record = member.pair.record
        name = prefix + record.id
        if not is_file_name(name):
            raise InputError(
                f"with the prefix {prefix!r} the id {name[:80]!r} cannot name a file", hint="shorter, no /"
            )
        record = replace(record, id=name, scene=prefix + record.scene)
        members.append(replace(member, pair=replace(member.pair, id=name, record=record)))
    splits = {name: tuple(prefix + scene for scene in scenes) for name, scenes in source.index.splits.items()}
    failed = tuple(replace(failure, id=prefix + failure.id) for failure in source.index.failed)
    return replace(source, members=tuple(members), index=replace(source.index, splits=splits, failed=failed))


def _check_compatible(first: _PackedSet, other: _PackedSet) -> None:
    mine, theirs = ({**asdict(each.index.header("")), "highlights": each.index.highlights} for each in (first, other))
    for name, value in mine.items():
        if theirs[name] != value:
            raise InputError(
                f"{first.folder} has {name} = {value}, {other.folder} has {name} = {theirs[name]}",
                hint="pack one of them again with the settings of the other",
            )


def _merge_versions(sets: Sequence[dict[str, str]]) -> dict[str, str]:
    """The versions of the libraries of several sets; all versions where they differ."""
    names = sorted({name for each in sets for name in each}, key=str.lower)
    return {name: ", ".join(dict.fromkeys(each[name] for each in sets if name in each)) for name in names}


def _merge_splits(sets: Sequence[_PackedSet]) -> dict[str, tuple[str, ...]]:
    split_of: dict[str, tuple[str, Path]] = {}
    for each in sets:
        for name, scenes in each.index.splits.items():
            for scene in scenes:
                split, folder = split_of.setdefault(scene, (name, each.folder))
                if split != name:
                    raise InputError(
                        f"the scene {scene!r} is in {split} of {folder} and in {name} of {each.folder}",
                        hint="`sdd split` one of them like the other, or give one --prefix for each set",
                    )
    return scenes_by_split({scene: split for scene, (split, _) in split_of.items()})


def _step(stage: str, settings: str, source: _PackedSet) -> Step:
    return Step(stage=stage, version=__version__, config=settings, inputs=source.sha256)


def _with_step(member: Member, step: Step) -> Member:
    record = member.pair.record
    return replace(member, pair=replace(member.pair, record=replace(record, history=(*record.history, step))))


def _fingerprint(value: object) -> str:
    return fingerprint_text(to_json(value))


def _describe(source: _PackedSet) -> str:
    return f"{source.index.name} (index {source.sha256})"


def _write(
    new: RearrangedSet,
    out: Path,
    pairs_per_shard: int,
    started: float,
    *,
    executor: str,
    overwrite: bool,
    track: Track,
) -> Report:
    new = replace(new, index=replace(new.index, toolkit=__version__))
    skipped = write_rearranged(new, out, pairs_per_shard, executor=executor, overwrite=overwrite, track=track)
    warn_of_leakage(out)
    copied = len(new.members) - skipped
    return Report(
        stage=new.stage,
        total=len(new.members) + sum(new.left_out.values()),
        done=copied,
        skipped=skipped,
        rejected=dict(new.left_out),
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
        copied=copied,
    )
