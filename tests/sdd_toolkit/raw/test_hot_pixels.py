"""Detection and repair of planted hot and dead pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.raw import hot_pixels
from sdd_toolkit.raw.hot_pixels import Outliers, confirm_hot_pixels, find_outliers, repair

RANGE_DN = 15000.0
BAYER = np.tile(np.array([[0, 1], [3, 2]], dtype=np.uint8), (40, 60))


def soft_mosaic(seed: int, noise_dn: float = 20.0) -> np.ndarray:
    """(80, 120) of a defocused scene: each colour a wave of its own, with noise."""
    ys, xs = np.mgrid[0:80, 0:120]
    chance = np.random.default_rng(seed)
    wave = 3000 + 1500 * np.sin(xs / 15 + seed) * np.cos(ys / 11 + seed) + 800.0 * BAYER
    return np.clip(wave + chance.normal(0, noise_dn, wave.shape), 0, 65535).astype(np.uint16)


def places(found: np.ndarray) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in found}


def planted(seed: int, count: int = 40) -> set[tuple[int, int]]:
    flat = np.random.default_rng(seed).choice(80 * 120, count, replace=False)
    return {(int(at) // 120, int(at) % 120) for at in flat}


@pytest.mark.parametrize("shape", [(80, 120), (41, 35), (3, 4)])
def test_the_median_of_the_noise_by_counting_is_the_median(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    left, centre, right = (plane[:, start : start + shape[1] - 2].astype(np.float64) for start in range(3))
    expected = 1.4826 * np.median(np.abs(centre - (left + right) / 2)) / np.sqrt(1.5)
    assert hot_pixels._noise_dn(plane) == pytest.approx(expected, rel=1e-12)


def test_a_mosaic_without_defects_has_no_confirmed_ones() -> None:
    scenes = [find_outliers(soft_mosaic(seed), RANGE_DN) for seed in range(8)]
    assert confirm_hot_pixels(scenes, 120).shape == (0, 2)


@pytest.mark.parametrize("offset_dn", [1500, 9000])
def test_hot_and_dead_pixels_are_found_and_nothing_else(offset_dn: int) -> None:
    hot, dead = planted(1), planted(2) - planted(1)
    scenes = []
    for seed in range(6):
        mosaic = soft_mosaic(seed)
        for place in hot:
            mosaic[place] += offset_dn
        for place in dead:
            mosaic[place] = 3
        scenes.append(find_outliers(mosaic, RANGE_DN))
    found = places(confirm_hot_pixels(scenes, 120))
    assert not found - hot - dead
    assert len(found & (hot | dead)) >= 0.99 * len(hot | dead)


def test_two_neighbours_of_one_colour_do_not_hide_each_other() -> None:
    mosaic = soft_mosaic(0)
    mosaic[20, 30] = mosaic[20, 32] = 15000
    assert {20 * 120 + 30, 20 * 120 + 32} <= set(find_outliers(mosaic, RANGE_DN).hot.tolist())


def test_a_point_of_light_in_two_scenes_is_not_a_hot_pixel() -> None:
    scenes = []
    for seed in range(4):
        mosaic = soft_mosaic(seed)
        if seed < 2:
            mosaic[33, 44] = 15000
        scenes.append(find_outliers(mosaic, RANGE_DN))
    assert all(33 * 120 + 44 in scene.hot for scene in scenes[:2])
    assert len(confirm_hot_pixels(scenes, 120)) == 0


def test_two_scenes_are_too_few_and_three_of_six_are_enough() -> None:
    with_it = Outliers(np.array([1234]), np.zeros(0, np.int64))
    without = Outliers(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(confirm_hot_pixels([with_it] * 2, 120)) == 0
    assert len(confirm_hot_pixels([with_it] * 3, 120)) == 1
    assert confirm_hot_pixels([with_it] * 3 + [without] * 3, 120).tolist() == [[10, 34]]
    assert len(confirm_hot_pixels([with_it] * 3 + [without] * 4, 120)) == 0


def test_hot_once_and_dead_once_is_not_the_same_defect() -> None:
    none, it = np.zeros(0, np.int64), np.array([7])
    assert len(confirm_hot_pixels([Outliers(it, none)] * 2 + [Outliers(none, it)] * 2, 120)) == 0


def test_a_repaired_sample_is_as_near_the_truth_as_the_noise_allows() -> None:
    truth = soft_mosaic(3, noise_dn=0.0)
    mosaic = soft_mosaic(3)
    spots = np.array(sorted(planted(5)), dtype=np.int32)
    mosaic[spots[:, 0], spots[:, 1]] = 16383
    repair(mosaic, BAYER, spots)
    error = mosaic[spots[:, 0], spots[:, 1]].astype(float) - truth[spots[:, 0], spots[:, 1]]
    assert np.median(np.abs(error)) < 2 * 20.0
    assert np.abs(error).max() < 300


def test_repair_touches_nothing_else_and_survives_corners_and_places_outside() -> None:
    mosaic = soft_mosaic(4)
    before = mosaic.copy()
    repair(mosaic, BAYER, np.array([[0, 0], [79, 119], [80, 0], [-1, 5]], dtype=np.int32))
    changed = {(int(row), int(column)) for row, column in np.argwhere(mosaic != before)}
    assert changed <= {(0, 0), (79, 119)}


def test_a_sample_without_a_sound_neighbour_stays() -> None:
    mosaic = np.full((2, 2), 77, dtype=np.uint16)
    repair(mosaic, BAYER[:2, :2], np.array([[0, 0]], dtype=np.int32))
    assert mosaic.tolist() == [[77, 77], [77, 77]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 79), st.integers(0, 119), st.integers(0, 65535))
def test_a_defect_in_a_flat_field_is_repaired_exactly_whatever_it_read(row: int, column: int, value: int) -> None:
    mosaic = (1000.0 * (BAYER + 1.0)).astype(np.uint16)
    whole = mosaic.copy()
    mosaic[row, column] = value
    repair(mosaic, BAYER, np.array([[row, column]], dtype=np.int32))
    np.testing.assert_array_equal(mosaic, whole)


def by_the_book(mosaic: np.ndarray, range_dn: float) -> tuple[set[int], set[int]]:
    """The definition of `outliers`, sample by sample."""
    found: tuple[set[int], set[int]] = (set(), set())
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        plane = mosaic[row::2, column::2]
        if min(plane.shape) < 3:
            continue
        padded = np.pad(plane, 1, mode="reflect").astype(float)
        least = 4.0 * hot_pixels._noise_dn(plane) + 0.002 * range_dn
        for y, x in np.ndindex(plane.shape):
            around = sorted(np.delete(padded[y : y + 3, x : x + 3].ravel(), 4))
            threshold = 0.25 * (around[-2] - around[1]) + least
            place = (2 * y + row) * mosaic.shape[1] + 2 * x + column
            found[0].update([place] * bool(plane[y, x] > around[-2] + threshold))
            found[1].update([place] * bool(plane[y, x] < around[1] - threshold))
    return found


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from([0.0, 0.02, 0.3]), st.integers(0, 1000))
def test_the_outliers_are_those_of_the_definition(height: int, width: int, share: float, seed: int) -> None:
    chance = np.random.default_rng(seed)
    mosaic = chance.normal(9000, 30, (height, width)).astype(np.uint16)
    spots = chance.random(mosaic.shape) < share
    mosaic[spots] = chance.integers(0, 65536, mosaic.shape)[spots]
    found = find_outliers(mosaic, RANGE_DN)
    assert (found.hot.tolist(), found.dead.tolist()) == tuple(map(sorted, by_the_book(mosaic, RANGE_DN)))


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (7, 9)])
def test_tiny_and_odd_mosaics_are_looked_at_without_complaint(shape: tuple[int, int]) -> None:
    found = find_outliers(np.full(shape, 100, dtype=np.uint16), RANGE_DN)
    assert len(found.hot) == len(found.dead) == 0
