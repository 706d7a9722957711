"""Learning rate, phase and loss weights as pure functions of the step and the configuration.

A run has up to three phases, in this order: frozen (fine-tuning), warm-up, joint.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jdrl.config import TrainConfig


REBLUR_SHARE = 1 / 3
"""Of the deblurring network's rate. At equal rates, of 3e-3, most reblurring networks end as one constant kernel."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: that of the frozen phase, then a linear rise, then the fall of `rate_schedule`.

    cosine: half a cosine down (Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5, without restarts). step: multiplied by
    the factor of every drop that the step has passed.

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
        # Rounded to whole steps: in floating point 0.6 * 100 is slightly below 60.
        passed = (factor for share, factor in config.rate_drops if step >= round(share * config.steps))
        return config.learning_rate * math.prod(passed)
    progress = (since - rise) / max(1, steps - 1 - rise)
    low, high = config.final_learning_rate, config.learning_rate
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(1.0, progress)))


def reblur_learning_rate(step: int, config: TrainConfig) -> float:
    """The reblurring network's rate: a constant share of `learning_rate`; in the frozen phase the same rate."""
    rate = learning_rate(step, config)
    if step < deblur_start_step(config):
        return rate
    return rate * reblur_peak_rate(config) / config.learning_rate


def reblur_peak_rate(config: TrainConfig) -> float:
    """The reblurring network's largest rate."""
    return config.learning_rate * REBLUR_SHARE if config.reblur_learning_rate is None else config.reblur_learning_rate


def uses_reblurring(config: TrainConfig) -> bool:
    """Whether the run has a reblurring network: as a term of the loss in some phase, or for labels of the blur."""
    if config.method == "triplet":
        return True
    has_joint_phase = config.frozen_fraction + config.warm_up_fraction < 1
    return config.reblur_weight > 0 and (has_joint_phase or config.frozen_fraction > 0)


def deblur_start_step(config: TrainConfig) -> int:
    """The first step that trains the deblurring network; earlier ones train the reblurring network and a guide only."""
    return math.ceil(config.frozen_fraction * config.steps)


def joint_start_step(config: TrainConfig) -> int:
    """The first step of the joint phase; config.steps if there is none."""
    return min(config.steps, deblur_start_step(config) + math.ceil(config.warm_up_fraction * config.steps))


def phase(step: int, config: TrainConfig) -> str:
    """The name of the phase of a step: frozen, warm-up or joint."""
    if step < deblur_start_step(config):
        return "frozen"
    return "warm-up" if step < joint_start_step(config) else "joint"


def reblur_weight(step: int, config: TrainConfig) -> float:
    """Weight of the reblurring term: 0 before the joint phase, then a linear rise to config.reblur_weight."""
    since = step - joint_start_step(config)
    if since < 0:
        return 0.0
    ramp = config.reblur_ramp_fraction * config.steps
    return config.reblur_weight * (min(1.0, (since + 1) / ramp) if ramp >= 1 else 1.0)


def deformation_weights(step: int, config: TrainConfig) -> tuple[float, float]:
    """Weights of the comparisons on the blurred and on the sharp frame's grid in the joint phase.

    The second rises linearly from the switch on to 1. The first goes on with weight 1, and reblurring, which ties the
    geometry, is there at once. `config.deformation` may leave one alone, at its full weight.
    """
    if config.deformation != "both":
        return float(config.deformation == "to_blur"), float(config.deformation == "to_sharp")
    ramp = config.deformation_ramp_fraction * config.steps
    return 1.0, min(1.0, (step - joint_start_step(config) + 1) / ramp) if ramp >= 1 else 1.0


def estimator_weight(step: int, config: TrainConfig) -> float:
    """Weight of the blur estimator's loss: a linear rise to config.estimator_weight.

    It rises during the frozen phase where there is one, because the output is good already; else with the terms of the
    joint phase.
    """
    frozen = deblur_start_step(config)
    first = 0 if frozen else joint_start_step(config)
    ramp = max(1.0, frozen or max(config.reblur_ramp_fraction, config.deformation_ramp_fraction) * config.steps)
    return config.estimator_weight * min(1.0, max(0, step + 1 - first) / ramp)


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay of the exponential moving average of the weights; small at first, so that it forgets the start."""
    return min(config.ema, (1.0 + step) / (10.0 + step))
