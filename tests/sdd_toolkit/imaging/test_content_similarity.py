from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.imaging.content_similarity import candidate_pairs, correlations, detail_band, similarity
from tests.support.dead_leaves import leaves_picture, recapture


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 1000), st.floats(0.92, 1.1), st.floats(-2, 2), st.floats(-0.04, 0.04), st.floats(0, 0.04),
    st.floats(0.3, 1.0),
)  # fmt: skip
def test_a_scene_agrees_with_itself_however_it_is_shot(
    seed: int, zoom: float, turn_deg: float, shift: float, blur: float, gain: float
) -> None:
    first, second = (
        leaves_picture(seed),
        recapture(leaves_picture(seed), zoom, turn_deg, shift, blur, gain),
    )
    assert similarity(detail_band(first), detail_band(second)) > 0.6


def test_unlike_scenes_do_not_agree() -> None:
    bands = [detail_band(leaves_picture(seed)) for seed in range(12)]
    assert max(similarity(bands[i], bands[j]) for i in range(12) for j in range(i)) < 0.45


def test_a_frame_of_another_shape_is_another_scene() -> None:
    assert similarity(detail_band(leaves_picture(1)), detail_band(leaves_picture(1, 144, 192))) == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_flat_frame_has_too_little_texture_however_noisy(noise: float) -> None:
    flat = np.random.default_rng(0).normal(0.5, noise, (128, 192)).astype(np.float32)
    assert detail_band(flat, noise) is None


def test_vignetting_alone_is_no_texture() -> None:
    ys, xs = np.mgrid[-1:1:128j, -1.5:1.5:192j]
    assert detail_band((1 - 0.1 * (xs**2 + ys**2)).astype(np.float32)) is None


def test_a_frame_too_small_to_tell_has_no_band() -> None:
    assert detail_band(leaves_picture(0)[:10]) is None


def test_every_pair_is_a_candidate_among_many_other_pictures() -> None:
    sharp = [detail_band(leaves_picture(seed)) for seed in range(40)]
    blurred = [detail_band(recapture(leaves_picture(seed), 1.1, -2.0, -0.05, 0.03, 0.5)) for seed in range(40)]
    found = candidate_pairs([*sharp, *blurred])
    assert {(seed, seed + 40) for seed in range(40)} <= set(found)
    assert found == sorted(set(found))


def test_no_picture_has_no_candidate_and_no_correlation() -> None:
    one = [detail_band(leaves_picture(0))]
    assert candidate_pairs([]) == candidate_pairs(one) == []
    assert [correlations(a, b).shape for a, b in (([], []), ([], one), (one, []))] == [(0, 0), (0, 1), (1, 0)]


def test_frames_from_one_position_agree_and_a_step_to_the_side_is_another_picture() -> None:
    sharp = [detail_band(leaves_picture(seed)) for seed in range(12)]
    blurred = [detail_band(recapture(leaves_picture(seed), 1.02, 0.0, 0.01, 0.03, 0.5)) for seed in range(12)]
    aside = [detail_band(recapture(leaves_picture(seed), 1.0, 0.0, 0.1, 0.0, 1.0)) for seed in range(12)]
    scores = correlations(blurred, sharp)
    own = np.eye(12, dtype=bool)
    assert scores.shape == (12, 12)
    assert scores[own].min() > 0.75
    assert scores[~own].max() < 0.45
    assert correlations(aside, sharp).max() < 0.5
