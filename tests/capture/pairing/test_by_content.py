from __future__ import annotations

import numpy as np
import pytest

from capture.config import IngestConfig
from capture.inspection.thumbnails import Thumbnail, thumbnail_of
from capture.pairing.by_content import is_same_picture, pair_by_content
from capture.pairing.rules import PairingResult
from capture.pairing.scenes import Frame
from sdd_toolkit.records import Exposure, FrameMeta, Reason
from tests.support.dead_leaves import leaves_picture, recapture


def thumbnail(name: str, picture: np.ndarray) -> Thumbnail:
    return thumbnail_of(name, np.repeat((picture**2)[..., None], 3, axis=-1), "pixels")


def paired(
    pictures: dict[str, np.ndarray], f_numbers: dict[str, float] | None = None, **config: object
) -> list[PairingResult]:
    metas = {name: FrameMeta(exposure=Exposure(f_number=(f_numbers or {}).get(name))) for name in pictures}
    frames = [Frame(name, metas[name]) for name in sorted(pictures)]
    looks = {name: thumbnail(name, picture) for name, picture in pictures.items()}
    return list(pair_by_content(frames, looks, IngestConfig(pairing="auto", **config)))


def names(results: list[PairingResult]) -> set[tuple[str, str]]:
    return {(match.blur.name, match.sharp.name) for result in results for match in result.matches}


def words(results: list[PairingResult]) -> dict[str, tuple[Reason, str]]:
    return {frame.name: (reason, word) for result in results for frame, reason, word in result.leftovers}


def soft(seed: int, blur: float = 0.02, gain: float = 1.0) -> np.ndarray:
    return recapture(leaves_picture(seed), 1.02, 0.5, 0.01, blur, gain)


def test_twenty_shuffled_pairs_are_all_found_and_no_false_one() -> None:
    order = np.random.default_rng(0).permutation(40)
    pictures = {
        f"{place:02d}": soft(seed // 2) if seed % 2 else leaves_picture(seed // 2) for place, seed in enumerate(order)
    }
    place = {int(seed): f"{index:02d}" for index, seed in enumerate(order)}
    assert names(paired(pictures)) == {(place[2 * n + 1], place[2 * n]) for n in range(20)}


def test_one_sharp_frame_serves_every_blurred_one_of_its_scene() -> None:
    pictures = {"a": soft(1, 0.03), "b": leaves_picture(1), "c": soft(1, 0.015), "d": leaves_picture(2)}
    results = paired(pictures)
    assert names(results) == {("a", "b"), ("c", "b")}
    assert words(results)["d"][0] is Reason.NO_PARTNER


def test_the_pixels_decide_and_contradicting_exif_is_reported() -> None:
    (result, _) = paired({"a": soft(1), "b": leaves_picture(1)}, {"a": 16.0, "b": 1.8})
    assert result.matches[0].blur.name == "a"
    assert "f/16 -> f/1.8 (EXIF says the opposite)" in result.matches[0].evidence


def test_the_f_number_decides_between_frames_equally_sharp() -> None:
    twins = {"a": leaves_picture(1), "b": np.roll(leaves_picture(1), 1, axis=1)}
    assert names(paired(twins, {"a": 16.0, "b": 1.8})) == {("b", "a")}
    assert names(paired(twins, {"a": 1.8, "b": 16.0})) == {("a", "b")}


def test_flat_frames_never_pair_and_say_why() -> None:
    flat = np.full((128, 192), 0.5, np.float32)
    results = paired({"a": flat, "b": flat * 0.9})
    assert names(results) == set()
    assert words(results)["a"] == (Reason.NO_PARTNER, "too little texture to compare")


def test_a_difference_of_exposure_that_no_gain_bridges_is_measured() -> None:
    results = paired({"a": soft(1, gain=0.25), "b": leaves_picture(1)}, max_exposure_ev=2.0)
    assert {reason for reason, _ in words(results).values()} == {Reason.EXPOSURE_UNMATCHED}


def test_a_group_too_large_to_be_a_scene_is_left_alone() -> None:
    results = paired(
        {name: np.roll(leaves_picture(1), place, axis=1) for place, name in enumerate("abcd")}, scene_frames=3
    )
    assert words(results)["a"][1] == "4 frames look alike, more than scene_frames = 3"


@pytest.mark.parametrize("count", [0, 1])
def test_few_frames_make_no_pair(count: int) -> None:
    results = paired({name: leaves_picture(1) for name in "a"[:count]})
    assert sum(len(result.leftovers) for result in results) == count


def test_a_smaller_copy_is_no_partner_and_spoils_no_pair() -> None:
    pictures = {"blur": soft(5), "copy": leaves_picture(5), "sharp": leaves_picture(5)}
    frames = [Frame(name, FrameMeta(size=(72, 108) if name == "copy" else (144, 216))) for name in sorted(pictures)]
    looks = {name: thumbnail(name, picture) for name, picture in pictures.items()}
    results = list(pair_by_content(frames, looks, IngestConfig(pairing="auto")))
    assert names(results) == {("blur", "sharp")}
    reason, word = words(results)["copy"]
    assert reason is Reason.NO_PARTNER
    assert word.endswith("which has another size")


@pytest.mark.parametrize(
    ("agreement", "sharper", "is_same"),
    [(0.999, 1.0, True), (0.975, 1.15, True), (0.965, 1.0, False), (0.8, 1.0, False), (0.999, 1.3, False)],
)
def test_copies_agree_by_0_97_and_are_equally_sharp(agreement: float, sharper: float, is_same: bool) -> None:
    noise, other = np.linalg.qr(np.random.default_rng(0).normal(size=(128 * 192, 2)))[0].T.reshape(2, 128, 192)
    mixed = agreement * noise + np.sqrt(1 - agreement**2) * other
    bands = [np.rint(3000 * values).astype(np.int8) for values in (noise, mixed)]
    first, second = (Thumbnail("x", band, detail=detail) for band, detail in zip(bands, (1.0, sharper), strict=True))
    assert is_same_picture(first, second) is is_same
    assert is_same_picture(second, first) is is_same
