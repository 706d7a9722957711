"""Usable files to records: grouped and paired by the rule asked for, or by a table; copies, names and ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.pairing.naming import number_ids, safe_names
from capture.pairing.rules import describe_match, limit_exposure, pair_scene
from capture.pairing.scenes import group_scenes, natural_key, split_role
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import FileRef, PairRecord, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from capture.config import IngestConfig
    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import ScannedFile
    from capture.pairing.pair_table import TableRow
    from capture.pairing.rules import Leftover, Match, PairingResult
    from capture.pairing.scenes import Frame


@dataclass(frozen=True, slots=True)
class NamedMatch:
    """One pair before it is a record; `scene` and `id` are not yet safe for files, an empty id is to be made."""

    scene: str
    id: str
    match: Match


def pair_by_rules(
    frames: Sequence[Frame], shared: Sequence[Frame], content: Mapping[str, str], config: IngestConfig
) -> tuple[list[NamedMatch], list[Leftover]]:
    """Pairs of every scene the rules of grouping find, and every frame left over.

    Args:
        frames: One frame of each content.
        shared: Copies of them.
        content: SHA-256 by name.
        config: Grouping and pairing.
    """
    named: list[NamedMatch] = []
    left: list[Leftover] = []
    for scene in group_scenes(frames, config):
        result = pair_scene(scene, config)
        named += [NamedMatch(scene.name, "", match) for match in result.matches]
        left += result.leftovers
    named += _sharing(frames, shared, content, _paired_names(named), config)
    paired = _paired_names(named)
    return named, [entry for entry in left if entry[0].name not in paired]


def name_content_groups(groups: Sequence[PairingResult]) -> tuple[list[NamedMatch], list[Leftover]]:
    """The same of groups that were found by content; a scene is named after its sharp frame."""
    named = [
        NamedMatch(str(PurePosixPath(match.sharp.name).with_suffix("")), "", match)
        for result in groups
        for match in result.matches
    ]
    return named, [entry for result in groups for entry in result.leftovers]


def _paired_names(named: Sequence[NamedMatch]) -> set[str]:
    return {frame.name for entry in named for frame in (entry.match.blur, entry.match.sharp)}


def _sharing(
    frames: Sequence[Frame],
    shared: Sequence[Frame],
    content: Mapping[str, str],
    paired: Collection[str],
    config: IngestConfig,
) -> list[NamedMatch]:
    """Pairs of scenes that would have none without a copy of another scene's file; whether it fits, align will tell.

    Args:
        frames: One frame of each content.
        shared: The copies.
        content: SHA-256 by name.
        paired: Names of the frames in pairs already.
        config: Grouping and pairing.
    """
    names = {frame.name for frame in shared}
    named_pairs: list[NamedMatch] = []
    for scene in group_scenes([*frames, *shared], config) if shared else ():
        own = {frame.name for frame in scene.frames} - names
        if 0 < len(own) < len(scene.frames) and own.isdisjoint(paired):
            named_pairs += [
                NamedMatch(scene.name, "", match)
                for match in pair_scene(scene, config).matches
                if not own.isdisjoint((match.blur.name, match.sharp.name))
                and content[match.blur.name] != content[match.sharp.name]
            ]
    return named_pairs


def pair_by_table(
    files: Sequence[ScannedFile], frames: Mapping[str, Frame], content: Mapping[str, str], rows: Sequence[TableRow],
    config: IngestConfig,
) -> tuple[list[NamedMatch], list[Leftover]]:  # fmt: skip
    """The pairs a table lists, each content pair once, and every frame left over.

    Args:
        files: The usable files, those of the table first.
        frames: Their frames by name.
        content: SHA-256 by name.
        rows: The table.
        config: For the largest difference of exposure.
    """
    by_path = {file.path: frames[file.name] for file in files}
    row_of: dict[tuple[str, str], TableRow] = {}
    couples: list[tuple[Frame, Frame]] = []
    contents: set[tuple[str, str]] = set()
    for row in rows:
        blur, sharp = by_path.get(row.blur.resolve()), by_path.get(row.sharp.resolve())
        if blur is None or sharp is None or content[blur.name] == content[sharp.name]:
            continue
        same = content[blur.name], content[sharp.name]
        if same not in contents:
            contents.add(same)
            couples.append((blur, sharp))
            row_of[blur.name, sharp.name] = row
    why = "in no row of the table whose two files can be used"
    result = limit_exposure(list(by_path.values()), couples, why, config.max_exposure_ev)
    named = []
    for match in result.matches:
        row = row_of[match.blur.name, match.sharp.name]
        told = replace(match, evidence=describe_match(match, config))
        named.append(NamedMatch(row.scene or row.id or _scene_name(match), row.id, told))
    return named, _mark_duplicates(result.leftovers, files, content)


def _mark_duplicates(
    left: Sequence[Leftover], files: Sequence[ScannedFile], content: Mapping[str, str]
) -> list[Leftover]:
    """`left`, where a file without partner that equals an earlier one is called a duplicate."""
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(content[file.name], file.name)
    told: list[Leftover] = []
    for frame, reason, word in left:
        twin = first[content[frame.name]]
        copy = reason is Reason.NO_PARTNER and twin != frame.name
        told.append((frame, Reason.DUPLICATE, f"the same bytes as {twin}") if copy else (frame, reason, word))
    return told


def _scene_name(match: Match) -> str:
    path = PurePosixPath(match.sharp.name)
    return str(path.parent / split_role(path.stem)[1])


def build_records(
    named: Sequence[NamedMatch], entries: Mapping[str, Inspection], root: str, config: IngestConfig
) -> tuple[tuple[PairRecord, ...], dict[str, str]]:
    """The records, ids and scenes made safe and unique, and what speaks for each pair by its id.

    Args:
        named: All pairs.
        entries: What is known of each file, by its name.
        root: Name of the root folder, for scenes without one of their own.
        config: For the history.
    """
    ordered = sorted(
        named, key=lambda entry: (entry.scene, *(natural_key(f.name) for f in (entry.match.blur, entry.match.sharp)))
    )
    names = safe_names(name or root for entry in ordered for name in (entry.scene, entry.id))
    scenes = [names[entry.scene or root] for entry in ordered]
    # An id the table gives is as unique as a scene's name; the others are numbered around it.
    ids = number_ids([names[entry.id] if entry.id else scene for entry, scene in zip(ordered, scenes, strict=True)])
    records = []
    for name, scene, entry in zip(ids, scenes, ordered, strict=True):
        blur, sharp = entries[entry.match.blur.name], entries[entry.match.sharp.name]
        record = PairRecord(
            id=name,
            scene=scene,
            kind=config.pairing,
            blur=FileRef(blur.name, blur.bytes, blur.sha256),
            sharp=FileRef(sharp.name, sharp.bytes, sharp.sha256),
            blur_meta=entry.match.blur.meta,
            sharp_meta=entry.match.sharp.meta,
        )
        records.append(replace(record, history=(manifest.step_of("ingest", config, record),)))
    whys = {name: entry.match.evidence for name, entry in zip(ids, ordered, strict=True)}
    return tuple(records), whys
