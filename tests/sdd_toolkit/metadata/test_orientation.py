from __future__ import annotations

from dataclasses import replace

from sdd_toolkit.metadata.orientation import describe_tags, turn_of_blurred
from sdd_toolkit.records import FrameMeta

LANDSCAPE = FrameMeta(make="Planted", model="One", serial="7", size=(400, 600))


def test_frames_of_one_body_are_turned_by_the_sharp_frames_tag() -> None:
    for blur, sharp, turn in ((1, 6, 6), (6, 1, 8), (1, 3, 3), (6, 8, 3), (3, 3, 1), (8, 8, 1), (2, 1, 2), (5, 1, 5),
                               (2, 6, 7), (5, 8, 4)):  # fmt: skip
        assert turn_of_blurred(replace(LANDSCAPE, orientation=blur), replace(LANDSCAPE, orientation=sharp)) == turn


def test_frames_of_two_bodies_or_sizes_are_taken_as_they_are_displayed() -> None:
    turned = replace(LANDSCAPE, orientation=6)
    others = ({"model": "Two"}, {"serial": "8"}, {"size": (600, 400)}, {"size": None}, {"make": None})
    for changes in others:
        assert turn_of_blurred(turned, replace(LANDSCAPE, **changes)) == 1
    assert turn_of_blurred(FrameMeta(size=(4, 6), orientation=6), FrameMeta(size=(4, 6))) == 8


def test_a_hint_names_tags_that_differ() -> None:
    assert describe_tags(LANDSCAPE, LANDSCAPE) == ""
    hint = describe_tags(LANDSCAPE, replace(LANDSCAPE, orientation=6))
    assert hint == "EXIF Orientation is 1 in the blurred frame, 6 in the sharp one"
