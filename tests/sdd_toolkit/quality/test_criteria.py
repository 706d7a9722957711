from __future__ import annotations

from dataclasses import replace

import pytest

from sdd_toolkit.quality.criteria import FilterConfig, judge
from sdd_toolkit.records import Reason
from tests.support.planted_pairs import QUALITY, alignment

ALIGNMENT = alignment()


def test_a_pair_without_a_fault_is_kept() -> None:
    assert judge(QUALITY, ALIGNMENT, FilterConfig()).keep


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"blur_level": 0.001}, Reason.BLACK_FRAME),
        ({"sharp_level": 0.001}, Reason.BLACK_FRAME),
        ({"clipped_fraction": 0.5}, Reason.CLIPPED),
        ({"texture_fraction": 0.01}, Reason.LOW_TEXTURE),
        ({"sharp_acuity": 0.01}, Reason.BOTH_BLURRED),
        ({"sharp_acuity": 0.01, "blur_acuity": 0.6, "softer_fraction": 0.9}, Reason.NOT_SHARPER),
        ({"sharp_acuity": 0.2, "sharpness_gain": 1.0}, Reason.BOTH_BLURRED),
        ({"sharp_acuity": 0.2, "sharper_fraction": 0.1}, Reason.BOTH_BLURRED),
        ({"exposure_ev": -1.5}, Reason.EXPOSURE_MISMATCH),
        ({"exposure_ev": 1.5}, Reason.EXPOSURE_MISMATCH),
        ({"softer_fraction": 0.5}, Reason.NOT_SHARPER),
        ({"sharpness_gain": 1.0}, Reason.NOT_SHARPER),
        ({"sharper_fraction": 0.1}, Reason.NOT_SHARPER),
    ],
)
def test_a_fault_in_the_measures_is_rejected_for_its_own_reason(fault: dict[str, float], reason: Reason) -> None:
    verdict = judge(replace(QUALITY, **fault), ALIGNMENT, FilterConfig())
    assert (verdict.keep, verdict.reason) == (False, reason)
    assert any(character.isdigit() for character in verdict.detail)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"failure": Reason.DIFFERENT_SCENE, "detail": "ncc 0.2"}, Reason.DIFFERENT_SCENE),
        ({"unexplained_fraction": 0.2}, Reason.MOVING_OBJECT),
        ({"residual_px": 2.0}, Reason.MISALIGNED),
        ({"residual_p95_px": 9.0}, Reason.MISALIGNED),
        ({"error_px": 5.0}, Reason.MISALIGNED),
    ],
)
def test_a_fault_in_the_alignment_is_rejected_for_its_own_reason(fault: dict[str, object], reason: Reason) -> None:
    assert judge(QUALITY, replace(ALIGNMENT, **fault), FilterConfig()).reason == reason


def test_a_black_frame_is_called_black_although_it_could_not_be_aligned_either() -> None:
    lost = replace(ALIGNMENT, failure=Reason.NO_TEXTURE)
    assert judge(replace(QUALITY, sharp_level=0.0), lost, FilterConfig()).reason == Reason.BLACK_FRAME


def test_a_pair_that_was_never_aligned_is_not_kept() -> None:
    assert judge(QUALITY, None, FilterConfig()).reason == Reason.NOT_ALIGNED


def test_a_threshold_moves_the_verdict() -> None:
    strict = FilterConfig(min_sharpness_gain=5.0)
    assert judge(QUALITY, ALIGNMENT, strict).reason == Reason.NOT_SHARPER
