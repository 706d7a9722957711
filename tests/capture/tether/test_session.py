from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capture.config import IngestConfig
from capture.ingest import dry_run
from capture.ingest.stage import find_pairs
from capture.tether.camera import Camera
from capture.tether.operator import Unattended
from capture.tether.plan import ShootingPlan
from capture.tether.session import SessionOutcome, shoot_plan
from capture.tether.virtual_camera import VirtualCamera
from sdd_toolkit.errors import CameraError, InputError, IntegrityError
from tests.support.tether_rig import UNCHECKED, every_frame_once, frames_in, journal_of, small_camera, small_plan

FOUR = ["scene-0001/blur.dng", "scene-0001/sharp.dng", "scene-0002/blur.dng", "scene-0002/sharp.dng"]


def no_camera() -> Camera:
    raise AssertionError("the camera was asked for although nothing is to be shot")


def shot(
    out: Path,
    plan: ShootingPlan | None = None,
    camera: VirtualCamera | None = None,
    *,
    consents: bool = True,
    reshoot: tuple[str, ...] = (),
    overwrite: bool = False,
    connect: Callable[[], Camera] | None = None,
) -> SessionOutcome:
    device = camera or small_camera()
    return shoot_plan(
        plan or small_plan(),
        out,
        connect or (lambda: device),
        Unattended(consents=consents),
        reshoot=reshoot,
        overwrite=overwrite,
    )


def test_a_plan_becomes_files_named_for_ingest_with_their_hashes(tmp_path: Path) -> None:
    outcome = shot(tmp_path)
    assert every_frame_once(tmp_path) == FOUR
    assert (outcome.report.total, outcome.report.done, outcome.report.skipped) == (4, 4, 0)
    entry = journal_of(tmp_path)[1]
    assert (entry["asked"], entry["held"]) == ({"f-number": "f/16", "shutterspeed": "0.5"},) * 2
    assert (entry["exif"]["f_number"], entry["exif"]["shutter_s"], entry["warnings"]) == (16.0, 0.5, [])
    assert entry["pair"]["other"] == "scene-0001/blur.dng"


def test_a_second_run_verifies_every_hash_and_needs_no_camera(tmp_path: Path) -> None:
    shot(tmp_path)
    before = (tmp_path / "session.jsonl").read_bytes()
    report = shot(tmp_path, connect=no_camera).report
    assert (report.done, report.skipped) == (0, 4)
    assert (tmp_path / "session.jsonl").read_bytes() == before


@pytest.mark.parametrize("harm", ["missing", "altered", "shortened"])
def test_a_damaged_frame_is_named_and_shot_again_only_with_consent(tmp_path: Path, harm: str) -> None:
    shot(tmp_path)
    victim = tmp_path / FOUR[1]
    whole = victim.read_bytes()
    victim.unlink()
    if harm != "missing":
        victim.write_bytes(whole[:-1] + (b"" if harm == "shortened" else bytes([whole[-1] ^ 1])))
    with pytest.raises(IntegrityError, match=r"scene-0001/sharp\.dng is"):
        shot(tmp_path, consents=False)
    assert shot(tmp_path).report.done == 1
    assert victim.read_bytes() == whole


def test_a_changed_scene_is_refused_by_name_and_shot_when_it_is_named(tmp_path: Path) -> None:
    shot(tmp_path)
    changed = small_plan(scene=[{"name": "scene-0002", "apertures": ["f/4", "f/16"], "shutter": "1/30"}])
    with pytest.raises(InputError, match=r"other frames than .*: scene-0002/blur, scene-0002/sharp"):
        shot(tmp_path, changed)
    assert shot(tmp_path, changed, reshoot=("scene-0002",)).report.done == 2
    assert every_frame_once(tmp_path) == FOUR
    assert [entry["asked"]["f-number"] for entry in journal_of(tmp_path)] == ["f/2.8", "f/16", "f/4", "f/16"]


def test_scenes_added_to_the_plan_are_shot_and_those_taken_from_it_stay(tmp_path: Path) -> None:
    shot(tmp_path, small_plan(session={"scenes": 1}))
    assert shot(tmp_path).report.done == 2
    outcome = shot(tmp_path, small_plan(session={"scenes": 1}), connect=no_camera)
    assert every_frame_once(tmp_path) == FOUR
    assert outcome.warnings == ("2 frames of an earlier plan stay: scene-0002/blur.dng, scene-0002/sharp.dng",)


def test_foreign_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scene-0001").mkdir()
    (tmp_path / "scene-0001/blur.nef").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"did not write: scene-0001/blur\.nef"):
        shot(tmp_path)
    assert frames_in(tmp_path) == ["scene-0001/blur.nef"]


def test_a_file_beside_the_frames_with_a_longer_name_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "scene-0001").mkdir()
    (tmp_path / "scene-0001/blur.f8.nef").write_bytes(b"precious")
    assert shot(tmp_path).report.done == 4


def test_overwrite_shoots_everything_again(tmp_path: Path) -> None:
    shot(tmp_path)
    camera = VirtualCamera(seed=1, config=small_camera()._config)
    before = (tmp_path / FOUR[0]).read_bytes()
    assert shot(tmp_path, camera=camera, overwrite=True).report.done == 4
    assert every_frame_once(tmp_path) == FOUR
    assert (tmp_path / FOUR[0]).read_bytes() != before


def test_a_scene_to_repeat_that_is_not_in_the_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the plan has no scene 'scene-9'"):
        shot(tmp_path, reshoot=("scene-9",))


def test_a_run_cut_off_between_the_frames_of_a_pair_says_so_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    shot(tmp_path / "whole")
    with pytest.raises(CameraError, match="full"):
        shot(tmp_path / "cut", camera=small_camera(faults={2: "full"}))
    outcome = shot(tmp_path / "cut")
    assert (outcome.report.done, outcome.report.skipped) == (3, 1)
    assert outcome.warnings == ("interrupted between the frames of a pair (--reshoot if anything moved): scene-0001",)
    for name in FOUR:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_damaged_journal_stops_the_run_unless_all_is_to_be_shot_again(tmp_path: Path) -> None:
    shot(tmp_path)
    (tmp_path / "session.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match="is not the journal"):
        shot(tmp_path)
    assert shot(tmp_path, overwrite=True).report.done == 4
    assert every_frame_once(tmp_path) == FOUR


@pytest.mark.parametrize(
    ("defaults", "pairs"),
    [
        (
            {"apertures": [2.8, 5.6, 16]},
            [f"blur-f{name}.dng -> sharp{name[3:]}" for name in ("2.8", "2.8-2", "5.6-2", "5.6")],
        ),
        ({"kind": "focus", "focus_steps": [0, 100]}, ["blur.dng -> sharp", "blur-2.dng -> sharp-2"]),
        (
            {"kind": "focus", "focus_steps": [0, 100, -100]},
            [f"blur-p{name}.dng -> sharp" for name in ("1-2", "1", "2-2", "2")],
        ),
    ],
)
def test_ingest_finds_the_pairs_by_the_names_they_were_given(
    tmp_path: Path, defaults: dict[str, Any], pairs: list[str]
) -> None:
    pairing = defaults.get("kind", "aperture")
    shot(tmp_path / "raw", small_plan({**defaults, "shutter": "1/60"}, {"repeats": 2}, check=UNCHECKED))
    config = IngestConfig(pairing=pairing)
    lines = dry_run.format_text(find_pairs([tmp_path / "raw"], tmp_path / "set", config)).splitlines()
    found = [line.partition(": ")[2].replace("scene-0001/", "") for line in lines if line.startswith("scene-0001")]
    assert [entry.partition(".dng (")[0] for entry in found] == pairs
