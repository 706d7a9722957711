from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.pairing.same_exposure import Doubt
from capture.pairing.scenes import Frame
from capture.pairing.versions import find_versions
from sdd_toolkit.records import Exposure, FileProvenance, FrameMeta

Facts = dict[str, object]
NOON = "2026-05-01T12:00:00"


def frame(name: str, taken_at: str | None = NOON, *, software: str | None = None, **facts: object) -> Frame:
    exposure = Exposure(f_number=facts.pop("f_number", None), shutter_s=facts.pop("shutter_s", None))  # type: ignore[arg-type]
    provenance = FileProvenance(
        software,
        facts.pop("raw_name", None),  # type: ignore[arg-type]
        bool(facts.pop("has_shot_time", True)),
    )
    meta = FrameMeta(**{"model": "Camera One", "taken_at": taken_at, "exposure": exposure, **facts})  # type: ignore[arg-type]
    return Frame(name, meta, provenance=provenance)


def bare(*names: str) -> list[Frame]:
    """Files without any metadata."""
    return [frame(name, None, model=None) for name in names]


def versions(frames: Sequence[Frame], alike: bool | None = None, fixed: Sequence[str] = ()) -> dict[str, str]:
    """The versions found; `alike` is the answer to every doubt, None where there must be none."""

    def look_alike(doubtful: Sequence[tuple[str, str, Doubt]]) -> list[bool]:
        assert alike is not None, doubtful
        return [alike] * len(doubtful)

    return {name: version.original for name, version in find_versions(frames, fixed, look_alike).items()}


@pytest.mark.parametrize(
    ("used", "version"),
    [
        ("RAW/IMG_1.CR3", "JPG/IMG_1.JPG"),
        ("a/DCIM/100/IMG_1.CR3", "b/DCIM/100/IMG_1.JPG"),
        ("IMG_1.NEF", "IMG_1.dng"),
        ("IMG_1.dng", "IMG_1-Enhanced-NR.dng"),
        ("IMG_1.dng", "IMG_1-Edit.tif"),
        ("IMG_1.dng", "exports/web/IMG_1.tif"),
        ("IMG_1.jpg", "IMG_1-Edit.tif"),
        ("IMG_1.tif", "IMG_1.jpg"),
        ("IMG_1.jpg", "IMG_1 copy.jpg"),
        ("IMG_1.CR3", "IMG_1 (2).jpg"),
        ("IMG_1-Edit.tif", "IMG_1-Edit.jpg"),
    ],
)
def test_files_of_one_name_and_time_are_one_exposure(used: str, version: str) -> None:
    for order in ((used, version), (version, used)):
        assert versions([frame(name) for name in order]) == {version: used}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"taken_at": NOON}, {"taken_at": "2026-05-01T12:00:01"}),
        ({"taken_at": f"{NOON}.250000"}, {"taken_at": f"{NOON}.750000"}),
        ({"model": "Camera One"}, {"model": "Camera Two"}),
        ({"model": "Canon EOS R6"}, {"model": "Canon EOS R6 Mark II"}),
        ({"serial": "0017"}, {"serial": "18"}),
        ({"serial": "17"}, {"serial": "4175"}),
        ({"f_number": 1.8}, {"f_number": 16.0}),
        ({"shutter_s": 0.01}, {"shutter_s": 0.02}),
        ({"utc_offset": "+02:00"}, {"utc_offset": "+01:00", "taken_at": "2026-05-01T12:30:00"}),
    ],
)
def test_files_of_one_name_whose_metadata_contradict_each_other_are_two_exposures(first: Facts, second: Facts) -> None:
    assert versions([frame("RAW/IMG_1.CR3", **first), frame("JPG/IMG_1.JPG", **second)]) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"taken_at": f"{NOON}.250000"}, {"taken_at": NOON}),
        ({"serial": "0017"}, {"serial": "17"}),
        ({"model": "Canon EOS R6"}, {"model": "EOS R6"}),
        ({"f_number": 1.8}, {"f_number": 1.79}),
        ({"utc_offset": "+02:00"}, {"utc_offset": "+00:00", "taken_at": "2026-05-01T10:00:00"}),
    ],
)
def test_metadata_that_are_only_written_differently_are_one_exposure(first: Facts, second: Facts) -> None:
    frames = [frame("RAW/IMG_1.CR3", **first), frame("JPG/IMG_1.JPG", **second)]  # type: ignore[arg-type]
    assert versions(frames) == {"JPG/IMG_1.JPG": "RAW/IMG_1.CR3"}


def test_the_two_frames_of_a_pair_are_no_versions_of_each_other() -> None:
    assert versions(bare("blur/1.png", "sharp/1.png")) == {}
    assert versions([frame("blur/1.dng", software="x"), frame("sharp/1.dng", software="y")]) == {}
    assert versions(bare("left/1.png", "right/1.png", "wide/1.jpg", "narrow/1.png")) == {}
    assert versions(bare("lake.png", "lake_2.png", "lake_blur.png", "lake_sharp.png")) == {}
    assert versions([frame("lake_f2.dng"), frame("lake_f22.dng"), frame("IMG_1.dng"), frame("IMG_2.dng")]) == {}


def test_names_without_metadata_suffice_in_one_folder_only() -> None:
    assert versions(bare("IMG_1.dng", "img_1.JPG")) == {"img_1.JPG": "IMG_1.dng"}
    assert versions(bare("x.png", "x.jpg", "x-Edit.png"), alike=True) == {"x.jpg": "x.png", "x-Edit.png": "x.png"}
    assert versions(bare("x.png", "x.jpg", "x-Edit.png"), alike=False) == {"x.jpg": "x.png"}
    for alike, expected in ((True, {"png/day/IMG_1.png": "raw/day/IMG_1.dng"}), (False, {})):
        assert versions(bare("raw/day/IMG_1.dng", "png/day/IMG_1.png"), alike) == expected
    assert versions(bare("IMG_1.dng", "export/IMG_1.png"), alike=True) == {"export/IMG_1.png": "IMG_1.dng"}


def test_numbers_that_start_again_name_other_exposures() -> None:
    assert versions([frame("100/IMG_1.CR3"), frame("101/IMG_1.JPG", "2026-05-02T12:00:00")]) == {}
    many = [frame(f"scene-{index}/blur.{suffix}", None) for index in range(20) for suffix in ("dng", "jpg")]
    expected = {f"scene-{index}/blur.jpg": f"scene-{index}/blur.dng" for index in range(20)}
    assert versions(many) == expected


def test_pixels_decide_on_files_that_two_bodies_or_a_burst_might_have_made() -> None:
    for first, second in (
        (frame("left/IMG_1.CR3"), frame("right/IMG_1.CR3")),
        (frame("x.jpg"), frame("x (1).jpg")),
        (frame("a.jpg", f"{NOON}.120000"), frame("b.jpg", f"{NOON}.120000")),
    ):
        assert versions([first, second], alike=False) == {}
        assert versions([first, second], alike=True) == {second.name: first.name}
    same = [frame("left/IMG_1.CR3", serial="7"), frame("backup/IMG_1.CR3", serial="7")]
    assert versions(same, alike=True) == {"left/IMG_1.CR3": "backup/IMG_1.CR3"}
    assert versions(same, alike=False) == {}


def test_two_shots_of_one_body_within_a_second_are_two_exposures_unless_their_pictures_are_equal() -> None:
    second = [frame("near/1.jpg", serial="7"), frame("far/1.jpg", serial="7")]
    assert versions(second, alike=False) == {}
    half = [frame("near/1.jpg", f"{NOON}.250000", serial="7"), frame("far/1.jpg", NOON, serial="7")]
    assert versions(half, alike=False) == {}
    instant = [frame(name, f"{NOON}.250000", serial="7") for name in ("near/1.jpg", "far/1.jpg")]
    assert versions(instant) == {"near/1.jpg": "far/1.jpg"}


def test_renamed_files_are_known_by_their_instant_or_by_the_name_of_their_raw_file() -> None:
    instant = f"{NOON}.123000"
    renamed = [frame("IMG_1.CR3", instant, serial="7"), frame("20260501-1.jpg", instant, serial="7")]
    assert versions(renamed) == {"20260501-1.jpg": "IMG_1.CR3"}
    converted = [frame("IMG_1.CR3"), frame("2026/lake.dng", raw_name="IMG_1.CR3")]
    assert versions(converted) == {"2026/lake.dng": "IMG_1.CR3"}
    assert versions([frame("IMG_1.CR3"), frame("other.jpg")]) == {}


def test_the_time_of_the_last_change_is_not_the_time_of_the_shot() -> None:
    edit = frame("IMG_1-Edit.tif", "2026-06-30T08:00:00", has_shot_time=False)
    assert versions([frame("IMG_1.dng"), edit], alike=True) == {"IMG_1-Edit.tif": "IMG_1.dng"}
    assert versions([frame("IMG_1.dng"), edit], alike=False) == {}


def test_a_version_of_a_version_is_one_of_the_file_that_is_used() -> None:
    chain = [frame("a.CR3", serial="1"), frame("a.dng"), frame("x/a-Edit.tif"), frame("y/a-Edit.jpg"), *bare("a.png")]
    assert versions(chain) == dict.fromkeys(("a.dng", "x/a-Edit.tif", "y/a-Edit.jpg", "a.png"), "a.CR3")


def test_files_of_a_table_are_no_versions() -> None:
    assert versions([frame("a.CR3"), frame("a.JPG"), frame("a.tif")], fixed=["a.JPG"]) == {"a.tif": "a.CR3"}


@given(st.permutations(range(9)), st.integers(0, 99))
def test_the_order_of_the_files_does_not_matter(order: list[int], seed: int) -> None:
    numbers = random.Random(seed)
    names = (
        "RAW/1.dng",
        "JPG/1.jpg",
        "JPG/1-Edit.jpg",
        "1.tif",
        "RAW/2.dng",
        "JPG/2.jpg",
        "x/2 (1).jpg",
        "3.png",
        "3.jpg",
    )
    frames = [frame(name, numbers.choice((NOON, None))) for name in names]
    found = versions(frames, alike=True)
    assert versions([frames[index] for index in order], alike=True) == found
    assert set(found.values()).isdisjoint(found)
