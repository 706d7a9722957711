from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.content_similarity import detail_band
from sdd_toolkit.layouts.catalogue import survey_folder
from sdd_toolkit.layouts.content_order import match_by_content
from sdd_toolkit.layouts.frame_bands import read_band
from tests.support.dead_leaves import leaves_picture, recapture

Band = NDArray[np.int8] | None


def scene_bands(sharp: NDArray[np.float32]) -> tuple[Band, Band]:
    """The bands of the blurred and of the sharp frame of a scene."""
    return detail_band(recapture(sharp, 1.0, 0.0, 0.0, 0.03, 0.7)), detail_band(sharp)


def folders(names: list[tuple[str, str]], pictures: list[NDArray[np.float32]]) -> dict[str, Band]:
    bands: dict[str, Band] = {}
    for (blur, sharp), picture in zip(names, pictures, strict=True):
        bands[f"s/{blur}.png"], bands[f"t/{sharp}.png"] = scene_bands(picture)
    return bands


def match(bands: dict[str, Band], *lost: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    present = {path: band for path, band in bands.items() if path not in lost}
    first, second = (sorted(path for path in present if path[0] == folder) for folder in "st")
    matches = match_by_content(first, second, present)
    named = {path: path[2:-4] for path in present}
    assert {path for pair in matches.pairs for path in pair}.isdisjoint(matches.left_out)
    assert len(matches.pairs) * 2 + len(matches.left_out) == len(present)
    return [(named[a], named[b]) for a, b in matches.pairs], {named[p]: why for p, why in matches.left_out.items()}


CAMERA = [(f"1P0A{number}", f"1P0A{number + 1}") for number in range(1001, 1017, 2)]
LETTERS = [(f"blur {letter}", f"sharp {letter}") for letter in "abcdefgh"]
SCENES = [leaves_picture(seed) for seed in range(8)]
# Neighbouring scenes that look alike: a picture in which one object moves.
ALIKE = [
    cv2.circle(leaves_picture(3), (30 + 15 * step, 60), 16, 0.9 - 0.1 * (step % 2), -1).astype(np.float32)
    for step in range(8)
]


@pytest.mark.parametrize("pictures", [SCENES, ALIKE])
@pytest.mark.parametrize("names", [CAMERA, LETTERS])
def test_a_whole_set_pairs_in_its_order(names: list[tuple[str, str]], pictures: list[NDArray[np.float32]]) -> None:
    assert match(folders(names, pictures)) == (names, {})


@pytest.mark.parametrize("pictures", [SCENES, ALIKE])
@pytest.mark.parametrize("lost", [((1, 0), (3, 1)), ((0, 0), (7, 1)), ((0, 1), (7, 0)), ((2, 0),), ((4, 1), (5, 0))])
def test_missing_frames_cost_their_own_pairs_only(
    pictures: list[NDArray[np.float32]], lost: tuple[tuple[int, int], ...]
) -> None:
    gone = {f"{'st'[side]}/{CAMERA[scene][side]}.png" for scene, side in lost}
    alone = {CAMERA[scene][1 - side] for scene, side in lost}
    pairs, left_out = match(folders(CAMERA, pictures), *gone)
    assert pairs == [pair for pair in CAMERA if not alone & set(pair)]
    assert left_out.keys() == alone


def test_names_without_numbers_pair_by_content_alone() -> None:
    pairs, left_out = match(folders(LETTERS, SCENES), "s/blur b.png", "t/sharp f.png")
    assert pairs == [pair for pair in LETTERS if pair[0][-1] not in "bf"]
    assert left_out.keys() == {"sharp b", "blur f"}
    assert "agrees most, by 0." in left_out["blur f"]


def test_what_looks_alike_out_of_order_is_left_out_where_names_have_no_numbers() -> None:
    pairs, left_out = match(folders(LETTERS, ALIKE), "s/blur b.png", "t/sharp f.png")
    assert set(pairs) < set(LETTERS)
    assert len(pairs) >= 4
    assert left_out["sharp b"] == left_out["blur f"] == "it looks like a frame out of the order of the others"
    mixed = [(first, second) for first, (_, second) in zip("qwertyui", LETTERS, strict=True)]
    assert sorted(match(folders(mixed, SCENES))[0]) == sorted(mixed)


def test_one_of_two_equal_scenes_without_numbers_is_doubtful() -> None:
    pairs, left_out = match(folders(LETTERS[:3], [SCENES[0], SCENES[0], SCENES[1]]), "t/sharp b.png")
    assert pairs == [LETTERS[2]]
    assert left_out["sharp a"] == "frames that look alike: one of them has no partner"


def test_a_scene_that_another_number_shows_is_left_out() -> None:
    pictures = [*SCENES[:6], SCENES[6], SCENES[6]]
    names = [*CAMERA[:6], ("1P0A1013", "1P0A1014"), ("1P0A1015", "1P0A1016")]
    pairs, left_out = match(folders(names, pictures), "s/1P0A1013.png", "t/1P0A1016.png")
    assert pairs == CAMERA[:6]
    assert left_out["1P0A1015"] == "it looks like 1P0A1014.png, but the numbers of the other pairs differ by +1"


def test_a_frame_without_texture_goes_by_its_number_once_others_confirm_the_numbers() -> None:
    bands = folders(CAMERA, SCENES)
    bands["s/1P0A1005.png"] = None
    assert match(bands)[0] == CAMERA
    pairs, left_out = match(bands, "t/1P0A1006.png")
    assert pairs == [pair for pair in CAMERA if pair[0] != "1P0A1005"]
    assert left_out["1P0A1005"].startswith("too small or too flat")


def test_a_frame_without_texture_takes_no_partner_of_another_and_none_of_two() -> None:
    bands = folders(CAMERA, SCENES)
    bands["s/1P0A1005.png"] = bands["s/x1P0A1005.png"] = None  # of one number, as in two folders
    pairs, left_out = match(bands)
    assert pairs == [pair for pair in CAMERA if pair[0] != "1P0A1005"]
    assert left_out.keys() == {"1P0A1005", "x1P0A1005", "1P0A1006"}
    bands = folders(CAMERA, SCENES)
    bands["s/1P0A1005.png"], bands["s/9.png"] = None, bands.pop("s/1P0A1005.png")
    pairs, left_out = match(bands)
    assert left_out["1P0A1006"].startswith("it looks like 9.png, but the numbers")
    assert left_out.keys() == {"1P0A1005", "1P0A1006", "9"}


@pytest.mark.parametrize(("agreement", "is_pair"), [(0.7, True), (0.62, True), (0.58, False), (0.45, False)])
def test_frames_that_agree_by_0_6_are_of_one_scene(
    agreement: float, is_pair: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.full((3, 3), 0.1, np.float32)
    np.fill_diagonal(scores, (0.9, 0.9, agreement))
    monkeypatch.setattr("sdd_toolkit.layouts.content_order.correlations", lambda first, second: scores)
    pairs, left_out = match(folders(LETTERS[:3], SCENES[:3]))
    assert pairs == LETTERS[: 3 if is_pair else 2]
    assert left_out.keys() == (set() if is_pair else set(LETTERS[2]))


def test_frames_that_cannot_be_compared_pair_by_numbers_only_if_all_do_in_one_way() -> None:
    flat: dict[str, Band] = {f"{'st'[side]}/{name}.png": None for pair in CAMERA for side, name in enumerate(pair)}
    assert match(flat)[0] == CAMERA
    assert match(flat, "s/1P0A1003.png", "t/1P0A1008.png")[0] == []
    assert match({f"{'st'[side]}/{name}.png": None for pair in LETTERS for side, name in enumerate(pair)})[0] == []
    assert match({})[0] == []


def test_a_counter_that_starts_again_is_one_number_apart() -> None:
    names = [("IMG_9995", "IMG_9996"), ("IMG_9997", "IMG_9998"), ("IMG_9999", "IMG_0001"), ("IMG_0002", "IMG_0003")]
    assert sorted(match(folders(names, SCENES[:4]))[0]) == sorted(names)


def test_any_constant_difference_of_numbers_settles_what_looks_alike() -> None:
    names = [(f"frame_{number:04d}", f"frame_{number + 100:04d}") for number in range(8)]
    pairs, left_out = match(folders(names, ALIKE), "s/frame_0002.png", "t/frame_0106.png")
    assert pairs == [pair for pair in names if pair[0][-1] not in "26"]
    assert left_out.keys() == {"frame_0102", "frame_0006"}


def test_bands_are_read_upright_and_not_of_what_is_too_small_or_damaged(tmp_path: Path) -> None:
    picture = np.repeat((leaves_picture(5, 300, 450) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    write_values(tmp_path / "1.png", picture)
    write_values(tmp_path / "2.png", picture[:20, :30])
    (tmp_path / "3.png").write_bytes((tmp_path / "1.png").read_bytes()[:500])
    band = read_band("1.png", tmp_path)
    assert band is not None
    assert band.shape == (128, 192)
    for name, size in (("5.png", (32, 60000)), ("6.png", (60000, 40))):
        cv2.imwrite(str(tmp_path / name), np.tile(picture[:32, :40, 0], (size[0] // 32, size[1] // 40)))
    names = ("2.png", "3.png", "4.png", "5.png", "6.png", "../1.png")
    assert [read_band(name, tmp_path) for name in names] == [None] * 6


def test_real_pairs_of_a_shifted_download_are_found_again(real_data: Path, tmp_path: Path) -> None:
    for index in range(9):
        for role, folder, number in (("blur", "source", 101), ("sharp", "target", 102)):
            picture = cv2.imread(str(real_data / f"defocus_pairs/dpdd_{index:02d}_{role}.png"))[40:]
            (tmp_path / "test_c" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / f"test_c/{folder}/1P0A{number + 2 * index:04d}.png"), picture)
    (tmp_path / "test_c/source/1P0A0101.png").unlink()
    (tmp_path / "test_c/target/1P0A0118.png").unlink()
    _, listing = survey_folder(tmp_path, "auto")
    assert [(pair.blur[-8:-4], pair.sharp[-8:-4]) for pair in listing.pairs] == [
        (f"{number:04d}", f"{number + 1:04d}") for number in range(103, 117, 2)
    ]
    assert {entry.path for entry in listing.unpaired} == {"test_c/source/1P0A0117.png", "test_c/target/1P0A0102.png"}
    assert "7 pairs agree in content, 2 frames are left out" in listing.warnings[0]
