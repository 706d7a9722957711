"""Builds the manifest's records from usable files: pairs by rule, by table or by content, with names and ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.pairing.naming import number_ids, safe_names
from capture.pairing.rules import Leftover, describe_match, limit_exposure, pair_scene
from capture.pairing.scenes import group_scenes, natural_key, split_role
from sdd_toolkit.imaging.orientation import UPRIGHT
from sdd_toolkit.metadata.colour_notes import conversion_notes
from sdd_toolkit.metadata.orientation import describe_turn, turn_of_blurred
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import FileRef, PairRecord, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from capture.config import IngestConfig
    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import ScannedFile
    from capture.pairing.pair_table import TableRow
    from capture.pairing.rules import Match, PairingResult
    from capture.pairing.scenes import Frame


@dataclass(frozen=True, slots=True)
class NamedMatch:
    """A pair with the names it is to get.

    Attributes:
        scene: Name of the scene, not yet safe for files.
        id: Name of the pair, not yet safe for files; empty to derive it from the scene.
        match: The pair.
    """

    scene: str
    id: str
    match: Match


def pair_by_rules(
    frames: Sequence[Frame], copies: Sequence[Frame], content: Mapping[str, str], config: IngestConfig
) -> tuple[list[NamedMatch], list[Leftover]]:
    """Pairs of every scene that the grouping rules form, and every frame left over.

    Args:
        frames: One frame of each content.
        copies: Frames with the content of one of `frames`.
        content: SHA-256 by name.
        config: Grouping and pairing.
    """
    named: list[NamedMatch] = []
    leftovers: list[Leftover] = []
    for scene in group_scenes(frames, config):
        result = pair_scene(scene, config)
        named += [NamedMatch(scene.name, "", match) for match in result.matches]
        leftovers += result.leftovers
    named += _pair_with_copies(frames, copies, content, _paired_names(named), config)
    paired = _paired_names(named)
    return named, [leftover for leftover in leftovers if leftover.frame.name not in paired]


def name_content_groups(groups: Sequence[PairingResult]) -> tuple[list[NamedMatch], list[Leftover]]:
    """Names the pairs found by content, each scene after its sharp frame; and every frame left over."""
    named = [
        NamedMatch(str(PurePosixPath(match.sharp.name).with_suffix("")), "", match)
        for result in groups
        for match in result.matches
    ]
    return named, [leftover for result in groups for leftover in result.leftovers]


def _paired_names(named: Sequence[NamedMatch]) -> set[str]:
    return {frame.name for entry in named for frame in (entry.match.blur, entry.match.sharp)}


def _pair_with_copies(
    frames: Sequence[Frame],
    copies: Sequence[Frame],
    content: Mapping[str, str],
    paired: Collection[str],
    config: IngestConfig,
) -> list[NamedMatch]:
    """Pairs of scenes that have a partner only as a copy of another scene's file; alignment checks whether it fits.

    Args:
        frames: One frame of each content.
        copies: The copies.
        content: SHA-256 by name.
        paired: Names of the frames in pairs already.
        config: Grouping and pairing.
    """
    copy_names = {frame.name for frame in copies}
    named: list[NamedMatch] = []
    for scene in group_scenes([*frames, *copies], config) if copies else ():
        originals = {frame.name for frame in scene.frames} - copy_names
        if 0 < len(originals) < len(scene.frames) and originals.isdisjoint(paired):
            named += [
                NamedMatch(scene.name, "", match)
                for match in pair_scene(scene, config).matches
                if not originals.isdisjoint((match.blur.name, match.sharp.name))
                and content[match.blur.name] != content[match.sharp.name]
            ]
    return named


def pair_by_table(
    files: Sequence[ScannedFile], frames: Mapping[str, Frame], content: Mapping[str, str], rows: Sequence[TableRow],
    config: IngestConfig,
) -> tuple[list[NamedMatch], list[Leftover]]:  # fmt: skip
    """The pairs a table lists, each pair of contents once, and every frame left over.

    Args:
        files: The usable files, those of the table first.
        frames: Their frames by name.
        content: SHA-256 by name.
        rows: The table.
        config: For the largest difference of exposure.
    """
    by_path = {file.path.resolve(): frames[file.name] for file in files}
    row_of: dict[tuple[str, str], TableRow] = {}
    couples: list[tuple[Frame, Frame]] = []
    contents: set[tuple[str, str]] = set()
    for row in rows:
        blur, sharp = by_path.get(row.blur.resolve()), by_path.get(row.sharp.resolve())
        if blur is None or sharp is None or content[blur.name] == content[sharp.name]:
            continue
        both = content[blur.name], content[sharp.name]
        if both not in contents:
            contents.add(both)
            couples.append((blur, sharp))
            row_of[blur.name, sharp.name] = row
    unpaired_detail = "in no row of the table whose two files can be used"
    result = limit_exposure(list(by_path.values()), couples, unpaired_detail, config.max_exposure_ev)
    named = []
    for match in result.matches:
        row = row_of[match.blur.name, match.sharp.name]
        described = replace(match, evidence=describe_match(match, config))
        named.append(NamedMatch(row.scene or row.id or _scene_name(match), row.id, described))
    return named, _mark_duplicates(result.leftovers, files, content)


def _mark_duplicates(
    leftovers: Sequence[Leftover], files: Sequence[ScannedFile], content: Mapping[str, str]
) -> list[Leftover]:
    """`leftovers`, where a file without partner that equals an earlier one gets the reason `duplicate`."""
    original: dict[str, str] = {}
    for file in files:
        original.setdefault(content[file.name], file.name)
    marked: list[Leftover] = []
    for leftover in leftovers:
        name = original[content[leftover.frame.name]]
        is_copy = leftover.reason is Reason.NO_PARTNER and name != leftover.frame.name
        copy = Leftover(leftover.frame, Reason.DUPLICATE, f"the same bytes as {name}")
        marked.append(copy if is_copy else leftover)
    return marked


def _scene_name(match: Match) -> str:
    path = PurePosixPath(match.sharp.name)
    return str(path.parent / split_role(path.stem)[1])


def build_records(
    named: Sequence[NamedMatch], inspections: Mapping[str, Inspection], root: str, config: IngestConfig
) -> tuple[tuple[PairRecord, ...], dict[str, str]]:
    """The records of the manifest, with safe and unique ids, and the evidence for each pair by its id.

    Args:
        named: All pairs.
        inspections: One of each file, by its name.
        root: Name of the root folder, for scenes without a name of their own.
        config: For the history.
    """
    ordered = sorted(
        named, key=lambda entry: (entry.scene, *(natural_key(f.name) for f in (entry.match.blur, entry.match.sharp)))
    )
    names = safe_names(name or root for entry in ordered for name in (entry.scene, entry.id))
    scenes = [names[entry.scene or root] for entry in ordered]
    # An id of the table is as unique as a scene's name; the others are numbered around it.
    ids = number_ids([names[entry.id] if entry.id else scene for entry, scene in zip(ordered, scenes, strict=True)])
    records = []
    for name, scene, entry in zip(ids, scenes, ordered, strict=True):
        blur, sharp = inspections[entry.match.blur.name], inspections[entry.match.sharp.name]
        metas = entry.match.blur.meta, entry.match.sharp.meta
        turn = turn_of_blurred(*metas)
        record = PairRecord(
            id=name,
            scene=scene,
            kind=config.pairing,
            blur=FileRef(blur.name, blur.bytes, blur.sha256),
            sharp=FileRef(sharp.name, sharp.bytes, sharp.sha256),
            blur_meta=metas[0],
            sharp_meta=metas[1],
            notes=(*conversion_notes(*metas), *(() if turn == UPRIGHT else (describe_turn(*metas),))),
            blur_turn=turn,
        )
        records.append(replace(record, history=(manifest.step_of("ingest", config, record),)))
    evidence = {name: entry.match.evidence for name, entry in zip(ids, ordered, strict=True)}
    return tuple(records), evidence
