"""A capture session: a plan becomes files, and a run that was cut off goes on where it stopped.

What is finished is known from the journal and proved by hashes; `shooting` takes the rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.tether.journal import Journal, SessionState, remove_partial_files, session_lock
from capture.tether.shooting import PlanShooter
from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.records import Report
from sdd_toolkit.storage import files
from sdd_toolkit.storage.files import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from capture.tether.camera import Camera
    from capture.tether.journal import FinishedFrame
    from capture.tether.operator import Operator
    from capture.tether.plan import PlannedShot, ShootingPlan
    from sdd_toolkit.execution.progress import Track

_NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """What a run did.

    Attributes:
        report: In the usual shape; `skipped` are frames finished before, their hashes verified.
        warnings: What is to be looked at, by file.
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
    """Shoots what of `plan` is not in `out` yet.

    Args:
        plan: The shot list.
        out: Folder of the session; made if missing.
        connect: Opens the camera; called again when the connection was lost, not at all when nothing is to do.
        operator: Is asked, and told.
        reshoot: Scenes to shoot again although they are finished.
        overwrite: Shoots everything again.
        track: Shows progress.

    Raises:
        CameraError: The camera cannot do what the plan asks, or is lost for good; another run holds the folder.
        InputError: The folder holds other frames than the plan's, or cannot be written.
        IntegrityError: Frames are missing or altered, and the operator does not want them again.
    """
    started = time.monotonic()
    with session_lock(out):
        remove_partial_files({out, *((out / shot.stem).parent for shot in plan.shots)})
        journal = Journal(out, lenient=overwrite)
        waiting = _remaining_shots(plan, journal, operator, reshoot, overwrite)
        skipped = len(plan.shots) - len(waiting)
        warnings = (
            PlanShooter(plan, journal, connect, operator).shoot(waiting, track) if waiting else _clear_state(journal)
        )
        stems = {shot.stem for shot in plan.shots}
        noted = [*_group_warnings(journal), *_interrupted_scenes(journal, stems)]
        left = [taken.file for stem, taken in journal.taken.items() if stem not in stems]
        if left:
            noted.append(f"{len(left)} frames of an earlier plan stay: {_join_names(left)}")
    report = Report(
        stage="capture",
        total=len(plan.shots),
        done=len(waiting),
        skipped=skipped,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(out),),
    )
    return SessionOutcome(report, (*warnings, *noted))


def _remaining_shots(
    plan: ShootingPlan, journal: Journal, operator: Operator, reshoot: Sequence[str], overwrite: bool
) -> list[PlannedShot]:
    """The frames to take: those without a whole file that the journal vouches for."""
    scenes = {shot.scene for shot in plan.shots}
    for name in reshoot:
        if name not in scenes:
            raise InputError(f"the plan has no scene {name!r}", hint=f"scenes: {_join_names(sorted(scenes))}")
    waiting: list[PlannedShot] = []
    changed: list[str] = []
    problems: list[str] = []
    for shot in plan.shots:
        taken = journal.taken.get(shot.stem)
        if taken is None or overwrite or shot.scene in reshoot:
            waiting.append(shot)
        elif journal.state.flight is not None and journal.state.flight.shot == shot.fingerprint():
            waiting.append(shot)  # a repetition that was cut off: the old frame may be half replaced
        elif taken.shot != shot.fingerprint():
            changed.append(shot.stem)
        elif problem := _find_damage(journal.folder, taken):
            problems.append(problem)
            waiting.append(shot)
    if changed:
        raise InputError(
            f"the plan now asks for other frames than {journal.folder} holds: {_join_names(changed)}",
            hint="--reshoot SCENE shoots a scene again as the plan has it now; or choose another folder",
        )
    if problems and not operator.confirm_replacement(problems):
        raise IntegrityError(
            f"{len(problems)} finished frames are not as they were written: {_join_names(problems)}",
            hint="restore them, or pass --yes to shoot them again",
        )
    strangers = [] if overwrite else _unexpected_files(journal, waiting)
    if strangers:
        raise InputError(
            f"{journal.folder} holds files that this session did not write: {_join_names(strangers)}",
            hint="move them, choose another folder, or pass --overwrite",
        )
    return waiting


def _find_damage(folder: Path, taken: FinishedFrame) -> str:
    for ref in taken.files:
        path = files.resolve_inside(folder, ref.path)
        if not path.is_file():
            return f"{ref.path} is missing"
        if path.stat().st_size != ref.bytes or files.sha256_of(path) != ref.sha256:
            return f"{ref.path} is not what was written"
    return ""


def _unexpected_files(journal: Journal, waiting: Sequence[PlannedShot]) -> list[str]:
    """Files in the way of `waiting` that neither the journal nor the frame in flight knows."""
    flight = journal.state.flight
    ours = {ref.path for taken in journal.taken.values() for ref in taken.files}
    ours |= {ref.path for ref in flight.files} if flight else set()
    found = []
    for shot in waiting:
        path = journal.folder / shot.stem
        beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        names = [str(PurePosixPath(shot.stem).with_name(entry.name)) for entry in beside if entry.stem == path.name]
        found += [name for name in names if name not in ours and not name.endswith(PARTIAL)]
    return found


def _group_warnings(journal: Journal) -> list[str]:
    """Each warning once, with the frames it is about."""
    files_of: dict[str, list[str]] = {}
    for taken in journal.taken.values():
        for word in taken.warnings:
            files_of.setdefault(word, []).append(taken.file)
    return [f"{word}: {_join_names(names)}" for word, names in files_of.items()]


def _interrupted_scenes(journal: Journal, stems: set[str]) -> list[str]:
    """Which of the plan's pairs an interruption tore: whoever came to the camera in between may have moved it."""
    runs: dict[tuple[str, int], set[int]] = {}
    for taken in (taken for stem, taken in journal.taken.items() if stem in stems):
        runs.setdefault((taken.scene, taken.repeat), set()).add(taken.run)
    torn = list(dict.fromkeys(scene for (scene, _), of in runs.items() if len(of) > 1))
    return (
        [f"interrupted between the frames of a pair (--reshoot if anything moved): {_join_names(torn)}"] if torn else []
    )


def _clear_state(journal: Journal) -> tuple[str, ...]:
    """Ends what a kill after the last frame left open."""
    lens = journal.state.lens
    journal.save_state(SessionState())
    moved = lens is not None and (lens.at or lens.moving_to)
    return (f"{lens.scene}: the lens was not driven back to its start",) if lens is not None and moved else ()


def _join_names(words: Sequence[str]) -> str:
    return ", ".join(words[:_NAMES_SHOWN]) + (
        f" and {len(words) - _NAMES_SHOWN} more" if len(words) > _NAMES_SHOWN else ""
    )
