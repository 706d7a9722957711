"""Takes the remaining frames of a plan, through lost connections and interruptions.

The order for each frame: set, read back, move the focus, let it settle; save the list of files on the card; trigger,
download, save the hashes, write the files, check them, write the journal's line; only then delete the frame on the
camera, if the plan says so. Wherever this is interrupted, `_recover` resumes it.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.tether import frame_settings
from capture.tether.camera import (
    CameraFullError,
    CameraLostError,
    CameraRefusedError,
    retry,
    set_and_confirm,
    sort_raw_first,
)
from capture.tether.interrupts import defer_interrupt
from capture.tether.journal import FocusState, FrameInFlight, SessionState, new_header
from capture.tether.recording import FrameRecorder, format_progress
from sdd_toolkit.records import FileRef
from sdd_toolkit.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.tether.camera import Camera
    from capture.tether.journal import Journal
    from capture.tether.operator import Operator
    from capture.tether.plan import PlannedShot, ShootingPlan
    from capture.tether.recording import RecordedFrame
    from sdd_toolkit.execution.progress import Advance, Track

_log = logging.getLogger(__name__)
_MAX_PAUSE_S = 8.0
_CONNECT_TIMEOUT_S = 5.0
_RECOVERED_WARNING = "fetched from the camera after an interruption; see that it is the right frame"


class PlanShooter:
    """Takes frames with the camera in one run of a session.

    Args:
        plan: The shot list.
        journal: Journal of the session.
        connect: Opens the camera; called again after a lost connection.
        operator: Confirms steps and receives progress lines.
    """

    def __init__(self, plan: ShootingPlan, journal: Journal, connect: Callable[[], Camera], operator: Operator) -> None:
        self._plan, self._journal, self._connect, self._operator = plan, journal, connect, operator
        self._recorder = FrameRecorder(plan, journal)
        self._session = plan.session
        self._camera: Camera | None = None
        self._on_card: tuple[str, ...] = ()
        self._run = 1 if journal.header is None else journal.header.runs + 1
        self._done = 0

    def shoot(self, shots: Sequence[PlannedShot], track: Track) -> tuple[str, ...]:
        """Takes all of `shots`, scene by scene.

        Returns:
            Warnings that belong to no file.

        Raises:
            CameraError: The camera cannot take the planned frames, or is lost.
        """
        warnings: list[str] = []
        try:
            self._open_camera(shots)
            focus = self._journal.state.lens
            if focus is not None and focus.scene != shots[0].scene:
                self._return_focus()
            with track("capture", len(shots)) as advance:
                for scene, group in itertools.groupby(shots, key=lambda shot: shot.scene):
                    self._operator.wait_until_ready(scene, self._plan.notes.get(scene, ""))
                    remaining, scene_warnings = self._resume_scene(scene, list(group))
                    warnings += scene_warnings
                    while not self._shoot_scene(remaining, len(shots), advance):
                        remaining = self._shots_of(scene)
                    self._return_focus()
            self._journal.save_state(SessionState())
        finally:
            self._journal.close()
            if self._camera is not None:
                self._camera.close()
        return tuple(warnings)

    def _shots_of(self, scene: str) -> list[PlannedShot]:
        return [shot for shot in self._plan.shots if shot.scene == scene]

    def _resume_scene(self, scene: str, shots: list[PlannedShot]) -> tuple[list[PlannedShot], list[str]]:
        """The shots to take of a scene that an interruption may have cut, and warnings about it."""
        focus = self._journal.state.lens
        if focus is None or focus.scene != scene or not (focus.at or focus.moving_to is not None):
            return shots, []
        if self._operator.confirm_refocused(scene, focus):
            self._journal.save_state(SessionState(lens=FocusState(scene)))
            return self._shots_of(scene), []
        if focus.moving_to is None:
            return shots, []
        return shots, [f"{scene}: a focus move was cut off and is taken as done; look at its frames"]

    def _shoot_scene(self, shots: Sequence[PlannedShot], total: int, advance: Advance) -> bool:
        """Takes the frames of a scene; False if the operator chooses to repeat the scene."""
        self._recorder.start_scene(shots)
        for count, shot in enumerate(shots, 1):
            recorded = self._shoot_frame(shot)
            self._done += 1
            advance(note=recorded.frame.file)
            self._operator.report(f"{self._done}/{total} {format_progress(recorded.frame)}")
            if recorded.problems and self._operator.confirm_reshoot(shot.scene, recorded.problems):
                advance(-count)
                self._done -= count
                return False
        return True

    def _shoot_frame(self, shot: PlannedShot) -> RecordedFrame:
        """Takes one frame, and reconnects to the camera where needed."""
        for attempt in itertools.count(1):
            try:
                # Within the attempt: a new connection may fail as the old one did.
                if self._camera is None:
                    self._open_camera([shot])
                return self._recover(shot) or self._expose_frame(shot)
            except (CameraLostError, CameraRefusedError) as error:
                if attempt > self._session.retries:
                    if isinstance(error, CameraRefusedError):
                        self._journal.save_flight(None)
                        raise
                    raise CameraLostError(
                        f"the camera did not come back after {self._session.retries} attempts: {error.what}",
                        hint="check cable and battery, then run the same command again to resume",
                    ) from error
                _log.warning(
                    "%s: %s; connecting again, %d of %d", shot.stem, error.what, attempt, self._session.retries
                )
                self._close_camera()
                time.sleep(min(0.25 * 2.0**attempt, _MAX_PAUSE_S))
        raise AssertionError("unreachable")

    def _open_camera(self, shots: Sequence[PlannedShot]) -> None:
        """Connects, applies the settings of the session, and checks that the camera can take `shots`."""
        camera = self._camera = retry(self._connect, min(self._session.timeout_s, _CONNECT_TIMEOUT_S))
        header, focus = self._journal.header, self._journal.state.lens
        timeout_s, settings = self._session.timeout_s, self._plan.camera.settings
        mirror_up = self._session.mirror_up
        retry(lambda: frame_settings.apply_session_settings(camera, settings, mirror_up, timeout_s), timeout_s)
        start_s = (
            header.shutter_s if header is not None else retry(lambda: frame_settings.read_shutter_s(camera), timeout_s)
        )
        retry(lambda: frame_settings.check_shots(camera, shots, start_s), timeout_s)
        self._journal.start(new_header(self._plan.fingerprint(), camera.model, start_s, self._run))
        self._on_card = retry(camera.list_files, timeout_s)
        if focus is not None and not camera.keeps_focus:
            self._journal.save_focus(FocusState(focus.scene))

    def _close_camera(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self._camera = None

    def _connected_camera(self) -> Camera:
        if self._camera is None:
            raise CameraLostError("the camera is not connected", hint="run the same command again to resume")
        return self._camera

    def _expose_frame(self, shot: PlannedShot) -> RecordedFrame:
        camera, header = self._connected_camera(), self._journal.header
        timeout_s = self._session.timeout_s
        camera.announce(shot)
        start_s = header.shutter_s if header is not None else None
        settings = retry(lambda: frame_settings.resolve_settings(camera, shot, start_s), timeout_s)
        held = {
            setting.name: set_and_confirm(camera, setting, value, timeout_s) for setting, value in settings.settings
        }
        if shot.focus_steps is not None:
            focus = self._journal.state.lens
            in_scene = focus is not None and focus.scene == shot.scene
            self._drive_focus(focus if focus and in_scene else FocusState(shot.scene), shot.focus_steps)
        time.sleep(self._session.settle_s + self._session.timer_s)
        flight = FrameInFlight(
            shot=shot.fingerprint(),
            before=self._on_card,
            asked={setting.name: value for setting, value in settings.settings},
            held=held,
            exposure=settings.exposure,
            residual_ev=settings.residual_ev,
            warnings=settings.warnings,
            run=self._run,
        )
        with defer_interrupt():
            self._journal.save_flight(flight)
            try:
                paths = retry(lambda: camera.capture(timeout_s), timeout_s)
            except CameraFullError:
                # No frame was taken: a file that appears on the card later is not this frame.
                self._journal.save_flight(None)
                raise
            return self._download(shot, flight, paths)

    def _drive_focus(self, focus: FocusState, target: int) -> None:
        """Moves the focus to `target` steps from the scene's start; saved before and after."""
        camera = self._connected_camera()
        # A move whose end is not confirmed counts as done: most often it was.
        start = focus.at if focus.moving_to is None else focus.moving_to
        if target != start:
            self._journal.save_focus(FocusState(focus.scene, start, moving_to=target))
            retry(lambda: camera.drive_focus(target - start), self._session.timeout_s)
        self._journal.save_focus(FocusState(focus.scene, target))

    def _return_focus(self) -> None:
        """Moves the focus to the scene's start, from which the next scene or a repetition counts its steps."""
        focus = self._journal.state.lens
        if focus is not None:
            self._drive_focus(focus, 0)
        self._journal.save_focus(None)

    def _recover(self, shot: PlannedShot) -> RecordedFrame | None:
        """The frame that an interruption left on the disk or on the camera; None if it was not taken."""
        flight = self._journal.state.flight
        if flight is None or flight.shot != shot.fingerprint():
            return None
        if flight.files and all(map(self._recorder.is_intact, flight.files)):
            return self._recorder.record(shot, flight, self._connected_camera().model, recovered=True)
        new = [path for path in self._connected_camera().list_files() if path not in flight.before]
        if len({PurePosixPath(path).with_suffix("") for path in new}) == 1:
            flight = replace(flight, warnings=(*flight.warnings, _RECOVERED_WARNING))
            return self._download(shot, flight, sort_raw_first(new), recovered=True)
        if new:
            _log.warning("%s: %d new files on the camera, none of them surely this frame", shot.stem, len(new))
        return None

    def _download(
        self, shot: PlannedShot, flight: FrameInFlight, paths: Sequence[str], *, recovered: bool = False
    ) -> RecordedFrame:
        """Copies a frame from the camera to the disk and records it; `paths` are its files, RAW first."""
        camera, content = self._connected_camera(), dict[str, bytes]()
        self._on_card = tuple(sorted({*self._on_card, *paths}))
        for path in paths:
            name = shot.stem + PurePosixPath(path).suffix.lower()
            content[name] = retry(lambda path=path: camera.download(path), self._session.timeout_s)  # type: ignore[misc]
        refs = tuple(FileRef(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items())
        flight = replace(flight, files=refs)
        self._journal.save_flight(flight)
        for name, data in content.items():
            files.write_bytes(files.resolve_inside(self._journal.folder, name), data)
        recorded = self._recorder.record(shot, flight, camera.model, recovered=recovered)
        for path in paths if self._session.delete_from_camera else ():
            camera.delete(path)
            self._on_card = tuple(other for other in self._on_card if other != path)
        return recorded
