"""What changes from step to step, as pure functions of the step and the configuration.

A run has up to three phases, in this order: frozen (fine-tuning), warm-up, joint.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jdrl.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """The frozen phase's own rate; from then on a linear rise and the fall that `rate_schedule` names.

    cosine: half a cosine down (Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5, without restarts). step: times the factor
    of every drop behind it.

    Args:
        step: 0 … config.steps - 1.
        config: The run's.
    """
    since, steps = step - deblur_start_step(config), config.steps - deblur_start_step(config)
    if since < 0:
        return config.frozen_learning_rate
    rise = min(config.rate_ramp_steps, steps // 2)
    if since < rise:
        return config.learning_rate * (since + 1) / rise
    if config.rate_schedule == "step":
        # In whole steps: 0.6 of 100 is a hair below 60 to a computer.
        behind = (factor for share, factor in config.rate_drops if step >= round(share * config.steps))
        return config.learning_rate * math.prod(behind)
    progress = (since - rise) / max(1, steps - 1 - rise)
    low, high = config.final_learning_rate, config.learning_rate
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(1.0, progress)))


def deblur_start_step(config: TrainConfig) -> int:
    """The first step in which the deblurring network learns: before it, the reblurring network and a guide do."""
    return math.ceil(config.frozen_fraction * config.steps)


def joint_start_step(config: TrainConfig) -> int:
    """The first step of the joint phase; config.steps if there is none."""
    return min(config.steps, deblur_start_step(config) + math.ceil(config.warm_up_fraction * config.steps))


def phase(step: int, config: TrainConfig) -> str:
    """The name of the phase that a step lies in."""
    if step < deblur_start_step(config):
        return "frozen"
    return "warm-up" if step < joint_start_step(config) else "joint"


def reblur_weight(step: int, config: TrainConfig) -> float:
    """Weight of the reblurring term in the joint phase: a linear rise to config.reblur_weight; 0 before."""
    since = step - joint_start_step(config)
    if since < 0:
        return 0.0
    ramp = config.reblur_ramp_fraction * config.steps
    return config.reblur_weight * (min(1.0, (since + 1) / ramp) if ramp >= 1 else 1.0)


def estimator_weight(step: int, config: TrainConfig) -> float:
    """Weight of the blur estimator's loss: it rises to config.estimator_weight while reblurring becomes fit to teach.

    That is in the frozen phase where there is one, for its output is good already; else with the reblurring term.
    """
    frozen = deblur_start_step(config)
    first = 0 if frozen else joint_start_step(config)
    ramp = max(1.0, frozen or config.reblur_ramp_fraction * config.steps)
    return config.estimator_weight * min(1.0, max(0, step + 1 - first) / ramp)


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay of the averaged weights: small at first, so that the start is soon forgotten."""
    return min(config.ema, (1.0 + step) / (10.0 + step))
