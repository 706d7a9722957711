"""The perceptual hash and near duplicates."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdd_toolkit.imaging.perceptual_hash import (
    MAX_HAMMING_DISTANCE,
    hash_of,
    mirror_hashes,
    near_duplicates,
    to_integers,
)
from tests.support.paths import SHARED
from tests.support.small_dataset import texture

NATURAL = SHARED / "data" / "natural"
Frame = NDArray[np.uint8]


def scene(seed: int) -> Frame:
    """A picture with content at the scale of objects, not of texture."""
    noise = np.random.default_rng(seed).random((12, 16, 3)).astype(np.float32)
    return np.clip(255 * cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def shifted(frame: Frame) -> Frame:
    return np.ascontiguousarray(frame[6:, 8:])


def darker(frame: Frame) -> Frame:
    return (255 * ((frame / 255) ** 2.2 / 2) ** (1 / 2.2)).astype(np.uint8)


def smaller(frame: Frame) -> Frame:
    return np.asarray(cv2.resize(frame, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def noisy(frame: Frame) -> Frame:
    return np.clip(frame + np.random.default_rng(0).normal(0, 8, frame.shape), 0, 255).astype(np.uint8)


def flipped(frame: Frame) -> Frame:
    return np.ascontiguousarray(frame[:, ::-1])


def distance(first: Frame, second: Frame) -> int | None:
    found = near_duplicates(to_integers([hash_of(first)]), to_integers([hash_of(second)]))
    return int(found[0, 2]) if len(found) else None


@pytest.mark.parametrize("change", [shifted, darker, smaller, noisy, flipped])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_looks_alike_however_it_was_shot(change: Callable[[Frame], Frame], seed: int) -> None:
    found = distance(scene(seed), change(scene(seed)))
    assert found is not None
    assert found <= MAX_HAMMING_DISTANCE


def test_different_pictures_do_not_look_alike() -> None:
    looks = to_integers([hash_of(scene(seed)) for seed in range(60)])
    pairs = near_duplicates(looks, looks)
    assert [(int(i), int(j), int(bits)) for i, j, bits in pairs] == [(number, number, 0) for number in range(60)]


def test_eight_and_sixteen_bits_give_the_same_hash() -> None:
    frame = scene(1)
    assert hash_of(frame.astype(np.uint16) * np.uint16(257)) == hash_of(frame)


def test_a_frame_without_content_looks_like_nothing() -> None:
    empty = hash_of(np.full((40, 60, 3), 90, np.uint8))
    assert empty == "0" * 16
    assert len(near_duplicates(to_integers([empty]), to_integers([empty, hash_of(texture(1))]))) == 0


def test_the_hash_of_a_mirrored_picture_follows_from_that_of_the_picture() -> None:
    frame = scene(2)
    assert mirror_hashes(to_integers([hash_of(frame)])) == to_integers([hash_of(flipped(frame))])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_the_search_by_words_finds_what_comparing_all_with_all_finds(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    # Few enough to compare all with all, or too many for that.
    count = 60 if seed % 2 else 300
    first = rng.integers(0, 2**63, count, dtype=np.uint64)
    second = first[rng.integers(0, count, count)]
    for _ in range(most):
        second = second ^ (np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64))
    second[::3] = mirror_hashes(second[::3])
    first[0] = second[0] = 0
    bits = np.minimum(
        np.bitwise_count(first[:, None] ^ second), np.bitwise_count(mirror_hashes(first)[:, None] ^ second)
    ).astype(np.int64)
    near = (bits <= most) & (first[:, None] != 0) & (second != 0)
    expected = np.stack([*np.nonzero(near), bits[near]], axis=1)
    np.testing.assert_array_equal(near_duplicates(first, second, most), expected)


@pytest.mark.skipif(not NATURAL.is_dir(), reason="shared/data/natural is not here")
def test_photographs_of_different_scenes_keep_their_distance() -> None:
    paths = sorted(path for path in NATURAL.rglob("*") if path.suffix in (".png", ".jpg"))
    looks = to_integers([hash_of(cv2.imread(str(path))[..., ::-1].copy()) for path in paths])
    assert len(looks) > 200
    assert all(row[0] == row[1] for row in near_duplicates(looks, looks))
