"""The fuse stage: fuses the focal stacks of a manifest; the all-in-focus picture becomes their sharp frame.

A stack is a scene whose pairs share one sharp frame, the reference. Its fused picture has that frame's geometry and
replaces it; the reference itself, out of focus where other frames are not, becomes one more blurred frame.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from alignment.config import AlignConfig
from alignment.fusion import stack_files
from alignment.fusion.stack_files import SourceFrame, StackFrame
from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap, copy_to, load_for_manifest
from sdd_toolkit.config import Section
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.imaging.orientation import UPRIGHT
from sdd_toolkit.metadata.colour_notes import conversion_notes
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.orientation import turn_of_blurred
from sdd_toolkit.pipeline import configurations, manifest
from sdd_toolkit.pipeline.manifest import Manifest
from sdd_toolkit.pipeline.stage_runner import Job, check_output, describe_change, no_pairs
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.recorded_config import RECORDED_CONFIG
from sdd_toolkit.records import FileRef, PairRecord, Reason, Report
from sdd_toolkit.storage.files import resolve_inside, write_csv
from sdd_toolkit.storage.targets import check_own, check_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alignment.fusion.stack_files import Fusion
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import FrameMeta, Step

STAGE = "fuse"
OUTPUT = "fused.jsonl"
FOLDER = "fused"
LEFT_OUT = "left_out.csv"
_COLUMNS = ("stack", "path", "reason", "detail")


class FuseConfig(Section):
    """Section `[fuse]`: the focal stacks to fuse. The registration of their frames is set in `[align]`."""

    min_frames: int = Field(
        default=3,
        ge=2,
        le=stack_files.MAX_FRAMES,
        description="Scenes with fewer frames keep the sharp frame they have.",
    )


@dataclass(frozen=True, slots=True)
class _Stack:
    """A scene to be fused.

    Attributes:
        records: Its pairs, sorted by the blurred frame's path; all have the same sharp file.
        root: Folder that the paths are relative to.
        stem: Folder and name of the results.
        config: Section `[align]`, for the registration of the frames.
        step: Provenance of the results.
        hot_pixels: Hot and dead pixels to repair in the frames.
    """

    records: tuple[PairRecord, ...]
    root: Path
    stem: Path
    config: AlignConfig
    step: Step
    hot_pixels: HotPixelMap

    @property
    def made_from(self) -> str:
        """Fingerprint of a fusion of this stack; an earlier fusion with the same one is reused."""
        return f"{self.step.version}-{self.step.inputs}"

    @property
    def frames(self) -> tuple[tuple[FileRef, FrameMeta], ...]:
        """Every file once with its metadata, in the order of capture if all times are known, else of paths."""
        first = self.records[0]
        members = [(record.blur, record.blur_meta) for record in self.records]
        members.append((first.sharp, first.sharp_meta))
        timed = all(meta.taken_at for _, meta in members)
        return tuple(sorted(members, key=lambda member: (member[1].taken_at or "" if timed else "", member[0].path)))


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The reason why a stack has no fusion."""

    reason: Reason
    detail: str


def fuse_stacks(
    source: Path,
    out: Path,
    config: FuseConfig,
    align: AlignConfig,
    *,
    develop: DevelopConfig | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Fuses every stack of a manifest into `out/fused/SCENE.*` and writes `out/fused.jsonl`.

    Pairs that belong to no stack are copied unchanged; so are those of a stack that cannot be fused. Earlier fusions of
    the same frames under the same configuration are reused.

    Args:
        source: `ingested.jsonl` of `sdd ingest`.
        out: Folder of the data set.
        config: Section `[fuse]`.
        align: Section `[align]`.
        develop: Section `[develop]`; hot pixels are taken from `hot_pixels.json` beside `source`.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Fuse every stack again.
        track: Shows progress, one step per stack.

    Returns:
        The report; it counts frames. `rejected` are those that were left out of their stacks, by reason;
        `out/fused/left_out.csv` lists them.

    Raises:
        ManifestError: `source` is not a manifest.
        InputError: `out` cannot be written.
    """
    started = time.monotonic()
    workers_of(executor)
    check_output(STAGE, source, out / OUTPUT)
    pairs = _reroot(_read_pairs(source), out)
    hot_pixels = load_for_manifest(source, develop or DevelopConfig())
    stacks = _find_stacks(pairs, out, config, align, hot_pixels)
    _claim_folder(out, stacks, overwrite)
    copy_to(source, out, hot_pixels, overwrite=overwrite)
    finished = {} if overwrite else _read_finished(stacks)
    todo = [stack for stack in stacks if stack.stem not in finished]
    total, new = (sum(len(stack.frames) for stack in some) for some in (stacks, todo))
    records, left_out = _collect(pairs, stacks, {**finished, **_fuse_all(todo, executor, track)})
    rows = [(name, frame.path, frame.reason, frame.detail) for name, frame in left_out]
    write_csv(out / FOLDER / LEFT_OUT, _COLUMNS, rows)
    configurations.copy_configurations(source.parent, out, STAGE, config)
    manifest.write_manifest(out / OUTPUT, Manifest(pairs.root, records))
    return Report(
        stage=STAGE,
        total=total,
        done=new,
        skipped=total - new,
        rejected=dict(sorted(Counter(frame.reason.value for _, frame in left_out if frame.reason).items())),
        seconds=time.monotonic() - started,
        outputs=(str(out / OUTPUT), str(out / FOLDER / LEFT_OUT)),
    )


def _claim_folder(out: Path, stacks: Sequence[_Stack], overwrite: bool) -> None:
    """Marks `out/fused/` by its table before anything else is written there; refuses to replace files of others."""
    table = out / FOLDER / LEFT_OUT
    check_own((out / OUTPUT, table, out / configurations.CONFIGURATIONS, out / RECORDED_CONFIG), overwrite=overwrite)
    if not table.exists():
        unfinished = [stack.stem for stack in stacks if stack_files.read_fusion(_record_file(stack.stem)) is None]
        check_targets([path for stem in unfinished for path in stack_files.result_files(stem)], overwrite=overwrite)
        write_csv(table, _COLUMNS, ())


def _read_finished(stacks: Sequence[_Stack]) -> dict[Path, Fusion | _Refusal]:
    """The fusions of an earlier run of the same frames under the same configuration."""
    fusions = {stack.stem: stack_files.read_fusion(_record_file(stack.stem)) for stack in stacks}
    return {
        stack.stem: fusion
        for stack in stacks
        if (fusion := fusions[stack.stem]) is not None and fusion.made_from == stack.made_from
    }


def _fuse_all(stacks: Sequence[_Stack], executor: str, track: Track) -> dict[Path, Fusion | _Refusal]:
    results: dict[Path, Fusion | _Refusal] = {}
    with track(STAGE, len(stacks)) as advance:
        access = FileAccess(
            folders_of([stack.root / ref.path for stack in stacks for ref, _ in stack.frames]),
            tuple({stack.stem.parent.resolve() for stack in stacks}),
        )
        for outcome in run_tasks(_fuse_stack, stacks, executor, access=access):
            loss = _Refusal(Reason.TIMED_OUT if outcome.timed_out else Reason.WORKER_DIED, "")
            results[outcome.task.stem] = outcome.result or loss
            advance(note=outcome.task.stem.name)
    return results


def _collect(
    pairs: Manifest, stacks: Sequence[_Stack], results: Mapping[Path, Fusion | _Refusal]
) -> tuple[tuple[PairRecord, ...], list[tuple[str, StackFrame]]]:
    """All pairs, those of fused stacks with their picture; and (stack name, frame) of the frames left out."""
    records = {record.id: record for record in pairs.records}
    left_out: list[tuple[str, StackFrame]] = []
    for stack in stacks:
        result = results[stack.stem]
        if isinstance(result, _Refusal):
            frames = [StackFrame(ref.path, reason=result.reason, detail=result.detail) for ref, _ in stack.frames]
        else:
            frames = [frame for frame in result.frames if frame.reason is not None]
            records |= {record.id: record for record in _fused_pairs(stack, result, pairs.root, set(records))}
        left_out += [(stack.stem.name, frame) for frame in frames]
    return tuple(records.values()), left_out


def fuse_frames(
    files: Sequence[Path],
    out: Path,
    align: AlignConfig,
    *,
    reference: Path | None = None,
    strip: bool = False,
    overwrite: bool = False,
) -> Report:
    """Fuses the frames of one stack, without a manifest, into `out/fused.dng` or `.png` with its map and its record.

    Args:
        files: The frames, in the order of their focus.
        out: Folder of the results.
        align: Section `[align]`.
        reference: The one of `files` that gives the framing; None: the one with most detail.
        strip: Copy no metadata to the picture.
        overwrite: Replace an earlier result.

    Raises:
        InputError: `reference` is not among the files, there is an earlier result, or the frames cannot be fused.
        RawError: The reference frame cannot be read or, if it is None, no frame can.
    """
    started = time.monotonic()
    stem = out / "fused"
    check_targets(stack_files.result_files(stem), files, overwrite=overwrite)
    resolved = [path.resolve() for path in files]
    if reference is None:
        index = stack_files.choose_reference(files)
    elif reference.resolve() in resolved:
        index = resolved.index(reference.resolve())
    else:
        raise InputError(f"{reference} is not among the frames", hint="list it among them too")
    fusion = stack_files.fuse_files(_turned_sources(files, index), index, stem, align, strip=strip)
    lost = Counter(frame.reason.value for frame in fusion.frames if frame.reason is not None)
    written = (out / fusion.picture, out / fusion.origin, _record_file(stem))
    seconds = time.monotonic() - started
    return Report(STAGE, len(files), len(files) - lost.total(), 0, dict(lost), seconds, tuple(map(str, written)))


def _turned_sources(files: Sequence[Path], reference: int) -> list[SourceFrame]:
    """The frames, each turned to the reference frame where the orientation tags of one body differ."""

    def turn(path: Path) -> int:
        try:
            return turn_of_blurred(read_meta(path), read_meta(files[reference]))
        except RawError:  # reported where its pixels are read
            return UPRIGHT

    return [SourceFrame(path, path.name, turn=turn(path)) for path in files]


def _read_pairs(source: Path) -> Manifest:
    pairs = manifest.read_manifest(source)
    if not pairs.records:
        raise no_pairs(source)
    return pairs


def _reroot(pairs: Manifest, out: Path) -> Manifest:
    """The same pairs with paths relative to a folder that contains `out` too, where the fused pictures will lie."""
    root = Path(os.path.commonpath([pairs.root.resolve(), out.resolve()]))
    above = pairs.root.resolve().relative_to(root)
    if not above.parts:
        return pairs

    def reroot(ref: FileRef) -> FileRef:
        return replace(ref, path=(above / ref.path).as_posix())

    records = tuple(replace(record, blur=reroot(record.blur), sharp=reroot(record.sharp)) for record in pairs.records)
    return Manifest(root, records)


def _find_stacks(
    pairs: Manifest, out: Path, config: FuseConfig, align: AlignConfig, hot_pixels: HotPixelMap
) -> list[_Stack]:
    by_sharp: dict[tuple[str, str], list[PairRecord]] = defaultdict(list)
    for record in pairs.records:
        by_sharp[record.scene, record.sharp.path].append(record)
    stacks = []
    for _, records in sorted(by_sharp.items()):
        if not config.min_frames <= len(records) + 1 <= stack_files.MAX_FRAMES:
            continue
        members = tuple(sorted(records, key=lambda record: record.blur.path))
        # Scenes may have any name; ids are safe file names.
        stem = out.resolve() / FOLDER / min(record.id for record in members)
        first = members[0]
        frames = [record.blur.sha256 for record in members]
        inputs = {"frames": frames, "align": align.fingerprint(), **hot_pixels.inputs(first)}
        step = manifest.step_of(STAGE, config, first, **inputs)
        stacks.append(_Stack(members, pairs.root, stem, align, step, hot_pixels))
    return stacks


def _record_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.json")


def _fuse_stack(stack: _Stack) -> Fusion | _Refusal:
    """Fuses one stack in a worker process; raises only errors that concern every stack, such as a full disk."""
    for record in stack.records:
        if change := describe_change(
            Job(record=record, root=stack.root, folder=stack.stem.parent, config=stack.config)
        ):
            return _Refusal(Reason.CHANGED, change)
    turns = {record.blur.path: record.blur_turn for record in stack.records}
    sources = [
        SourceFrame(
            resolve_inside(stack.root, ref.path), ref.path, stack.hot_pixels.of(meta), turns.get(ref.path, UPRIGHT)
        )
        for ref, meta in stack.frames
    ]
    reference = [source.name for source in sources].index(stack.records[0].sharp.path)
    try:
        return stack_files.fuse_files(sources, reference, stack.stem, stack.config, stack.made_from)
    except RawError as error:
        return _Refusal(Reason.UNREADABLE, error.what.replace(f"{stack.root}/", ""))
    except stack_files.UnfusableError as error:
        return _Refusal(Reason.NOT_ALIGNED, error.what)


def _fused_pairs(stack: _Stack, fusion: Fusion, root: Path, taken: set[str]) -> list[PairRecord]:
    """The pairs of a fused stack: every frame, its reference included, with the fused picture as the sharp frame."""
    first = stack.records[0]
    folder = stack.stem.parent.resolve().relative_to(root)
    sharp = FileRef((folder / fusion.picture).as_posix(), fusion.bytes, fusion.sha256)
    meta = first.sharp_meta
    fused_meta = replace(meta, orientation=1, size=fusion.size, exposure=replace(meta.exposure, focus_m=None))
    name = f"{stack.stem.name}-reference"
    while name in taken:
        name += "-1"
    as_blur = replace(first, id=name, blur=first.sharp, blur_meta=meta, blur_turn=UPRIGHT)
    as_blur = replace(as_blur, notes=conversion_notes(meta, fused_meta))
    return [
        replace(
            record,
            sharp=sharp,
            sharp_meta=fused_meta,
            history=(*manifest.history_before(record, STAGE), stack.step),
        )
        for record in (*stack.records, as_blur)
    ]
