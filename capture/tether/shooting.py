"""Taking the frames that are left of a plan, through lost connections and interruptions.

The order for each frame: set, read back, move the focus, let it settle; note down what lies on the card; trigger,
download, note down the hashes, write the files whole, look at them, write the journal's line; only then delete on the
camera, if that is wanted at all. Wherever this is cut off, `_recovered` knows what to do.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.tether import frame_settings, shot_check
from capture.tether.camera import (
    CameraFullError,
    CameraLostError,
    CameraRefusedError,
    retry,
    set_and_confirm,
    sort_raw_first,
)
from capture.tether.interrupts import defer_interrupt
from capture.tether.journal import FinishedFrame, FocusState, FrameInFlight, SessionState, new_header
from sdd_toolkit.errors import CameraError, RawError
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.metadata import exif
from sdd_toolkit.records import Exposure, FileRef
from sdd_toolkit.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.tether.camera import Camera
    from capture.tether.journal import Journal
    from capture.tether.operator import Operator
    from capture.tether.plan import PlannedShot, ShootingPlan
    from sdd_toolkit.execution.progress import Advance, Track
    from sdd_toolkit.imaging.frame import HalfFrame

_log = logging.getLogger(__name__)
_MAX_PAUSE_S = 8.0
_CONNECT_TIMEOUT_S = 5.0
_RECOVERED_WARNING = "fetched from the camera after an interruption; see that it is the right frame"


class PlanShooter:
    """One run's work at the camera."""

    def __init__(self, plan: ShootingPlan, journal: Journal, connect: Callable[[], Camera], operator: Operator) -> None:
        self._plan, self._journal, self._connect, self._operator = plan, journal, connect, operator
        self._limits = plan.session
        self._camera: Camera | None = None
        self._on_card: tuple[str, ...] = ()
        self._last: tuple[str, HalfFrame] | None = None
        self._stale: set[str] = set()
        self._run = 1 if journal.header is None else journal.header.runs + 1
        self._done = 0

    def shoot(self, waiting: Sequence[PlannedShot], track: Track) -> tuple[str, ...]:
        """Takes all of `waiting`, scene by scene.

        Returns:
            Warnings that belong to no file.

        Raises:
            CameraError: The camera cannot do what is asked, or is lost for good.
        """
        said: list[str] = []
        try:
            self._open(waiting)
            lens = self._journal.state.lens
            if lens is not None and lens.scene != waiting[0].scene:
                self._return_lens()
            with track("capture", len(waiting)) as advance:
                for scene, group in itertools.groupby(waiting, key=lambda shot: shot.scene):
                    self._operator.wait_until_ready(scene, self._plan.notes.get(scene, ""))
                    todo, words = self._after_an_interruption(scene, list(group))
                    said += words
                    while not self._take_all(todo, len(waiting), advance):
                        todo = self._frames_of(scene)
                    self._return_lens()
            self._journal.save_state(SessionState())
        finally:
            self._journal.close()
            if self._camera is not None:
                self._camera.close()
        return tuple(said)

    def _frames_of(self, scene: str) -> list[PlannedShot]:
        return [shot for shot in self._plan.shots if shot.scene == scene]

    def _after_an_interruption(self, scene: str, todo: list[PlannedShot]) -> tuple[list[PlannedShot], list[str]]:
        """What to take of a scene some of which may be finished, and what to say about it."""
        words: list[str] = []
        lens = self._journal.state.lens
        if lens is not None and lens.scene == scene and (lens.at or lens.moving_to is not None):
            if self._operator.confirm_refocused(scene, lens):
                self._journal.save_state(SessionState(lens=FocusState(scene)))
                return self._frames_of(scene), []
            if lens.moving_to is not None:
                words.append(f"{scene}: a focus move was cut off and is taken as done; look at its frames")
        return todo, words

    def _take_all(self, shots: Sequence[PlannedShot], total: int, advance: Advance) -> bool:
        """Takes the frames of a scene; False if the operator wants the scene again."""
        self._stale = {shot.stem for shot in shots}
        for place, shot in enumerate(shots, 1):
            taken, complaints = self._take(shot)
            self._done += 1
            advance(note=taken.file)
            self._operator.report(f"{self._done}/{total} {_format_progress(taken)}")
            if complaints and self._operator.confirm_reshoot(shot.scene, complaints):
                advance(-place)
                self._done -= place
                return False
        return True

    def _take(self, shot: PlannedShot) -> tuple[FinishedFrame, tuple[str, ...]]:
        """One frame, whatever happens to the connection meanwhile; and what its check found."""
        for attempt in itertools.count(1):
            try:
                # A new connection may fail as the old one did, hence within the attempt.
                if self._camera is None:
                    self._open([shot])
                return self._recovered(shot) or self._expose(shot)
            except (CameraLostError, CameraRefusedError) as error:
                if attempt > self._limits.retries:
                    if isinstance(error, CameraRefusedError):
                        self._stand_down()
                        raise
                    raise CameraLostError(
                        f"the camera did not come back after {self._limits.retries} attempts: {error.what}",
                        hint="check cable and battery, then run the same command again to resume",
                    ) from error
                _log.warning("%s: %s; connecting again, %d of %d", shot.stem, error.what, attempt, self._limits.retries)
                self._drop()
                time.sleep(min(0.25 * 2.0**attempt, _MAX_PAUSE_S))
        raise AssertionError("unreachable")

    def _open(self, waiting: Sequence[PlannedShot]) -> None:
        """Connects, sets what is set once, and finds out whether the camera can do the rest."""
        camera = self._camera = retry(self._connect, min(self._limits.timeout_s, _CONNECT_TIMEOUT_S))
        header, lens = self._journal.header, self._journal.state.lens
        timeout_s, once = self._limits.timeout_s, self._plan.camera.settings
        retry(lambda: frame_settings.apply_session_settings(camera, once, self._limits.mirror_up, timeout_s), timeout_s)
        start_s = (
            header.shutter_s if header is not None else retry(lambda: frame_settings.read_shutter_s(camera), timeout_s)
        )
        retry(lambda: frame_settings.check_shots(camera, waiting, start_s), timeout_s)
        self._journal.start(new_header(self._plan.fingerprint(), camera.model, start_s, self._run))
        self._on_card = retry(camera.list_files, timeout_s)
        if lens is not None and not camera.keeps_focus:
            self._journal.save_state(SessionState(self._journal.state.flight, FocusState(lens.scene)))

    def _drop(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self._camera = None

    def _opened(self) -> Camera:
        if self._camera is None:
            raise CameraLostError("the camera is not connected", hint="run the same command again to resume")
        return self._camera

    def _expose(self, shot: PlannedShot) -> tuple[FinishedFrame, tuple[str, ...]]:
        camera, header = self._opened(), self._journal.header
        camera.announce(shot)
        start_s = header.shutter_s if header is not None else None
        dialled = retry(lambda: frame_settings.resolve_settings(camera, shot, start_s), self._limits.timeout_s)
        held = {
            setting.name: set_and_confirm(camera, setting, value, self._limits.timeout_s)
            for setting, value in dialled.settings
        }
        if shot.focus_steps is not None:
            lens = self._journal.state.lens
            self._drive(
                lens if lens is not None and lens.scene == shot.scene else FocusState(shot.scene), shot.focus_steps
            )
        time.sleep(self._limits.settle_s + self._limits.timer_s)
        flight = FrameInFlight(
            shot=shot.fingerprint(),
            before=self._on_card,
            asked={setting.name: value for setting, value in dialled.settings},
            held=held,
            exposure=dialled.exposure,
            residual_ev=dialled.residual_ev,
            warnings=dialled.warnings,
            run=self._run,
        )
        with defer_interrupt():
            self._journal.save_state(SessionState(flight, self._journal.state.lens))
            try:
                paths = retry(lambda: camera.capture(self._limits.timeout_s), self._limits.timeout_s)
            except CameraFullError:
                self._stand_down()
                raise
            return self._fetch(shot, flight, paths)

    def _stand_down(self) -> None:
        """No frame was taken: whatever appears on the card from now on is somebody else's."""
        self._journal.save_state(SessionState(lens=self._journal.state.lens))

    def _drive(self, lens: FocusState, target: int) -> None:
        """Moves the focus to `target` steps from the scene's start, noted down before and after."""
        flight, camera = self._journal.state.flight, self._opened()
        # A move that was not seen to end counts as done: most often it was.
        start = lens.at if lens.moving_to is None else lens.moving_to
        if target != start:
            self._journal.save_state(SessionState(flight, FocusState(lens.scene, start, moving_to=target)))
            retry(lambda: camera.drive_focus(target - start), self._limits.timeout_s)
        self._journal.save_state(SessionState(flight, FocusState(lens.scene, target)))

    def _return_lens(self) -> None:
        """Back to where the lens stood at the scene's start: the next scene, or a repetition, begins there."""
        lens = self._journal.state.lens
        if lens is not None:
            self._drive(lens, 0)
        self._journal.save_state(SessionState(self._journal.state.flight))

    def _recovered(self, shot: PlannedShot) -> tuple[FinishedFrame, tuple[str, ...]] | None:
        """The frame an interruption left on the disk or on the camera; None if it was not taken."""
        flight = self._journal.state.flight
        if flight is None or flight.shot != shot.fingerprint():
            return None
        if flight.files and all(_is_intact(self._journal, ref) for ref in flight.files):
            return self._note(shot, flight, recovered=True)
        fresh = [path for path in self._opened().list_files() if path not in flight.before]
        if len({PurePosixPath(path).with_suffix("") for path in fresh}) == 1:
            flight = replace(flight, warnings=(*flight.warnings, _RECOVERED_WARNING))
            return self._fetch(shot, flight, sort_raw_first(fresh), recovered=True)
        if fresh:
            _log.warning("%s: %d new files on the camera, none of them surely this frame", shot.stem, len(fresh))
        return None

    def _fetch(
        self, shot: PlannedShot, flight: FrameInFlight, paths: Sequence[str], *, recovered: bool = False
    ) -> tuple[FinishedFrame, tuple[str, ...]]:
        """From the camera to the disk and into the journal."""
        camera, content = self._opened(), dict[str, bytes]()
        self._on_card = tuple(sorted({*self._on_card, *paths}))
        for path in paths:
            name = shot.stem + PurePosixPath(path).suffix.lower()
            content[name] = retry(lambda path=path: camera.download(path), self._limits.timeout_s)  # type: ignore[misc]
        refs = tuple(FileRef(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items())
        flight = replace(flight, files=refs)
        self._journal.save_state(SessionState(flight, self._journal.state.lens))
        for name, data in content.items():
            files.write_bytes(files.resolve_inside(self._journal.folder, name), data)
        noted = self._note(shot, flight, recovered=recovered)
        for path in paths if self._limits.delete_from_camera else ():
            camera.delete(path)
            self._on_card = tuple(other for other in self._on_card if other != path)
        return noted

    def _note(
        self, shot: PlannedShot, flight: FrameInFlight, *, recovered: bool
    ) -> tuple[FinishedFrame, tuple[str, ...]]:
        """Looks at a frame that is whole on the disk and writes its line."""
        raw, before = flight.files[0], self._journal.taken.get(shot.stem)
        told, mismatches = self._exif(flight)
        taken = FinishedFrame(
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
            exif=told,
            camera=self._opened().model,
            time=datetime.now().astimezone().isoformat(timespec="milliseconds"),
            recovered=recovered,
            run=flight.run,
        )
        self._stale.discard(shot.stem)
        checked, complaints = self._checked(taken)
        taken = replace(checked, warnings=(*flight.warnings, *mismatches, *complaints))
        self._journal.append(taken)
        names = {ref.path for ref in taken.files}
        for ref in before.files if before is not None else ():
            if ref.path not in names:
                files.resolve_inside(self._journal.folder, ref.path).unlink(missing_ok=True)
        return taken, complaints

    def _exif(self, flight: FrameInFlight) -> tuple[Exposure, tuple[str, ...]]:
        """What the file tells, and where that is not what was set."""
        path = self._journal.folder / flight.files[0].path
        if self._limits.exif == "off":
            return Exposure(), ()
        try:
            told = exif.read_meta(path).exposure
        except RawError as error:
            return Exposure(), (f"its EXIF cannot be read: {error.what}",)
        mismatches = shot_check.exif_mismatches(flight.exposure, told)
        if mismatches and self._limits.exif == "strict":
            for ref in flight.files:
                files.resolve_inside(self._journal.folder, ref.path).unlink(missing_ok=True)
            self._journal.save_state(SessionState(lens=self._journal.state.lens))
            raise CameraError(
                f"{flight.files[0].path} is not what was asked for: {'; '.join(mismatches)}",
                hint='the frame stays on the camera; turn it to M, or set exif = "warn" in [session]',
            )
        return told, mismatches

    def _checked(self, taken: FinishedFrame) -> tuple[FinishedFrame, tuple[str, ...]]:
        """The frame's numbers and those of its pair, and what is wrong with them."""
        if not self._plan.check.enabled:
            return taken, ()
        try:
            half = frames.read_half(files.resolve_inside(self._journal.folder, taken.file))
        except RawError as error:
            return taken, (f"cannot be looked at: {error.what}",)
        numbers, pair = shot_check.check_frame(half), self._pair(taken, half)
        self._last = taken.file, half
        return replace(taken, frame=numbers, pair=pair), shot_check.find_problems(numbers, pair, self._plan.check)

    def _pair(self, taken: FinishedFrame, half: HalfFrame) -> shot_check.PairCheck | None:
        # Not with a frame that is about to be taken again.
        others = [
            other
            for stem, other in self._journal.taken.items()
            if (other.scene, other.repeat) == (taken.scene, taken.repeat)
            and other.role != taken.role
            and stem not in self._stale
        ]
        if not others:
            return None
        other = others[-1]
        try:
            known = self._last is not None and self._last[0] == other.file
            place = files.resolve_inside(self._journal.folder, other.file)
            partner = self._last[1] if self._last and known else frames.read_half(place)
        except RawError:
            return None
        blur, sharp = (half, partner) if taken.role == "blur" else (partner, half)
        return shot_check.check_pair(blur, sharp, other.file)


def _is_intact(journal: Journal, ref: FileRef) -> bool:
    path = files.resolve_inside(journal.folder, ref.path)
    return path.is_file() and path.stat().st_size == ref.bytes and files.sha256_of(path) == ref.sha256


def _format_progress(taken: FinishedFrame) -> str:
    """One line on a frame, for people."""
    words = [taken.file, " ".join(taken.held.values())]
    if taken.frame is not None:
        words.append(f"{shot_check.histogram_bar(taken.frame)} clipped {taken.frame.clipped_fraction:.1%}")
    if taken.pair is not None:
        words.append(f"pair {taken.pair.exposure_ev:+.2f} EV, detail x{taken.pair.sharpness_gain:.2f}")
    words += ["recovered"] if taken.recovered else []
    words += [f"! {word}" for word in taken.warnings]
    return "  ".join(word for word in words if word)
