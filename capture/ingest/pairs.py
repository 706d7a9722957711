"""Forms the pairs of inspected files, and gives every other file its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from capture.ingest.exposures import choose_files, frame_of, name_unread_versions, reject_copy
from capture.pairing.clocks import correct_clocks
from capture.pairing.records import build_records, name_content_groups, pair_by_rules, pair_by_table
from capture.pairing.rules import needs_detail
from capture.pairing.scenes import group_scenes, natural_key
from sdd_toolkit.pipeline.manifest import Manifest
from sdd_toolkit.records import PairKind, Reason, RejectedFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capture.config import IngestConfig
    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import Scan, ScannedFile
    from capture.inspection.survey import Survey
    from capture.pairing.pair_table import TableRow
    from capture.pairing.records import NamedMatch
    from capture.pairing.rules import Leftover
    from capture.pairing.scenes import Frame


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The pairs of a set of files; every file is in `pairs` or in `rejected`.

    Attributes:
        pairs: The manifest to write.
        rejected: All files in no pair, sorted by path.
        files: Number of files.
        unchanged: Number of files whose inspection an earlier run has cached.
        evidence: The evidence for each pair, by its id.
        clock_notes: Corrections of the cameras' clocks.
        side_files: Number of files that the toolkit wrote itself; they are not among `files`.
    """

    pairs: Manifest
    rejected: tuple[RejectedFile, ...]
    files: int
    unchanged: int
    evidence: Mapping[str, str]
    clock_notes: tuple[str, ...] = ()
    side_files: int = 0


def form_pairs(scan: Scan, survey: Survey, rows: Sequence[TableRow], config: IngestConfig) -> IngestResult:
    """Pairs the files of a scan.

    Args:
        scan: All files.
        survey: Their inspections; reads pixels and thumbnails where a rule needs them.
        rows: The table of pairs; empty without one.
        config: Grouping and pairing.
    """
    named_files = {path.resolve() for row in rows for path in (row.blur, row.sharp)}
    in_table = {file.path for file in scan.files if named_files and file.path.resolve() in named_files}
    ordered = sorted(scan.files, key=lambda file: (file.path not in in_table, natural_key(file.name)))
    files = choose_files(ordered, survey, in_table, check_pixels=config.check_pixels)
    inspections = {file.name: survey.inspections[file.ref] for file in (*files.usable, *files.copies)}
    content = {name: inspection.sha256 for name, inspection in inspections.items()}
    by_name, clock_notes = _build_frames(inspections, config)
    frames, copies = ([by_name[file.name] for file in group] for group in (files.usable, files.copies))
    undecodable: dict[str, str] = {}
    if rows:
        named, leftovers = pair_by_table(files.usable, by_name, content, rows, config)
    elif config.pairing is PairKind.AUTO:
        named, leftovers = _pair_by_content(files.usable, frames, survey, undecodable, config)
    else:
        frames = _measure_detail(frames, files.usable, survey, undecodable, config)
        named, leftovers = pair_by_rules(frames, copies, content, config)
    paired = {frame.name for entry in named for frame in (entry.match.blur, entry.match.sharp)}
    rejected = [
        *files.rejected,
        *(reject_copy(file, original) for file, original in files.copies.items() if file.name not in paired),
        *(RejectedFile(leftover.frame.name, leftover.reason, leftover.detail) for leftover in leftovers),
        *(RejectedFile(name, Reason.UNREADABLE, failure) for name, failure in undecodable.items()),
        *name_unread_versions(scan.rejected, [file.name for file in files.usable]),
    ]
    records, evidence = build_records(named, inspections, scan.root.name, config)
    return IngestResult(
        pairs=Manifest(scan.root, records),
        rejected=tuple(sorted(rejected, key=lambda entry: natural_key(entry.path))),
        files=len(scan.files) + len(scan.rejected),
        unchanged=survey.unchanged,
        evidence=evidence,
        clock_notes=clock_notes,
        side_files=scan.side_files,
    )


def _build_frames(
    inspections: Mapping[str, Inspection], config: IngestConfig
) -> tuple[dict[str, Frame], tuple[str, ...]]:
    """The frames by name, with corrected clocks, and the corrections in words."""
    frames = [frame for name, entry in inspections.items() if (frame := frame_of(name, entry)) is not None]
    corrected, notes = correct_clocks(frames, config)
    return {frame.name: frame for frame in corrected}, notes


def _measure_detail(
    frames: Sequence[Frame],
    files: Sequence[ScannedFile],
    survey: Survey,
    undecodable: dict[str, str],
    config: IngestConfig,
) -> list[Frame]:
    """The frames, with fine detail where a rule compares it; files whose pixels fail are added to `undecodable`."""
    scenes = [scene for scene in group_scenes(frames, config) if needs_detail(scene, config)]
    compared = {frame.name for scene in scenes for frame in scene.frames}
    refs = {file.name: file.ref for file in files if file.name in compared}
    inspections = survey.measure_pixels(list(refs.values()))
    undecodable |= {name: failure for name, ref in refs.items() if (failure := inspections[ref].pixel_failure)}
    return [
        replace(frame, detail=inspections[refs[frame.name]].detail) if frame.name in refs else frame
        for frame in frames
        if frame.name not in undecodable
    ]


def _pair_by_content(
    files: Sequence[ScannedFile],
    frames: Sequence[Frame],
    survey: Survey,
    undecodable: dict[str, str],
    config: IngestConfig,
) -> tuple[list[NamedMatch], list[Leftover]]:
    from capture.pairing.by_content import pair_by_content  # needs OpenCV, which the other rules do without

    thumbnails = survey.read_thumbnails(files)
    undecodable |= {name: thumbnail.failure for name, thumbnail in thumbnails.items() if thumbnail.failure}
    decodable = [frame for frame in frames if frame.name not in undecodable]
    return name_content_groups(pair_by_content(decodable, thumbnails, config))
