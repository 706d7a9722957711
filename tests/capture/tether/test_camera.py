from __future__ import annotations

import pytest

from capture.tether.camera import (
    CameraBusyError,
    Setting,
    is_same_value,
    join_names,
    match_choice,
    nearest_choice,
    require_setting,
    retry,
    set_and_confirm,
    sort_by_distance,
    sort_raw_first,
    switch_choice,
)
from sdd_toolkit.errors import CameraError
from tests.support.tether_rig import small_camera

OPENING = Setting("f-number", "F-Number", "f/2.8", ("f/2.8", "f/4", "f/16"))


@pytest.mark.parametrize(
    ("name", "value", "other", "alike"),
    [
        ("f-number", "f/1.8", "1.8", True),
        ("aperture", "5.6", "f/5.7", True),
        ("f-number", "f/5.6", "f/6.3", False),
        ("shutterspeed", "1/60", "0.0166s", True),
        ("shutterspeed2", "10/600", "1/60", True),
        ("shutterspeed", "1/60", "1/50", False),
        ("iso", "100", "100.0", True),
        ("capturetarget", "Memory card", "memory card", True),
        ("capturetarget", "Memory card", "Internal RAM", False),
        ("shutterspeed", "bulb", "1/60", False),
    ],
)
def test_values_are_compared_as_numbers_not_as_text(name: str, value: str, other: str, alike: bool) -> None:
    assert is_same_value(name, value, other) is alike


def test_a_value_is_taken_in_the_cameras_own_spelling() -> None:
    assert match_choice(OPENING, "16", "Test") == "f/16"
    assert match_choice(Setting("artist", "Artist", ""), "me", "Test") == "me"
    assert match_choice(Setting("focus", "Focus", "0", span=(-10, 10, 1)), "7", "Test") == "7"


def test_a_value_that_is_not_offered_is_refused_with_what_is_nearest_first() -> None:
    with pytest.raises(CameraError) as caught:
        match_choice(OPENING, "f/11", "Test")
    assert caught.value.what == "Test does not offer f-number = 'f/11'"
    assert caught.value.hint == "it offers f/16, f/4, f/2.8"


@pytest.mark.parametrize("asked", ["11", "far"])
def test_a_number_out_of_its_span_is_refused_with_the_span(asked: str) -> None:
    with pytest.raises(CameraError, match=r"-10 … 10"):
        match_choice(Setting("focus", "Focus", "0", span=(-10, 10, 1)), asked, "Test")


def test_a_setting_that_can_only_be_read_is_refused_with_its_value() -> None:
    with pytest.raises(CameraError, match="does not let f-number be set: it is 'f/8'"):
        match_choice(Setting("f-number", "F", "f/8", ("f/8",), read_only=True), "f/8", "Test")


def test_a_setting_the_camera_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(CameraError) as caught:
        require_setting(small_camera(), ("imagequalty",))
    assert caught.value.what == "SDD Virtual Camera has no setting 'imagequalty'"
    assert caught.value.hint.startswith("it has imagequality, ")


def test_a_word_is_offered_by_likeness_of_spelling() -> None:
    target = Setting("capturetarget", "Target", "", ("Internal RAM", "Memory card"))
    assert sort_by_distance(target, "Memory crd")[0] == "Memory card"


def test_a_setting_is_set_and_read_back() -> None:
    camera = small_camera()
    assert set_and_confirm(camera, OPENING, "f/16", timeout_s=1) == "f/16"
    found = camera.setting("f-number")
    assert found is not None
    assert found.value == "f/16"


def test_a_setting_the_camera_does_not_take_is_an_error_when_the_time_is_up() -> None:
    class Stubborn(type(small_camera())):  # type: ignore[misc]
        def set_value(self, name: str, value: str) -> None:
            """Acknowledges and forgets, as cameras do that are in the wrong mode."""

    with pytest.raises(CameraError, match=r"does not take f-number = 'f/16': it says 'f/2.8'"):
        set_and_confirm(Stubborn(), OPENING, "f/16", timeout_s=0.2)


def test_a_busy_camera_is_asked_again() -> None:
    answers = iter([True, True, False])

    def ask() -> str:
        if next(answers):
            raise CameraBusyError("busy", hint="wait")
        return "done"

    assert retry(ask, timeout_s=5) == "done"


def test_a_camera_that_stays_busy_is_an_error_when_the_time_is_up() -> None:
    def ask() -> str:
        raise CameraBusyError("busy", hint="wait")

    with pytest.raises(CameraBusyError):
        retry(ask, timeout_s=0.2)


def test_the_nearest_speed_is_found_among_words() -> None:
    speeds = Setting("shutterspeed", "Speed", "1/60", ("bulb", "1/60", "1/30"))
    assert nearest_choice(speeds, 1 / 32) == ("1/30", 1 / 30)


@pytest.mark.parametrize(
    ("choices", "on", "off"), [(("Off", "1s", "2s"), "1s", "Off"), (("On", "Off"), "On", "Off"), ((), "1", "0")]
)
def test_switching_takes_the_first_choice_that_means_on_or_off(choices: tuple[str, ...], on: str, off: str) -> None:
    setting = Setting("exposuredelaymode", "Delay", "Off", choices)
    assert (switch_choice(setting, on=True), switch_choice(setting, on=False)) == (on, off)


def test_raw_files_come_before_their_jpegs() -> None:
    assert sort_raw_first(["/a/1.JPG", "/a/1.NEF"]) == ["/a/1.NEF", "/a/1.JPG"]


def test_a_long_offer_is_cut_and_counted() -> None:
    assert join_names([str(number) for number in range(30)]).endswith("23 and 6 more")
