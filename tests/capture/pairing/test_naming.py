from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from capture.pairing.naming import number_ids, safe_names


def test_names_become_lower_case_ascii() -> None:
    assert safe_names(["Café du Lac/IMG 01", "scene-0001"]) == {
        "Café du Lac/IMG 01": "cafe-du-lac-img-01",
        "scene-0001": "scene-0001",
    }


def test_pairs_of_a_scene_are_numbered_around_other_scenes_names() -> None:
    assert number_ids(["room", "room", "room", "room-2"]) == ["room", "room-3", "room-4", "room-2"]


@given(st.sets(st.text(max_size=300), max_size=8))
def test_any_names_become_safe_and_stay_distinct(names: set[str]) -> None:
    safe = safe_names(names)
    assert len(set(safe.values())) == len(names)
    assert all(re.fullmatch(r"[a-z0-9._-]{1,110}", name) and name not in (".", "..") for name in safe.values())


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b"])))
def test_ids_are_distinct(scenes: list[str]) -> None:
    ids = number_ids(scenes)
    assert len(set(ids)) == len(ids) == len(scenes)
