"""The rules of `sdd filter`: thresholds on the measured quality of a pair, and the verdict that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.records import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sdd_toolkit.records import Alignment, Quality


class FilterConfig(Section):
    """Thresholds of `sdd filter`, section `[filter]`."""

    min_level: float = Field(0.01, ge=0, le=1, description="Bright parts (linear) below this: black_frame.")
    max_clipped_fraction: float = Field(0.2, ge=0, le=1, description="More saturated pixels: clipped.")
    min_texture_fraction: float = Field(0.1, ge=0, le=1, description="Fewer textured tiles: low_texture.")
    min_sharp_acuity: float = Field(
        0.15, ge=0, description="Acuity of the sharp frame below this: both_blurred, whatever the blurred one is."
    )
    crisp_acuity: float = Field(
        0.35,
        ge=0,
        description="A pair that fails a sharpness rule is both_blurred below this acuity, else not_sharper.",
    )
    swapped_acuity: float = Field(
        0.45,
        ge=0,
        description="A blurred frame of this acuity is in focus: softer sharp frames are then not_sharper (swapped).",
    )
    max_exposure_ev: float = Field(1.0, ge=0, description="Larger measured gain, either way: exposure_mismatch.")
    min_sharpness_gain: float = Field(1.05, ge=0, description="Smaller median gain in fine detail: not_sharper.")
    min_sharper_fraction: float = Field(0.2, ge=0, le=1, description="Fewer sharper tiles: not_sharper.")
    max_softer_fraction: float = Field(0.15, ge=0, le=1, description="More tiles softer than blurred: not_sharper.")
    max_unexplained_fraction: float = Field(
        0.03, ge=0, le=1, description="More tiles that no blur and no small shift explains: moving_object."
    )
    max_residual_px: float = Field(1.0, ge=0, description="Larger median residual flow: misaligned.")
    max_residual_p95_px: float = Field(4.0, ge=0, description="Larger 95th percentile: misaligned.")
    max_error_px: float = Field(1.0, ge=0, description="Larger estimated corner error: misaligned.")


def judge(quality: Quality, alignment: Alignment | None, config: FilterConfig) -> Verdict:
    """Judges a pair by the first rule that it fails.

    Faults of a single frame come first: a black frame cannot be aligned either, but its fault is that it is black. Then
    come rules on whether the two frames belong together, then on how well they match.

    Args:
        quality: The measures of the pair.
        alignment: Its registration; None if it was never aligned.
        config: Thresholds.

    Returns:
        Keep, or the reason of the first failing rule with the value that failed it.

    Example:
        >>> from sdd_toolkit.quality.criteria import FilterConfig, judge
        >>> from sdd_toolkit.records import Quality
        >>> dark = Quality(3.0, 0.9, 0.0, 0.5, 0.1, 0.1, 0.0, blur_level=0.002, sharp_level=0.3, texture_fraction=0.9)
        >>> verdict = judge(dark, None, FilterConfig())
        >>> verdict.keep, verdict.reason.value, verdict.detail
        (False, 'black_frame', "blurred frame's bright parts 0.0020 < 0.01")
    """
    for reason, detail in _failures(quality, alignment, config):
        return Verdict(keep=False, reason=reason, detail=detail)
    return Verdict(keep=True)


def _failures(quality: Quality, alignment: Alignment | None, config: FilterConfig) -> Iterator[tuple[Reason, str]]:
    yield from _frame_failures(quality, config)
    if alignment is None:
        yield Reason.NOT_ALIGNED, "the pair was never aligned"
        return
    if alignment.failure is not None:
        yield alignment.failure, alignment.detail
    yield from _pair_failures(quality, alignment, config)


def _frame_failures(quality: Quality, config: FilterConfig) -> Iterator[tuple[Reason, str]]:
    for name, level in (("blurred", quality.blur_level), ("sharp", quality.sharp_level)):
        if level < config.min_level:
            yield Reason.BLACK_FRAME, f"{name} frame's bright parts {level:.4f} < {config.min_level}"
    if quality.clipped_fraction > config.max_clipped_fraction:
        yield Reason.CLIPPED, f"{quality.clipped_fraction:.1%} saturated > {config.max_clipped_fraction:.1%}"
    # Without texture acuity has no meaning.
    textured = quality.texture_fraction >= config.min_texture_fraction
    swapped = quality.blur_acuity >= config.swapped_acuity
    if textured and quality.sharp_acuity < config.min_sharp_acuity and not swapped:
        yield (
            Reason.BOTH_BLURRED,
            f"acuity of the sharp frame {quality.sharp_acuity:.3f} < {config.min_sharp_acuity}",
        )


def _pair_failures(quality: Quality, alignment: Alignment, config: FilterConfig) -> Iterator[tuple[Reason, str]]:
    if quality.texture_fraction < config.min_texture_fraction:
        yield Reason.LOW_TEXTURE, f"{quality.texture_fraction:.1%} textured < {config.min_texture_fraction:.1%}"
    if abs(quality.exposure_ev) > config.max_exposure_ev:
        yield Reason.EXPOSURE_MISMATCH, f"{quality.exposure_ev:+.2f} EV beyond ±{config.max_exposure_ev}"
    # The median ignores a moving object; a large median means that the whole frame is misaligned.
    if alignment.residual_px > config.max_residual_px:
        yield Reason.MISALIGNED, f"median residual {alignment.residual_px:.2f} px > {config.max_residual_px}"
    if alignment.unexplained_fraction > config.max_unexplained_fraction:
        yield (
            Reason.MOVING_OBJECT,
            f"{alignment.unexplained_fraction:.1%} unexplained > {config.max_unexplained_fraction:.1%}",
        )
    if quality.softer_fraction > config.max_softer_fraction:
        yield (
            Reason.NOT_SHARPER,
            f"{quality.softer_fraction:.1%} of tiles softer in the sharp frame > {config.max_softer_fraction:.1%}",
        )
    blurred = quality.sharp_acuity < config.crisp_acuity
    too_soft = Reason.BOTH_BLURRED if blurred else Reason.NOT_SHARPER
    acuity = f", acuity of the sharp frame {quality.sharp_acuity:.2f}"
    if quality.sharpness_gain < config.min_sharpness_gain:
        yield too_soft, f"sharpness gain {quality.sharpness_gain:.2f} < {config.min_sharpness_gain}{acuity}"
    if quality.sharper_fraction < config.min_sharper_fraction:
        share = f"only {quality.sharper_fraction:.1%} of tiles sharper < {config.min_sharper_fraction:.1%}"
        yield too_soft, share + acuity
    if alignment.residual_p95_px > config.max_residual_p95_px:
        yield Reason.MISALIGNED, f"residual p95 {alignment.residual_p95_px:.2f} px > {config.max_residual_p95_px}"
    if alignment.error_px is not None and alignment.error_px > config.max_error_px:
        yield Reason.MISALIGNED, f"estimated error {alignment.error_px:.2f} px > {config.max_error_px}"
