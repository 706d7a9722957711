"""Checks a frame that is complete on the disk, and records it in the session's journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from capture.tether import shot_check
from capture.tether.journal import FinishedFrame
from sdd_toolkit.errors import CameraError, RawError
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.metadata import exif
from sdd_toolkit.records import Exposure
from sdd_toolkit.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from capture.tether.journal import FrameInFlight, Journal
    from capture.tether.plan import PlannedShot, ShootingPlan
    from sdd_toolkit.imaging.frame import HalfFrame
    from sdd_toolkit.records import FileRef


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame as recorded in the journal, and the problems found by its check."""

    frame: FinishedFrame
    problems: tuple[str, ...]


class FrameRecorder:
    """Checks frames by the limits of the plan, and appends them to the journal."""

    def __init__(self, plan: ShootingPlan, journal: Journal) -> None:
        self._plan, self._journal = plan, journal
        self._last: tuple[str, HalfFrame] | None = None
        self._outdated: set[str] = set()

    def start_scene(self, shots: Iterable[PlannedShot]) -> None:
        """Earlier frames of `shots` are about to be replaced; no other frame is checked against them."""
        self._outdated = {shot.stem for shot in shots}

    def record(self, shot: PlannedShot, flight: FrameInFlight, camera: str, *, recovered: bool) -> RecordedFrame:
        """Checks the files of `flight`, appends their line to the journal, and deletes the files they replace.

        Raises:
            CameraError: The EXIF contradicts the settings, and the plan is strict about it.
        """
        raw, replaced = flight.files[0], self._journal.taken.get(shot.stem)
        exposure, mismatches = self._check_exif(flight)
        frame = FinishedFrame(
            scene=shot.scene,
            kind=shot.kind,
            role=shot.role,
            repeat=shot.repeat,
            file=raw.path,
            bytes=raw.bytes,
            sha256=raw.sha256,
            shot=flight.shot,
            also=flight.files[1:],
            asked=flight.asked,
            held=flight.held,
            residual_ev=flight.residual_ev,
            focus_steps=shot.focus_steps,
            exif=exposure,
            camera=camera,
            time=datetime.now().astimezone().isoformat(timespec="milliseconds"),
            recovered=recovered,
            run=flight.run,
        )
        self._outdated.discard(shot.stem)
        checked = self._check(frame)
        frame = replace(checked.frame, warnings=(*flight.warnings, *mismatches, *checked.problems))
        self._journal.append(frame)
        names = {ref.path for ref in frame.files}
        if replaced is not None:
            self._delete(ref for ref in replaced.files if ref.path not in names)
        return RecordedFrame(frame, checked.problems)

    def is_intact(self, ref: FileRef) -> bool:
        """Whether a file of the session has the size and the hash with which it was written."""
        path = files.resolve_inside(self._journal.folder, ref.path)
        return path.is_file() and path.stat().st_size == ref.bytes and files.sha256_of(path) == ref.sha256

    def _delete(self, refs: Iterable[FileRef]) -> None:
        for ref in refs:
            files.resolve_inside(self._journal.folder, ref.path).unlink(missing_ok=True)

    def _check_exif(self, flight: FrameInFlight) -> tuple[Exposure, tuple[str, ...]]:
        """The exposure settings in the file's EXIF, and their contradictions to the camera's settings."""
        mode, name = self._plan.session.exif, flight.files[0].path
        if mode == "off":
            return Exposure(), ()
        try:
            exposure = exif.read_meta(self._journal.folder / name).exposure
        except RawError as error:
            return Exposure(), (f"its EXIF cannot be read: {error.what}",)
        mismatches = shot_check.exif_mismatches(flight.exposure, exposure)
        if mismatches and mode == "strict":
            self._delete(flight.files)
            self._journal.save_flight(None)
            raise CameraError(
                f"{name} is not what was asked for: {'; '.join(mismatches)}",
                hint='the frame stays on the camera; turn it to M, or set exif = "warn" in [session]',
            )
        return exposure, mismatches

    def _check(self, frame: FinishedFrame) -> RecordedFrame:
        """The frame with its check and that of its pair, and the problems found."""
        if not self._plan.check.enabled:
            return RecordedFrame(frame, ())
        try:
            half = frames.read_half(files.resolve_inside(self._journal.folder, frame.file))
        except RawError as error:
            return RecordedFrame(frame, (f"cannot be looked at: {error.what}",))
        frame_check, pair_check = shot_check.check_frame(half), self._check_pair(frame, half)
        self._last = frame.file, half
        problems = shot_check.find_problems(frame_check, pair_check, self._plan.check)
        return RecordedFrame(replace(frame, frame=frame_check, pair=pair_check), problems)

    def _check_pair(self, frame: FinishedFrame, half: HalfFrame) -> shot_check.PairCheck | None:
        """The check against the scene's last frame of the other role; None if there is none."""
        others = [
            other
            for stem, other in self._journal.taken.items()
            if (other.scene, other.repeat) == (frame.scene, frame.repeat)
            and other.role != frame.role
            and stem not in self._outdated
        ]
        if not others:
            return None
        file = others[-1].file
        try:
            is_last = self._last is not None and self._last[0] == file
            path = files.resolve_inside(self._journal.folder, file)
            partner = self._last[1] if self._last and is_last else frames.read_half(path)
        except RawError:
            return None
        blur, sharp = (half, partner) if frame.role == "blur" else (partner, half)
        return shot_check.check_pair(blur, sharp, file)


def format_progress(frame: FinishedFrame) -> str:
    """One line on a frame, for the photographer."""
    words = [frame.file, " ".join(frame.held.values())]
    if frame.frame is not None:
        words.append(f"{shot_check.histogram_bar(frame.frame)} clipped {frame.frame.clipped_fraction:.1%}")
    if frame.pair is not None:
        words.append(f"pair {frame.pair.exposure_ev:+.2f} EV, detail x{frame.pair.sharpness_gain:.2f}")
    words += ["recovered"] if frame.recovered else []
    words += [f"! {warning}" for warning in frame.warnings]
    return "  ".join(word for word in words if word)
