from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.tether.plan import PlannedShot, estimate_duration_s, parse_plan, read_plan
from capture.tether.plan_config import CameraTable, CheckTable, Defaults, SceneTable, SessionTable
from sdd_toolkit.errors import ConfigError
from tests.support.paths import ROOT
from tests.support.tether_rig import PAIR, small_plan

FOCUS = {"kind": "focus", "focus_steps": [0, 40]}


def stems(defaults: dict[str, Any], **session: Any) -> list[str]:
    return [shot.stem for shot in small_plan(defaults, session).shots]


def test_two_scenes_by_aperture_are_four_frames_in_order() -> None:
    assert stems(PAIR) == ["scene-0001/blur", "scene-0001/sharp", "scene-0002/blur", "scene-0002/sharp"]


def test_the_frames_of_a_pair_carry_what_is_to_be_set() -> None:
    first = small_plan({"apertures": [16, 1.8], "shutter": 2, "iso": 400}).shots[0]
    assert first == PlannedShot(
        "scene-0001", "aperture", "sharp", 1, 16.0, 16.0, 2.0, 400.0, None, "scene-0001/sharp", 0
    )


def test_repeats_are_numbered_from_the_second_on() -> None:
    assert stems(PAIR, scenes=1, repeats=2) == [
        "scene-0001/blur",
        "scene-0001/sharp",
        "scene-0001/blur-2",
        "scene-0001/sharp-2",
    ]


def test_of_several_apertures_the_smallest_opening_is_the_sharp_frame() -> None:
    assert stems({"apertures": ["f/1.8", "f/4", "f/16"]}, scenes=1) == [
        "scene-0001/blur-f1.8",
        "scene-0001/blur-f4",
        "scene-0001/sharp",
    ]


def test_of_several_focus_steps_the_first_is_the_sharp_frame() -> None:
    plan = small_plan({**FOCUS, "focus_steps": [0, 40, -40]}, {"scenes": 1})
    assert [(shot.stem, shot.focus_steps) for shot in plan.shots] == [
        ("scene-0001/sharp", 0),
        ("scene-0001/blur-p1", 40),
        ("scene-0001/blur-p2", -40),
    ]


def test_a_scene_of_its_own_name_is_added_and_one_of_a_counted_name_is_altered() -> None:
    own = [{"name": "scene-0002", "apertures": ["f/4", "f/11"]}, {"name": "shelf", "note": "low", "repeats": 2}]
    plan = small_plan(scene=own)
    numbers = {shot.stem: shot.f_number for shot in plan.shots}
    assert (numbers["scene-0001/blur"], numbers["scene-0002/blur"]) == (2.8, 4.0)
    assert list(numbers)[-4:] == ["shelf/blur", "shelf/sharp", "shelf/blur-2", "shelf/sharp-2"]
    assert plan.notes == {"shelf": "low"}


def test_a_pattern_of_names_is_followed() -> None:
    assert stems(PAIR, scenes=1, naming="{role}/{scene}_{repeat}") == ["blur/scene-0001_1", "sharp/scene-0001_1"]


@given(st.integers(1, 4), st.integers(1, 3), st.lists(st.sampled_from([1.8, 2.8, 4, 8, 16]), min_size=2, unique=True))
def test_every_frame_has_a_name_of_its_own_and_each_pair_one_sharp_frame(
    scenes: int, repeats: int, apertures: list[float]
) -> None:
    shots = small_plan({"apertures": apertures}, {"scenes": scenes, "repeats": repeats}).shots
    assert len({shot.stem for shot in shots}) == len(shots) == scenes * repeats * len(apertures)
    assert sum(shot.role == "sharp" for shot in shots) == scenes * repeats


def test_a_frames_fingerprint_is_that_of_its_definition_not_of_its_place() -> None:
    shot = small_plan().shots[0]
    assert replace(shot, index=7).fingerprint() == shot.fingerprint()
    assert replace(shot, iso=200.0).fingerprint() != shot.fingerprint()
    shot = PlannedShot("scene-0001", "aperture", "blur", 1, 2.8, 2.8, 1 / 60, 100, None, "scene-0001/blur", 0)
    assert shot.fingerprint() == "d800ecd75c12f4b4"


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        ({"sesion": {}}, "unknown key 'sesion'", "did you mean 'session'?"),
        ({"session": {"scnes": 1}}, "[session]: unknown key 'scnes'", "did you mean 'scenes'?"),
        ({"session": {"scenes": 1}, "defaults": {"aperturs": []}}, "[defaults]: unknown key", "'apertures'?"),
        ({"scene": [{"name": "a", "shuter": 1}]}, "[[scene]] 1: unknown key 'shuter'", "did you mean 'shutter'?"),
        ({"session": {"scenes": 1}}, "an aperture pair needs two apertures", "apertures ="),
        ({"session": {"scenes": 1}, "defaults": {"kind": "focus"}}, "a focus pair needs two", "focus_steps ="),
        ({"session": {"scenes": 1}, "defaults": {"apertures": ["f/2", "wide"]}}, "'wide' is no f-number", "docs"),
        ({"session": {"scenes": 1}, "defaults": {**PAIR, "shutter": "fast"}}, "'fast' is no time", "docs"),
        ({"session": {"scenes": 1}, "defaults": {**PAIR, "iso": "Auto"}}, "'Auto' is no number", "docs"),
        ({"session": {"scenes": 1}, "defaults": {"apertures": [2, "f/2"]}}, "stands there twice", "docs"),
        ({"session": {"scenes": 1, "naming": "../{scene}/{role}"}}, "no pattern for a path", "docs"),
        ({"session": {"scenes": 1, "naming": "{scene}/{rôle}"}}, "must hold {scene} and {role}", "docs"),
        ({"session": {"scenes": 1, "naming": "{scene}-{role}-{}"}}, "must hold {scene} and {role}", "docs"),
        ({"scene": [{"name": "a/b"}]}, "a scene's name is made of", "docs"),
        ({"scene": [{"name": "session.jsonl", **PAIR}]}, "no file of the session", "docs"),
        ({"scene": [{"name": "a", **PAIR}, {"name": "A", **PAIR}]}, "two scenes are named 'A'", "its own name"),
        ({"scene": {"name": "a"}}, "scene must be a table", "[[scene]]"),
        ({}, "names no scenes", "scenes = 5"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_with_its_place_and_a_way_out(
    content: dict[str, Any], what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_plan(content, "plan.toml")
    assert what in caught.value.what
    assert "plan.toml" in caught.value.what
    assert hint in caught.value.hint


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[session\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_plan(tmp_path / "bad.toml")


def test_the_expected_time_counts_rests_and_exposures() -> None:
    plan = small_plan({"apertures": ["f/4", "f/8"], "shutter": "1"}, {"scenes": 1, "settle_s": 2, "timer_s": 3})
    assert estimate_duration_s(plan) == 2 * (2 + 3 + 3) + 1 + 4


@pytest.mark.parametrize(
    ("name", "model"),
    [("camera", CameraTable), ("session", SessionTable), ("check", CheckTable), ("defaults", Defaults)],
)
def test_every_key_of_a_plan_is_documented_with_its_default(name: str, model: type[CameraTable]) -> None:
    table = (ROOT / "docs/tethering.md").read_text().partition(f"### `[{name}]`\n")[2].partition("\n###")[0]
    for key, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "-" if default in (None, (), {}, "") else str(default).lower() if isinstance(default, bool) else default
        assert f"| `{key}` | `{shown}` |" in table
    assert set(SceneTable.model_fields) == {"name", *Defaults.model_fields}
