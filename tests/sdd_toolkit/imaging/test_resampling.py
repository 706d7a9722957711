"""Warps and masks of planted motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdd_toolkit.imaging import resampling
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation
from sdd_toolkit.imaging.resampling import sample, valid_mask, warp, warp_by_flow, warped_tiles

SIZE = (96, 120)
TILTED = np.array([[1.012, 0.004, 1.3], [-0.003, 0.991, -2.2], [1e-5, -2e-5, 1]])


def waves(x: np.ndarray, y: np.ndarray, seed: int = 0, highest: float = 0.25) -> np.ndarray:
    """Sum of five sinusoids up to `highest` cycles per pixel, amplitude 1 at most, at any points."""
    rng = np.random.default_rng(seed)
    total = np.zeros(np.broadcast(x, y).shape)
    for _ in range(5):
        frequency, angle, phase = highest * np.sqrt(rng.random()), *rng.uniform(0, 2 * np.pi, 2)
        total += np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase) / 5
    return total


def grid(size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    return x, y


def picture(seed: int = 0, size: tuple[int, int] = SIZE, highest: float = 0.25) -> np.ndarray:
    return waves(*grid(size), seed, highest).astype(np.float32)


def pulled(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where target points lie in the source."""
    points = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (points[0] / points[2]).reshape(x.shape), (points[1] / points[2]).reshape(x.shape)


def shifted(dx: float, dy: float) -> np.ndarray:
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], np.float64)


def bend(radial: float, x: np.ndarray, y: np.ndarray, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    centre = (size[1] - 1) / 2, (size[0] - 1) / 2
    squared = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (np.hypot(*size) / 2) ** 2
    return centre[0] + (x - centre[0]) * (1 + radial * squared), centre[1] + (y - centre[1]) * (1 + radial * squared)


@given(st.floats(-9, 9), st.floats(-9, 9), st.integers(0, 99))
@example(0.3, 0.0, 0)
@example(1 / 64, 0.5, 1)
@settings(max_examples=40, deadline=None)
def test_any_shift_of_a_band_limited_image_is_exact(dx: float, dy: float, seed: int) -> None:
    mask = valid_mask(shifted(dx, dy), SIZE, SIZE)
    x, y = grid()
    moved = warp(picture(seed), shifted(dx, dy), SIZE)
    assert np.abs(moved - waves(x - dx, y - dy, seed))[mask].max() < 2e-3


@given(
    st.tuples(*[st.floats(-0.05, 0.05)] * 4),
    st.tuples(*[st.floats(-5, 5)] * 2),
    st.tuples(*[st.floats(-1e-4, 1e-4)] * 2),
)
@settings(max_examples=40, deadline=None)
def test_any_small_homography_of_a_band_limited_image_is_exact(
    linear: tuple[float, ...], shift: tuple[float, ...], perspective: tuple[float, ...]
) -> None:
    matrix = np.eye(3)
    matrix[:2, :2] += np.reshape(linear, (2, 2))
    matrix[:2, 2], matrix[2, :2] = shift, perspective
    mask = valid_mask(matrix, SIZE, SIZE)
    assert mask.any()
    exact = waves(*pulled(matrix, *grid()))
    assert np.abs(warp(picture(), matrix, SIZE) - exact)[mask].max() < 2e-3


def test_smooth_content_is_never_misplaced_by_a_thousandth_of_a_pixel() -> None:
    x, _ = grid()
    ramp = x.astype(np.float32)
    for dx in np.linspace(0, 1, 41):
        mask = valid_mask(shifted(dx, 0), SIZE, SIZE)
        assert np.abs(warp(ramp, shifted(dx, 0), SIZE) - (x - dx))[mask].max() < 1e-4
    for frequency in (0.05, 0.1, 0.2, 0.25):
        wave = np.sin(2 * np.pi * frequency * x).astype(np.float32)
        worst = max(
            np.abs(warp(wave, shifted(dx, 0), SIZE) - np.sin(2 * np.pi * frequency * (x - dx)))[:, 10:-10].max()
            for dx in np.linspace(0, 1, 41)
        )
        assert worst / (2 * np.pi * frequency) < 1e-3


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (5,)])
def test_the_identity_returns_the_input_bit_for_bit(channels: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random((*SIZE, *channels), dtype=np.float32)
    np.testing.assert_array_equal(warp(image, np.eye(3), SIZE), image)


@given(st.integers(-200, 200), st.integers(-200, 200))
@settings(max_examples=20, deadline=None)
def test_a_shift_by_whole_pixels_copies_them_and_repeats_the_border(dx: int, dy: int) -> None:
    image = np.random.default_rng(1).random((*SIZE, 3), dtype=np.float32)
    rows, columns = (np.clip(np.arange(n) - d, 0, n - 1) for n, d in zip(SIZE, (dy, dx), strict=True))
    np.testing.assert_array_equal(warp(image, shifted(dx, dy), SIZE), image[np.ix_(rows, columns)])


@pytest.mark.parametrize("interpolation", list(Interpolation))
def test_a_constant_stays_constant(interpolation: Interpolation) -> None:
    image = np.full((*SIZE, 3), 0.37, np.float32)
    warped = warp(image, TILTED, (80, 130), radial=0.02, interpolation=interpolation)
    np.testing.assert_allclose(warped, 0.37, atol=1e-6)


@pytest.mark.parametrize("channels", [(), (1,), (2,), (4,)])
def test_every_number_of_channels_is_sampled_alike(channels: tuple[int, ...]) -> None:
    one = warp(picture(), TILTED, SIZE)
    many = warp(np.broadcast_to(picture().reshape(*SIZE, *[1] * len(channels)), (*SIZE, *channels)), TILTED, SIZE)
    assert many.shape == (*SIZE, *channels)
    np.testing.assert_allclose(many.reshape(*SIZE, -1), one[..., None].repeat(many[0, 0].size, 2), atol=1e-6)


def test_two_warps_are_the_warp_by_their_product() -> None:
    there, back = TILTED, shifted(-0.7, 0.4)
    twice = warp(warp(picture(), there, SIZE), back, SIZE)
    mask = valid_mask(back @ there, SIZE, SIZE, reach_px=2 * REACH_PX + 4)
    np.testing.assert_allclose(twice[mask], warp(picture(), back @ there, SIZE)[mask], atol=3e-3)


def test_a_shift_to_the_right_moves_content_to_the_right() -> None:
    image = np.zeros(SIZE, np.float32)
    image[50, 60] = 1.0
    moved = warp(image, shifted(5.25, -2.25), SIZE)
    assert np.unravel_index(moved.argmax(), SIZE) == (48, 65)
    y, x = (np.average(np.arange(n), weights=moved.sum(axis=a)) for n, a in zip(SIZE, (1, 0), strict=True))
    assert (x, y) == pytest.approx((65.25, 47.75), abs=1e-3)


def test_linear_samples_are_exact_too() -> None:
    x, y = grid()
    ramp = (3 * x - 2 * y).astype(np.float32)
    mask = valid_mask(TILTED, SIZE, SIZE, reach_px=0)
    back = pulled(TILTED, x, y)
    found = warp(ramp, TILTED, SIZE, interpolation=Interpolation.LINEAR)
    assert np.abs(found - (3 * back[0] - 2 * back[1]))[mask].max() < 1e-3


@pytest.mark.parametrize("matrix", [TILTED, shifted(10.3, 0), shifted(-0.5, 7.75)])
def test_valid_pixels_see_nothing_of_what_lies_beyond_the_source(matrix: np.ndarray) -> None:
    inside = np.random.default_rng(2).random(SIZE, dtype=np.float32)
    pad = 20
    for value in (0.0, 100.0):
        around = np.pad(inside, pad, constant_values=value)
        same = warp(around, matrix @ shifted(-pad, -pad), SIZE)
        mask = valid_mask(matrix, SIZE, SIZE)
        np.testing.assert_allclose(same[mask], warp(inside, matrix, SIZE)[mask], atol=2e-5)


def test_the_mask_ends_where_the_support_does() -> None:
    left = np.flatnonzero(valid_mask(shifted(10.3, 0), SIZE, SIZE)[50])[0]
    assert left == int(np.ceil(10.3 + REACH_PX))
    assert valid_mask(np.eye(3), SIZE, SIZE, reach_px=0).all()


def test_points_behind_the_camera_are_not_valid() -> None:
    matrix = np.linalg.inv(np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]], np.float64))
    assert not valid_mask(matrix, SIZE, SIZE)[:, 50:].any()
    assert np.isfinite(warp(picture(), matrix, SIZE)).all()


@pytest.mark.parametrize("radial", [-0.03, 0.01])
def test_the_radial_term_moves_what_is_sampled_away_from_the_centre(radial: float) -> None:
    exact = waves(*bend(radial, *pulled(TILTED, *grid())))
    mask = valid_mask(TILTED, SIZE, SIZE, radial=radial)
    assert mask.any()
    assert np.abs(warp(picture(), TILTED, SIZE, radial=radial) - exact)[mask].max() < 2e-3


def ripple(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth flow of up to 4 px."""
    x, y = grid(size)
    return np.stack([3 * np.sin(x / 20) + 1, 2 * np.cos(y / 15)], axis=-1).astype(np.float32)


def test_a_planted_flow_is_removed() -> None:
    """Content at y of the warped blurred frame lies at y + flow(y) in the sharp one."""
    x, y = grid()
    flow = ripple()
    radial = 0.02
    # A sharp frame is planted; the blurred one shows at D(H⁻¹ y) what the sharp one shows at y + flow(y).
    aligned = waves(x + flow[..., 0], y + flow[..., 1], highest=0.15)
    there_x, there_y = x, y
    for _ in range(30):  # the inverse of y → D(H⁻¹ y), at the pixels of the blurred frame
        at = bend(radial, *pulled(TILTED, there_x, there_y))
        there_x, there_y = there_x + x - at[0], there_y + y - at[1]
    u = np.stack([3 * np.sin(there_x / 20) + 1, 2 * np.cos(there_y / 15)], axis=-1)
    blurred = waves(there_x + u[..., 0], there_y + u[..., 1], highest=0.15).astype(np.float32)
    sharp = waves(x, y, highest=0.15)
    mask = valid_mask(TILTED, SIZE, SIZE, radial=radial, flow=flow)
    assert mask.mean() > 0.5
    assert np.abs(warp(blurred, TILTED, SIZE, radial=radial) - aligned)[mask].max() < 2e-3
    assert np.abs(aligned - sharp)[mask].max() > 0.3
    # The flow is given at pixels and linear between them; that is what is left.
    assert np.abs(warp(blurred, TILTED, SIZE, radial=radial, flow=flow) - sharp)[mask].max() < 5e-3


def test_the_mask_honours_the_flow() -> None:
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = 12.0
    columns = np.flatnonzero(valid_mask(np.eye(3), SIZE, SIZE, flow=flow)[50])
    assert (columns[0], columns[-1]) == (12 + 6, SIZE[1] - 1)


def test_where_the_flow_carries_nothing_there_is_nothing_valid() -> None:
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[:, 60:, 0] = 10.0  # the right half moves away and leaves a gap of ten pixels behind
    row = valid_mask(np.eye(3), SIZE, SIZE, flow=flow, reach_px=0)[50]
    assert not row[62:69].any()
    assert row[:59].all()
    assert row[71:].all()


def test_a_flow_of_another_size_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="flow"):
        warp(picture(), np.eye(3), SIZE, flow=np.zeros((4, 4, 2), np.float32))


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    image = np.random.default_rng(3).random((300, 400, 3), dtype=np.float32)
    flow = ripple((300, 400))
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            results.append(warp(image, TILTED, (300, 400), radial=0.01, flow=flow))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*results)


def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    image, flow = picture(size=(150, 170)), ripple((150, 170))
    whole = warp(image, TILTED, (150, 170), flow=flow)
    monkeypatch.setattr(resampling, "_TILE_PX", 37)
    np.testing.assert_allclose(warp(image, TILTED, (150, 170), flow=flow), whole, atol=3e-4)


def test_the_tiles_of_integers_make_up_the_warp_and_its_mask() -> None:
    codes = np.random.default_rng(5).integers(0, 65536, (210, 300, 3)).astype(np.uint16)
    whole, mask = np.full((200, 290, 3), np.nan, np.float32), np.zeros((200, 290), np.bool_)
    for tile in warped_tiles(codes, TILTED, (200, 290), radial=0.01):
        whole[tile.window], mask[tile.window] = tile.values, tile.valid
    np.testing.assert_array_equal(whole, warp(codes.astype(np.float32), TILTED, (200, 290), radial=0.01))
    np.testing.assert_array_equal(mask, valid_mask(TILTED, (210, 300), (200, 290), radial=0.01))
    assert 0.8 < mask.mean() < 1


def test_samples_are_taken_at_the_points_given() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(8, 110, (30, 40)), rng.uniform(8, 85, (30, 40))
    np.testing.assert_allclose(sample(picture(), x, y), waves(x, y), atol=2e-3)


def test_a_flow_samples_where_it_points() -> None:
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = 3.0
    image = picture()
    np.testing.assert_allclose(warp_by_flow(image, flow)[:, :-3], image[:, 3:], atol=1e-6)


def test_going_through_a_map_first_is_the_two_mappings_in_one_resampling() -> None:
    # The target pixel y shows what `warp` has at M y: together that is the homography M⁻¹ H.
    stretched = np.array([[1.05, 0.01, -2.0], [0.02, 0.97, 1.5], [0, 0, 1]])
    x, y = grid()
    through = np.dstack(pulled(np.linalg.inv(stretched), x, y)).astype(np.float32)
    both = np.linalg.inv(stretched) @ TILTED
    np.testing.assert_allclose(warp(picture(), TILTED, SIZE, through=through), warp(picture(), both, SIZE), atol=2e-4)
    inside = [valid_mask(TILTED, SIZE, SIZE, through=through), valid_mask(both, SIZE, SIZE)]
    assert np.count_nonzero(inside[0] != inside[1]) <= 5


def test_a_flow_lies_on_the_grid_the_map_leads_to() -> None:
    flow = np.zeros((*SIZE, 2), dtype=np.float32)
    flow[..., 0] = 3.0
    x, y = grid((40, 60))
    through = np.stack([x + 30, y + 20], axis=-1).astype(np.float32)
    found = warp(picture(), np.eye(3), (40, 60), flow=flow, through=through)
    np.testing.assert_allclose(found, picture()[20:60, 27:87], atol=2e-3)
    with pytest.raises(ValueError, match="through"):
        warp(picture(), np.eye(3), (10, 10), through=through)
