from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.config import IngestConfig
from capture.pairing.rules import PairingResult, exposure_ev, needs_detail, pair_scene
from capture.pairing.scenes import Frame, Role, Scene
from sdd_toolkit.records import Exposure, FrameMeta, PairKind, Reason


def frame(
    name: str,
    f_number: float | None = None,
    detail: float | None = None,
    role: Role | None = None,
    shutter_s: float | None = None,
    second: int | None = None,
) -> Frame:
    exposure = Exposure(iso=100.0 if shutter_s else None, shutter_s=shutter_s, f_number=f_number)
    taken_at = None if second is None else f"2026-05-01T10:00:{second:02d}"
    return Frame(name, FrameMeta(taken_at=taken_at, exposure=exposure), detail, role)


def paired(kind: str, *frames: Frame, **config: object) -> PairingResult:
    return pair_scene(Scene("s", frames), IngestConfig(pairing=kind, **config))


def names(result: PairingResult) -> list[tuple[str, str]]:
    return [(match.blur.name, match.sharp.name) for match in result.matches]


def reasons(result: PairingResult) -> dict[str, Reason]:
    return {left.name: reason for left, reason, _ in result.leftovers}


def test_every_aperture_but_the_narrowest_is_blurred() -> None:
    result = paired("aperture", frame("a", 22), frame("b", 4), frame("c", 8), frame("d"))
    assert names(result) == [("b", "a"), ("c", "a")]
    assert reasons(result) == {"d": Reason.NO_PARTNER}


def test_a_wide_shot_too_many_goes_to_the_narrow_one_shot_nearest() -> None:
    shots = [("a", 2, 0), ("b", 16, 1), ("c", 2, 9), ("d", 2, 10), ("e", 16, 12)]
    result = paired("aperture", *(frame(name, f_number, second=second) for name, f_number, second in shots))
    assert names(result) == [("a", "b"), ("c", "e"), ("d", "e")]


def test_brackets_shot_twice_give_two_pairs() -> None:
    shots = [frame("a", 2, second=0), frame("b", 16, second=1), frame("c", 2, second=2), frame("d", 16, second=3)]
    assert names(paired("aperture", *shots)) == [("a", "b"), ("c", "d")]


def test_one_f_number_makes_no_aperture_pair() -> None:
    result = paired("aperture", frame("a", 4), frame("b", 4))
    assert names(result) == []
    assert [word for _, _, word in result.leftovers] == ["all known f-numbers are f/4"] * 2


def test_names_decide_an_aperture_pair_whose_f_numbers_are_unknown() -> None:
    assert names(paired("aperture", frame("a", role=Role.SHARP), frame("b", role=Role.BLUR))) == [("b", "a")]


def test_the_frame_named_sharp_is_sharp_even_if_another_holds_more_detail() -> None:
    frames = frame("a", detail=9.0, role=Role.BLUR), frame("b", detail=1.0, role=Role.SHARP), frame("c", detail=5.0)
    assert names(paired("focus", *frames)) == [("a", "b"), ("c", "b")]


def test_the_most_detailed_frame_of_a_stack_is_sharp_and_serves_all_others() -> None:
    stack = frame("s1", detail=1.0), frame("s2", detail=3.0), frame("s3", detail=2.0)
    assert names(paired("focus", *stack)) == [("s1", "s2"), ("s3", "s2")]


@pytest.mark.parametrize(("reference", "sharp"), [("first", "s9"), ("last", "s10")])
def test_the_sharp_frame_of_a_stack_can_be_chosen_by_order(reference: str, sharp: str) -> None:
    stack = frame("s10", detail=1.0), frame("s9", detail=2.0)
    assert names(paired("focus", *stack, reference=reference))[0][1] == sharp


def test_two_blurred_frames_make_no_pair() -> None:
    result = paired("focus", frame("a", role=Role.BLUR), frame("b", role=Role.BLUR))
    assert reasons(result) == {"a": Reason.NO_PARTNER, "b": Reason.NO_PARTNER}


def test_hundreds_of_photographs_are_no_focal_stack() -> None:
    result = paired("focus", *(frame(str(number), detail=1.0) for number in range(60)))
    assert result.matches == ()
    assert result.leftovers[0][2] == "60 frames are too many to be one scene"


@pytest.mark.parametrize(("first", "couple"), [("blur", ("b", "a")), ("sharp", ("a", "b"))])
def test_shots_in_sequence_are_paired_in_the_order_of_their_times(first: str, couple: tuple[str, str]) -> None:
    result = paired("sequence", frame("a", second=9), frame("b", second=1), frame("c", second=20), first=first)
    assert names(result) == [couple]
    assert reasons(result) == {"c": Reason.NO_PARTNER}


def test_an_exposure_beyond_the_limit_is_reported_in_stops() -> None:
    result = paired("aperture", frame("a", 2, shutter_s=0.01), frame("b", 16, shutter_s=0.01))
    assert reasons(result) == {"a": Reason.EXPOSURE_UNMATCHED, "b": Reason.EXPOSURE_UNMATCHED}
    assert result.leftovers[0][2] == "-6.0 EV from a to b"
    assert names(paired("aperture", frame("a", 2, shutter_s=0.01), frame("b", 16, shutter_s=0.64))) == [("a", "b")]


def test_an_exposure_that_is_not_known_stops_no_pair() -> None:
    assert names(paired("aperture", frame("a", 2, shutter_s=0.01), frame("b", 16))) == [("a", "b")]
    assert exposure_ev(Exposure(iso=100, shutter_s=1.0)) is None
    assert exposure_ev(Exposure(iso=100, shutter_s=1.0, f_number=5.0)) == pytest.approx(math.log2(4))


optional = st.none() | st.sampled_from([1.4, 4.0, 22.0])


def body(name: str, model: str, second: int, f_number: float | None = None) -> Frame:
    meta = FrameMeta(model=model, taken_at=f"2026-05-01T10:00:{second:02d}", exposure=Exposure(f_number=f_number))
    return Frame(name, meta)


@pytest.mark.parametrize(
    ("first", "couples"), [("blur", [("a1", "b1"), ("a2", "b2")]), ("sharp", [("b1", "a1"), ("b2", "a2")])]
)
def test_two_bodies_together_pair_their_nearest_shots(first: str, couples: list[tuple[str, str]]) -> None:
    shots = [body("a1", "A", 1), body("b1", "B", 2), body("b2", "B", 9), body("a2", "A", 10), body("a3", "A", 30)]
    result = paired("sequence", *shots, cameras="together", first=first)
    assert sorted(names(result)) == couples
    assert reasons(result) == {"a3": Reason.NO_PARTNER}


def test_of_two_bodies_the_wider_aperture_is_blurred() -> None:
    shots = [body("a", "A", 1, 16.0), body("b", "B", 2, 1.8)]
    result = paired("sequence", *shots, cameras="together")
    assert names(result) == [("b", "a")]
    assert result.matches[0].evidence == "nearest shots of two cameras, f/1.8 -> f/16, 1 s apart, same folder"


@pytest.mark.parametrize(
    ("kind", "reference", "roles", "needed"),
    [
        ("focus", "detail", (None, None), True),
        ("focus", "first", (None, None), False),
        ("focus", "detail", (Role.BLUR, Role.SHARP), False),
        ("focus", "detail", (None,), False),
        ("aperture", "detail", (None, None), False),
    ],
)
def test_pixels_are_decoded_only_where_detail_decides(
    kind: str, reference: str, roles: tuple[Role | None, ...], needed: bool
) -> None:
    scene = Scene("s", tuple(frame(str(place), role=role) for place, role in enumerate(roles)))
    assert needs_detail(scene, IngestConfig(pairing=kind, reference=reference)) is needed


@pytest.mark.parametrize(
    ("kind", "frames", "why"),
    [
        ("aperture", (frame("s/a", 1.8, second=0), frame("s/b", 16, second=2)), "f/1.8 -> f/16, 2 s apart"),
        ("focus", (frame("s/a", role=Role.BLUR), frame("s/b", role=Role.SHARP)), "role words"),
        ("focus", (frame("s/a", detail=1.0), frame("s/b", detail=4.0)), "detail 2.0x"),
        ("sequence", (frame("s/a", second=0), frame("s/b", second=7)), "shots in sequence, 7 s apart"),
    ],
)
def test_every_pair_says_why(kind: str, frames: tuple[Frame, ...], why: str) -> None:
    assert paired(kind, *frames).matches[0].evidence == f"{why}, same folder"


shots = st.lists(
    st.builds(frame, st.uuids().map(str), optional, st.floats(0, 1), st.none() | st.sampled_from(Role), optional),
    min_size=1,
    max_size=7,
)


@given(shots, st.sampled_from([PairKind.FOCUS, PairKind.APERTURE, PairKind.SEQUENCE]))
def test_every_frame_is_in_a_pair_or_left_with_a_reason_and_none_is_its_own_partner(
    frames: list[Frame], kind: PairKind
) -> None:
    result = paired(kind, *frames)
    in_pairs = {name for couple in names(result) for name in couple}
    left = [entry.name for entry, _, _ in result.leftovers]
    assert sorted([*in_pairs, *left]) == sorted(entry.name for entry in frames)
    assert all(blur != sharp for blur, sharp in names(result))
