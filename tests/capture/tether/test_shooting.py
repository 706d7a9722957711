from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from capture.tether.camera import Camera, CameraFullError, CameraLostError, CameraRefusedError
from capture.tether.journal import FocusState, FrameInFlight, Journal, SessionState
from capture.tether.operator import Unattended
from capture.tether.plan import ShootingPlan
from capture.tether.session import SessionOutcome, shoot_plan
from capture.tether.virtual_camera import VirtualCamera
from capture.virtual import sensor
from sdd_toolkit.errors import CameraError
from sdd_toolkit.records import Exposure, FileRef
from tests.support.tether_rig import SMALL, UNCHECKED, every_frame_once, journal_of, small_camera, small_plan

FOCUS = {"kind": "focus", "focus_steps": [0, 100], "aperture": "f/2.8", "shutter": "1/60"}


class Moving(VirtualCamera):
    """A virtual camera whose lens stays where it is when the connection ends; remembers every move and frame."""

    keeps_focus = True

    def __init__(self, faults: dict[int, str] | None = None) -> None:
        super().__init__(config=SMALL, faults=faults)
        self.moves: list[int] = []

    def drive_focus(self, steps: int) -> None:
        super().drive_focus(steps)
        self.moves.append(steps)

    def close(self) -> None:
        self._lost = False


class Cut(VirtualCamera):
    """A virtual camera whose cable, and the program with it, is cut while the frame of that number is downloaded."""

    cut_at = 0

    def download(self, path: str) -> bytes:
        if path.endswith(f"{self.cut_at:04d}.DNG"):
            self.cut_at = 0
            raise KeyboardInterrupt
        return super().download(path)


def shoot(
    out: Path, camera: Camera, plan: ShootingPlan | None = None, operator: Unattended | None = None
) -> SessionOutcome:
    return shoot_plan(plan or small_plan(check=UNCHECKED), out, lambda: camera, operator or Unattended())


def test_a_connection_lost_before_the_shutter_is_made_anew_and_the_frame_shot(tmp_path: Path) -> None:
    camera = small_camera(faults={2: "lost"})
    assert shoot(tmp_path, camera).report.done == 4
    assert len(every_frame_once(tmp_path)) == 4
    assert len(camera.list_files()) == 4


def test_a_frame_on_the_card_after_a_lost_connection_is_fetched_not_shot_again(tmp_path: Path) -> None:
    camera = small_camera(faults={2: "lost after"})
    shoot(tmp_path, camera)
    assert len(every_frame_once(tmp_path)) == 4
    assert len(camera.list_files()) == 4
    assert [entry["recovered"] for entry in journal_of(tmp_path)] == [False, True, False, False]


def test_a_camera_that_does_not_come_back_ends_the_run_with_how_to_resume(tmp_path: Path) -> None:
    plan = small_plan(session={"retries": 1}, check=UNCHECKED)
    with pytest.raises(CameraLostError) as caught:
        shoot(tmp_path, small_camera(faults={2: "lost", 3: "lost"}), plan)
    assert "did not come back after 1 attempts" in caught.value.what
    assert "run the same command again to resume" in caught.value.hint
    assert shoot(tmp_path, small_camera(), plan).report.skipped == 1


def test_a_busy_camera_is_asked_again(tmp_path: Path) -> None:
    assert shoot(tmp_path, small_camera(faults={1: "busy", 3: "busy"})).report.done == 4
    assert len(every_frame_once(tmp_path)) == 4


def test_a_refusal_without_a_reason_is_tried_again_and_reported_if_it_persists(tmp_path: Path) -> None:
    plan = small_plan(session={"retries": 1}, check=UNCHECKED)
    with pytest.raises(CameraRefusedError, match="the camera refused"):
        shoot(tmp_path, small_camera(faults={2: "refused", 3: "refused"}), plan)
    assert shoot(tmp_path, small_camera(faults={1: "refused"}), plan).report.done == 3
    assert len(every_frame_once(tmp_path)) == 4


def test_a_full_card_stops_the_run_and_the_frames_before_are_safe(tmp_path: Path) -> None:
    with pytest.raises(CameraFullError):
        shoot(tmp_path, small_camera(faults={4: "full"}))
    assert len(journal_of(tmp_path)) == 3
    assert shoot(tmp_path, small_camera()).report.done == 1
    assert len(every_frame_once(tmp_path)) == 4


def test_a_program_cut_off_during_a_download_fetches_the_frame_in_its_next_run(tmp_path: Path) -> None:
    camera = Cut(config=SMALL)
    camera.cut_at = 3
    with pytest.raises(KeyboardInterrupt):
        shoot(tmp_path, camera)
    assert shoot(tmp_path, camera).report.skipped == 2
    assert len(camera.list_files()) == 4
    assert [entry["recovered"] for entry in journal_of(tmp_path)] == [False, False, True, False]
    assert journal_of(tmp_path)[2]["warnings"] == [
        "fetched from the camera after an interruption; see that it is the right frame"
    ]
    assert [entry["run"] for entry in journal_of(tmp_path)] == [1, 1, 1, 2]


def test_of_several_new_files_on_the_card_none_is_taken_for_the_frame(tmp_path: Path) -> None:
    camera = Cut(config=SMALL)
    camera.cut_at = 1
    with pytest.raises(KeyboardInterrupt):
        shoot(tmp_path, camera)
    camera.capture(1)
    shoot(tmp_path, camera)
    assert len(every_frame_once(tmp_path)) == 4
    assert not any(entry["recovered"] for entry in journal_of(tmp_path))


@pytest.mark.parametrize("harm", [False, True])
def test_a_frame_on_the_disk_without_its_line_is_adopted_if_it_has_the_saved_hash(tmp_path: Path, harm: bool) -> None:
    shoot(tmp_path, small_camera())
    *lines, last = (tmp_path / "session.jsonl").read_text().splitlines()
    (tmp_path / "session.jsonl").write_text("\n".join(lines) + "\n" + last[:40])
    taken = json.loads(last)
    ref = FileRef(taken["file"], taken["bytes"], taken["sha256"])
    flight = FrameInFlight(taken["shot"], (), taken["asked"], taken["held"], Exposure(), files=(ref,))
    (tmp_path / "session.state.json").write_text(json.dumps(asdict(SessionState(flight))))
    if harm:
        (tmp_path / ref.path).write_bytes(b"half")
    camera = small_camera()
    shoot(tmp_path, camera)
    assert len(every_frame_once(tmp_path)) == 4
    assert len(camera.list_files()) == (1 if harm else 0)
    assert not (tmp_path / "session.state.json").exists()


@pytest.mark.parametrize("fault", ["full", "refused"])
def test_a_photograph_the_user_takes_after_a_refused_frame_is_not_taken_for_it(tmp_path: Path, fault: str) -> None:
    plan = small_plan(session={"retries": 0}, check=UNCHECKED)
    camera = small_camera(faults={1: fault})
    with pytest.raises(CameraError):
        shoot(tmp_path, camera, plan)
    camera.capture(1)
    shoot(tmp_path, camera, plan)
    assert not any(entry["recovered"] for entry in journal_of(tmp_path))
    assert len(camera.list_files()) == 5


def test_raw_and_jpeg_are_kept_beside_each_other_until_the_frame_is_shot_again_without(tmp_path: Path) -> None:
    both = small_plan(session={"scenes": 1}, check=UNCHECKED, camera={"settings": {"imagequality": "RAW+JPEG"}})
    shoot(tmp_path, small_camera(), both)
    assert every_frame_once(tmp_path) == [f"scene-0001/{name}" for name in
                                          ("blur.dng", "blur.jpg", "sharp.dng", "sharp.jpg")]  # fmt: skip
    assert [entry["file"] for entry in journal_of(tmp_path)] == ["scene-0001/blur.dng", "scene-0001/sharp.dng"]
    raw = small_plan(session={"scenes": 1}, check=UNCHECKED)
    shoot_plan(raw, tmp_path, small_camera, Unattended(), reshoot=["scene-0001"])
    assert every_frame_once(tmp_path) == ["scene-0001/blur.dng", "scene-0001/sharp.dng"]


def test_frames_are_deleted_on_the_camera_only_if_that_is_wanted(tmp_path: Path) -> None:
    camera = small_camera()
    shoot(tmp_path / "kept", camera)
    assert len(camera.list_files()) == 4
    shoot(tmp_path / "deleted", camera, small_plan(session={"delete_from_camera": True}, check=UNCHECKED))
    assert len(camera.list_files()) == 4
    assert len(every_frame_once(tmp_path / "deleted")) == 4


def test_the_focus_goes_out_for_the_blurred_frame_and_back_after_the_scene(tmp_path: Path) -> None:
    camera = Moving()
    shoot(tmp_path, camera, small_plan(FOCUS))
    assert camera.moves == [100, -100, 100, -100]
    assert [entry["focus_steps"] for entry in journal_of(tmp_path)] == [0, 100, 0, 100]
    assert not (tmp_path / "session.state.json").exists()


def test_an_interrupted_focus_scene_goes_on_from_where_the_lens_stands(tmp_path: Path) -> None:
    camera = Moving({2: "full"})
    with pytest.raises(CameraFullError):
        shoot(tmp_path, camera, small_plan(FOCUS))
    assert Journal(tmp_path).state == SessionState(lens=FocusState("scene-0001", 100))
    shoot(tmp_path, camera, small_plan(FOCUS))
    assert camera.moves == [100, -100, 100, -100]


def test_a_focus_move_that_was_cut_off_is_taken_as_done_and_said(tmp_path: Path) -> None:
    camera = Moving({2: "full"})
    with pytest.raises(CameraFullError):
        shoot(tmp_path, camera, small_plan(FOCUS))
    Journal(tmp_path).save_state(SessionState(lens=FocusState("scene-0001", 0, moving_to=100)))
    outcome = shoot(tmp_path, camera, small_plan(FOCUS))
    assert outcome.warnings[0] == "scene-0001: a focus move was cut off and is taken as done; look at its frames"
    assert camera.moves == [100, -100, 100, -100]


def test_a_lens_that_was_focused_anew_begins_the_scene_again(tmp_path: Path) -> None:
    class Refocused(Unattended):
        def confirm_refocused(self, scene: str, focus: FocusState) -> bool:
            return True

    with pytest.raises(CameraFullError):
        shoot(tmp_path, Moving({2: "full"}), small_plan(FOCUS))
    camera = Moving()
    shoot(tmp_path, camera, small_plan(FOCUS), Refocused())
    assert camera.moves == [100, -100, 100, -100]
    assert [entry["run"] for entry in journal_of(tmp_path)] == [2, 2, 2, 2]


def test_a_lens_that_parks_when_switched_off_is_driven_from_its_start(tmp_path: Path) -> None:
    with pytest.raises(CameraFullError):
        shoot(tmp_path / "cut", small_camera(faults={2: "full"}), small_plan(FOCUS))
    shoot(tmp_path / "cut", small_camera(), small_plan(FOCUS))
    shoot(tmp_path / "whole", small_camera(), small_plan(FOCUS))
    name = "scene-0001/blur.dng"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class RepeatingOperator(Unattended):
    """An operator that repeats a scene a number of times, and records the reasons."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.reasons = times, list[str]()

    def confirm_reshoot(self, scene: str, problems: Sequence[str]) -> bool:
        self.reasons += problems
        self.times -= 1
        return self.times >= 0


@pytest.mark.parametrize(("times", "frames"), [(0, 2), (1, 3)])
def test_a_scene_whose_check_fails_is_repeated_if_the_operator_wants_it(
    tmp_path: Path, times: int, frames: int
) -> None:
    camera, operator = small_camera(), RepeatingOperator(times)
    over = small_plan({"apertures": ["f/2.8", "f/16"], "shutter": "1"}, {"scenes": 1})
    shoot(tmp_path, camera, over, operator)
    assert operator.reasons[0].startswith("over-exposed: ")
    assert len(camera.list_files()) == frames
    assert len(every_frame_once(tmp_path)) == 2


def test_a_frame_that_is_fine_is_not_asked_about(tmp_path: Path) -> None:
    operator = RepeatingOperator(0)
    outcome = shoot(tmp_path, small_camera(), small_plan(), operator)
    assert (operator.reasons, outcome.warnings) == ([], ())


@pytest.fixture
def lying_camera(monkeypatch: pytest.MonkeyPatch) -> VirtualCamera:
    """A camera whose EXIF has another aperture than its display."""
    raw_tags = sensor.raw_tags
    monkeypatch.setattr(sensor, "raw_tags", lambda *args: replace(raw_tags(*args), f_number=5.6))
    return small_camera()


def test_exif_with_another_aperture_is_a_warning(tmp_path: Path, lying_camera: VirtualCamera) -> None:
    outcome = shoot(tmp_path, lying_camera)
    assert outcome.warnings[0].startswith("EXIF tells f-number 5.6, set was 2.8: scene-0001/blur.dng, ")


def test_exif_with_another_aperture_is_an_error_if_the_plan_is_strict(
    tmp_path: Path, lying_camera: VirtualCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CameraError, match=r"scene-0001/blur\.dng is not what was asked for: EXIF tells f-number 5\.6"):
        shoot(tmp_path, lying_camera, small_plan(session={"exif": "strict"}, check=UNCHECKED))
    assert len(lying_camera.list_files()) == 1
    assert every_frame_once(tmp_path) == []
    monkeypatch.undo()
    assert shoot(tmp_path, small_camera()).report.done == 4


def test_exif_is_not_checked_if_the_plan_says_so(tmp_path: Path, lying_camera: VirtualCamera) -> None:
    plan = small_plan(session={"exif": "off"}, check=UNCHECKED)
    assert shoot(tmp_path, lying_camera, plan).warnings == ()
