"""What changes from step to step, as pure functions of the step and the configuration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jdrl.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear rise, then half a cosine down (Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5, without restarts).

    Args:
        step: 0 … config.steps - 1.
        config: The run's.
    """
    rise = min(config.rate_ramp_steps, config.steps // 2)
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    progress = (step - rise) / max(1, config.steps - 1 - rise)
    low, high = config.final_learning_rate, config.learning_rate
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(1.0, progress)))


def joint_from(config: TrainConfig) -> int:
    """The first step of the joint phase; config.steps if there is none."""
    return math.ceil(config.warm_up_fraction * config.steps)


def reblur_weight(step: int, config: TrainConfig) -> float:
    """Weight of the reblurring term: 0 while warming up, then a linear rise to config.reblur_weight."""
    since = step - joint_from(config)
    if since < 0:
        return 0.0
    ramp = config.reblur_ramp_fraction * config.steps
    return config.reblur_weight * (min(1.0, (since + 1) / ramp) if ramp >= 1 else 1.0)


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay of the averaged weights: small at first, so that the start is soon forgotten."""
    return min(config.ema, (1.0 + step) / (10.0 + step))
