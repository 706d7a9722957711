from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.config import IngestConfig
from capture.pairing.scenes import Frame, Role, group_scenes, natural_key, split_role
from sdd_toolkit.records import FrameMeta


def frames(*names: str, model: str | None = None) -> list[Frame]:
    return [Frame(name, FrameMeta(model=model)) for name in names]


def taken(name: str, second: float) -> Frame:
    return Frame(name, FrameMeta(taken_at=f"2026-05-01T10:{int(second) // 60:02d}:{int(second) % 60:02d}"))


def scenes_of(entries: list[Frame], **config: object) -> dict[str, list[str]]:
    return {
        scene.name: [frame.name for frame in scene.frames] for scene in group_scenes(entries, IngestConfig(**config))
    }


@pytest.mark.parametrize(
    ("stem", "role", "rest"),
    [
        ("dpdd_00_blur", Role.BLUR, "dpdd_00"),
        ("Lake Sharp", Role.SHARP, "lake"),
        ("sharp", Role.SHARP, ""),
        ("blur2", Role.BLUR, "2"),
        ("f4_blur", Role.BLUR, ""),
        ("a-f2.8-source", Role.BLUR, "a"),
        ("defocus_017_gt", Role.SHARP, "defocus_017"),
        ("IMG_0815", None, "img_0815"),
        ("blurb", None, "blurb"),
    ],
)
def test_the_last_role_word_of_a_name_is_its_role(stem: str, role: Role | None, rest: str) -> None:
    assert split_role(stem) == (role, rest)


def test_frames_named_alike_but_for_their_role_are_one_scene() -> None:
    found = scenes_of(
        frames("dpdd_00_blur.png", "dpdd_00_sharp.png", "dpdd_01_blur.png", "f4_blur.png", "f22_sharp.png")
    )
    assert found == {
        "dpdd_00": ["dpdd_00_blur.png", "dpdd_00_sharp.png"],
        "dpdd_01": ["dpdd_01_blur.png"],
        "": ["f4_blur.png", "f22_sharp.png"],
    }


def test_folders_named_after_roles_pair_their_files_by_name() -> None:
    found = scenes_of(frames("train/source/1.png", "train/target/1.png", "train/source/2.png", "train/target/2.png"))
    assert found == {
        "train/1": ["train/source/1.png", "train/target/1.png"],
        "train/2": ["train/source/2.png", "train/target/2.png"],
    }


def test_a_folder_that_only_happens_to_have_a_role_word_as_name_is_a_folder() -> None:
    assert {
        frame.role
        for scene in group_scenes(frames("source/1.png", "source/2.png"), IngestConfig())
        for frame in scene.frames
    } == {None}


def test_small_folders_side_by_side_are_scenes() -> None:
    found = scenes_of(frames("a/x1.dng", "a/y7.dng", "b/blur.dng", "b/sharp.dng", "stray.dng"))
    assert found == {"stray": ["stray.dng"], "a": ["a/x1.dng", "a/y7.dng"], "b": ["b/blur.dng", "b/sharp.dng"]}


def test_one_sharp_frame_and_several_blurred_ones_in_a_folder_are_one_scene() -> None:
    found = scenes_of(frames("s1/blur.dng", "s1/blur_2.dng", "s1/sharp.dng", "s2/a.dng"))
    assert found["s1"] == ["s1/blur.dng", "s1/blur_2.dng", "s1/sharp.dng"]


def test_a_long_pause_starts_a_new_scene() -> None:
    shots = [taken("d.nef", 100), taken("a.nef", 0), taken("b.nef", 20), taken("c.nef", 40)]
    assert scenes_of(shots, gap_s=30) == {"a": ["a.nef", "b.nef", "c.nef"], "d": ["d.nef"]}


def test_names_that_differ_in_a_number_belong_together_where_no_time_is_known() -> None:
    found = scenes_of(frames("step9.jpg", "step10.jpg", "room_1.jpg", "07.jpg", "08.jpg"))
    assert found == {"": ["07.jpg", "08.jpg"], "room": ["room_1.jpg"], "step": ["step9.jpg", "step10.jpg"]}


def test_frames_of_two_cameras_are_two_scenes() -> None:
    mixed = [*frames("a/1.dng", "a/2.dng", model="One"), *frames("a/3.dng", model="Two"), *frames("b/1.dng")]
    assert sorted(len(scene.frames) for scene in group_scenes(mixed, IngestConfig())) == [1, 1, 2]


def test_step_9_comes_before_step_10() -> None:
    assert sorted(["step10", "step9", "step"], key=natural_key) == ["step", "step9", "step10"]


names = st.lists(
    st.builds(
        lambda folder, stem, ext: "/".join([*folder, stem + ext]),
        st.lists(st.sampled_from(["a", "b", "blur", "gt", "source"]), max_size=2),
        st.text(st.sampled_from("ab_ 1é場"), min_size=1, max_size=4).map(lambda stem: stem + "x")
        | st.sampled_from(["a_blur", "a_sharp", "blur", "sharp", "gt2", "f2_input"]),
        st.sampled_from([".dng", ".jpg"]),
    ),
    unique=True,
    max_size=12,
)


@given(names, st.randoms(use_true_random=False), st.integers(2, 5))
def test_every_frame_is_in_one_scene_whatever_order_it_comes_in(
    entries: list[str], order: object, scene_frames: int
) -> None:
    config = IngestConfig(scene_frames=scene_frames)
    first = group_scenes(frames(*entries), config)
    assert sorted(frame.name for scene in first for frame in scene.frames) == sorted(entries)
    order.shuffle(entries)  # type: ignore[attr-defined]
    assert sorted(map(str, group_scenes(frames(*entries), config))) == sorted(map(str, first))


def test_folders_of_a_memory_card_are_parted_by_pauses_however_few_frames_they_hold() -> None:
    card = [
        taken(f"{folder}/{n}.dng", 60 * (n // 2) + 3 * (n % 2)) for folder in ("100CANON", "101CANON") for n in range(6)
    ]
    assert sorted(map(len, scenes_of(card).values())) == [2] * 6


def test_a_scenes_own_folder_stays_whole_however_slowly_it_was_shot() -> None:
    slow = [taken("lake/0.dng", 0), taken("lake/1.dng", 4), taken("lake/2.dng", 90), taken("street/0.dng", 300)]
    assert scenes_of(slow) == {"lake": ["lake/0.dng", "lake/1.dng", "lake/2.dng"], "street": ["street/0.dng"]}
