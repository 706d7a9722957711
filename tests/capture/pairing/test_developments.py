from __future__ import annotations

import pytest

from capture.config import IngestConfig
from capture.pairing.developments import development_difference, group_by_development
from capture.pairing.rules import PairingResult, pair_scene
from capture.pairing.scenes import Frame, Scene, assign_roles
from sdd_toolkit.records import Exposure, FileProvenance, FrameMeta, Reason


def frame(
    name: str, software: str | None = None, *, demosaiced: bool = False, model: str = "One", f: float | None = None
) -> Frame:
    provenance = FileProvenance(software, is_demosaiced=demosaiced)
    return Frame(name, FrameMeta(model=model, exposure=Exposure(f_number=f)), provenance=provenance)


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        (frame("a.dng"), frame("b.CR3", "Firmware 1"), False),
        (frame("a.dng"), frame("b.jpg"), True),
        (frame("a.jpg", "Ver.1.00"), frame("b.jpg", "Ver.1.01"), False),
        (frame("a.jpg", "Ver.1.00"), frame("b.jpg", "GIMP 2.10"), True),
        (frame("a.jpg", "Ver.1.00", model="One"), frame("b.jpg", "X-T3 4.1", model="Two"), False),
        (frame("a.jpg"), frame("b.jpg", "GIMP 2.10"), False),
        (frame("a.jpg"), frame("b.tif", "GIMP 2.10"), True),
        (frame("a.jpg"), frame("b.png"), False),
        (frame("a.dng"), frame("b.dng", demosaiced=True), False),  # a fused picture
        (frame("a.dng"), frame("b.dng", "Adobe Lightroom 13", demosaiced=True), True),
        (frame("a.dng", "17.4", demosaiced=True), frame("b.dng", "17.5", demosaiced=True), False),
    ],
)
def test_frames_are_compared_by_what_developed_them(first: Frame, second: Frame, differ: bool) -> None:
    assert bool(development_difference(first, second)) is differ
    assert bool(development_difference(second, first)) is differ
    assert len(group_by_development([first, second])) == 1 + differ


def paired(frames: list[Frame], pairing: str) -> PairingResult:
    return pair_scene(Scene("", tuple(assign_roles(frames))), IngestConfig(pairing=pairing))


def couples(result: PairingResult) -> set[tuple[str, str]]:
    return {(match.blur.name, match.sharp.name) for match in result.matches}


@pytest.mark.parametrize("pairing", ["focus", "aperture", "sequence"])
def test_a_raw_file_and_a_developed_picture_are_no_pair_by_any_rule(pairing: str) -> None:
    result = paired([frame("1_blur.dng", f=1.8), frame("2_sharp.tif", f=16.0)], pairing)
    assert couples(result) == set()
    assert {leftover.reason for leftover in result.leftovers} == {Reason.NO_PARTNER}
    for leftover in result.leftovers:
        assert leftover.detail == "1_blur.dng is RAW, 2_sharp.tif a developed picture"


def test_frames_of_each_development_are_paired_among_themselves() -> None:
    frames = [frame("1.dng", f=1.8), frame("2.dng", f=8.0), frame("3.jpg", f=1.8), frame("4.jpg", f=16.0)]
    assert couples(paired(frames, "aperture")) == {("1.dng", "2.dng"), ("3.jpg", "4.jpg")}


def test_the_shots_of_a_sequence_keep_their_order_where_one_was_developed() -> None:
    frames = [frame("1.dng"), frame("2.jpg"), frame("3.dng"), frame("4.dng")]
    result = paired(frames, "sequence")
    assert couples(result) == {("3.dng", "4.dng")}
    assert [leftover.frame.name for leftover in result.leftovers] == ["1.dng", "2.jpg"]
