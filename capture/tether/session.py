"""A capture session: shoots the frames of a plan that are not in the session's folder yet.

The journal lists the finished frames, and their hashes prove them; `shooting` takes the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.tether.camera import join_names
from capture.tether.journal import Journal, SessionState, remove_partial_files, session_lock
from capture.tether.shooting import PlanShooter
from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.records import Report
from sdd_toolkit.storage import files
from sdd_toolkit.storage.files import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from capture.tether.camera import Camera
    from capture.tether.journal import FinishedFrame
    from capture.tether.operator import Operator
    from capture.tether.plan import PlannedShot, ShootingPlan
    from sdd_toolkit.execution.progress import Track

_NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """The result of a run.

    Attributes:
        report: The counts; `skipped` are frames finished before, their hashes verified.
        warnings: Warnings with the files they are about.
    """

    report: Report
    warnings: tuple[str, ...]


def shoot_plan(
    plan: ShootingPlan,
    out: Path,
    connect: Callable[[], Camera],
    operator: Operator,
    *,
    reshoot: Sequence[str] = (),
    overwrite: bool = False,
    track: Track = silent,
) -> SessionOutcome:
    """Shoots the frames of `plan` that are not in `out` yet.

    Args:
        plan: The shot list.
        out: Folder of the session; created if missing.
        connect: Opens the camera; called again after a lost connection, and not at all if no frame remains.
        operator: Confirms steps and receives progress lines.
        reshoot: Scenes to shoot again although they are finished.
        overwrite: Shoots everything again.
        track: Shows progress.

    Raises:
        CameraError: The camera cannot take the planned frames, or is lost; another run holds the folder.
        InputError: The folder holds other frames than the plan's, or cannot be written.
        IntegrityError: Frames are missing or altered, and the operator declines to shoot them again.
    """
    started = time.monotonic()
    with session_lock(out):
        remove_partial_files({out, *((out / shot.stem).parent for shot in plan.shots)})
        journal = Journal(out, lenient=overwrite)
        shots = _remaining_shots(plan, journal, operator, reshoot, overwrite)
        warnings = PlanShooter(plan, journal, connect, operator).shoot(shots, track) if shots else _clear_state(journal)
        stems = {shot.stem for shot in plan.shots}
        warnings = (*warnings, *_group_warnings(journal), *_interrupted_scenes(journal, stems))
        superseded = [frame.file for stem, frame in journal.taken.items() if stem not in stems]
        if superseded:
            names = join_names(superseded, _NAMES_SHOWN)
            warnings = (*warnings, f"{len(superseded)} frames of an earlier plan stay: {names}")
    report = Report(
        stage="capture",
        total=len(plan.shots),
        done=len(shots),
        skipped=len(plan.shots) - len(shots),
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )
    return SessionOutcome(report, warnings)


def _remaining_shots(
    plan: ShootingPlan, journal: Journal, operator: Operator, reshoot: Sequence[str], overwrite: bool
) -> list[PlannedShot]:
    """The frames to take: those that are not intact on the disk.

    Raises:
        InputError: See `shoot_plan`.
        IntegrityError: See `shoot_plan`.
    """
    scenes = {shot.scene for shot in plan.shots}
    for name in reshoot:
        if name not in scenes:
            raise InputError(
                f"the plan has no scene {name!r}", hint=f"scenes: {join_names(sorted(scenes), _NAMES_SHOWN)}"
            )
    finished = {
        shot.stem: shot
        for shot in plan.shots
        if not overwrite and shot.scene not in reshoot and not _must_be_taken(shot, journal)
    }
    _check_unchanged(finished, journal)
    damages = {stem: damage for stem in finished if (damage := _find_damage(journal.folder, journal.taken[stem]))}
    if damages and not operator.confirm_replacement(list(damages.values())):
        raise IntegrityError(
            f"{len(damages)} finished frames are not as they were written: "
            f"{join_names(list(damages.values()), _NAMES_SHOWN)}",
            hint="restore them, or pass --yes to shoot them again",
        )
    remaining = [shot for shot in plan.shots if shot.stem in damages or shot.stem not in finished]
    if not overwrite:
        _check_no_foreign_files(remaining, journal)
    return remaining


def _must_be_taken(shot: PlannedShot, journal: Journal) -> bool:
    """Whether a frame is not in the journal, or its repetition was interrupted: files may be half replaced."""
    flight = journal.state.flight
    return shot.stem not in journal.taken or (flight is not None and flight.shot == shot.fingerprint())


def _check_unchanged(finished: dict[str, PlannedShot], journal: Journal) -> None:
    changed = [stem for stem, shot in finished.items() if journal.taken[stem].shot != shot.fingerprint()]
    if changed:
        raise InputError(
            f"the plan now asks for other frames than {journal.folder} holds: {join_names(changed, _NAMES_SHOWN)}",
            hint="--reshoot SCENE shoots a scene again as the plan has it now; or choose another folder",
        )


def _find_damage(folder: Path, frame: FinishedFrame) -> str:
    """The first file of a frame that is missing or altered, in words; empty if all are intact."""
    for ref in frame.files:
        path = files.resolve_inside(folder, ref.path)
        if not path.is_file():
            return f"{ref.path} is missing"
        if path.stat().st_size != ref.bytes or files.sha256_of(path) != ref.sha256:
            return f"{ref.path} is not what was written"
    return ""


def _check_no_foreign_files(shots: Sequence[PlannedShot], journal: Journal) -> None:
    """Refuses to overwrite files under the names of `shots` that the session did not write."""
    flight = journal.state.flight
    written = {ref.path for frame in journal.taken.values() for ref in frame.files}
    written |= {ref.path for ref in flight.files} if flight else set()
    foreign = []
    for shot in shots:
        path = journal.folder / shot.stem
        entries = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        names = [str(PurePosixPath(shot.stem).with_name(entry.name)) for entry in entries if entry.stem == path.name]
        foreign += [name for name in names if name not in written and not name.endswith(PARTIAL)]
    if foreign:
        raise InputError(
            f"{journal.folder} holds files that this session did not write: {join_names(foreign, _NAMES_SHOWN)}",
            hint="move them, choose another folder, or pass --overwrite",
        )


def _group_warnings(journal: Journal) -> list[str]:
    """Each warning once, with the frames it is about."""
    files_of: dict[str, list[str]] = {}
    for frame in journal.taken.values():
        for warning in frame.warnings:
            files_of.setdefault(warning, []).append(frame.file)
    return [f"{warning}: {join_names(names, _NAMES_SHOWN)}" for warning, names in files_of.items()]


def _interrupted_scenes(journal: Journal, stems: Collection[str]) -> list[str]:
    """A warning with the scenes whose pairs were taken in two runs: the camera may have been moved in between."""
    runs: dict[tuple[str, int], set[int]] = {}
    for frame in (frame for stem, frame in journal.taken.items() if stem in stems):
        runs.setdefault((frame.scene, frame.repeat), set()).add(frame.run)
    scenes = list(dict.fromkeys(scene for (scene, _), numbers in runs.items() if len(numbers) > 1))
    if not scenes:
        return []
    names = join_names(scenes, _NAMES_SHOWN)
    return [f"interrupted between the frames of a pair (--reshoot if anything moved): {names}"]


def _clear_state(journal: Journal) -> tuple[str, ...]:
    """Removes the state that a kill after the last frame left, and warns of a focus that was not driven back."""
    focus = journal.state.lens
    journal.save_state(SessionState())
    moved = focus is not None and (focus.at or focus.moving_to)
    return (f"{focus.scene}: the lens was not driven back to its start",) if focus is not None and moved else ()
