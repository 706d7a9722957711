"""Settings of a run that follow from its data set or, where it is resumed, from its beginning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jdrl.checkpoints import checkpoint
from jdrl.config import TrainConfig
from jdrl.data.unaligned_pairs import is_registered, unregistered_pairs
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMER_SETTINGS: Mapping[str, object] = {
    "reblur_light": "encoded",
    "deformation_ramp_fraction": 0.0,
    "registration": "crops",
}
"""How versions trained that lack these keys; their reblurring network had the rate of the deblurring one."""


def settings_of_run(config: TrainConfig, folder: Path) -> TrainConfig:
    """Replaces settings that are younger than the checkpoint in `folder` by those by which its version trained.

    A setting of the run whose default has changed since is taken from the checkpoint. What is set otherwise stays.

    Raises:
        CheckpointError: The checkpoint's header cannot be read.
    """
    begun = checkpoint.read_header(folder).config
    former = {**FORMER_SETTINGS, "reblur_learning_rate": config.learning_rate}
    former = {key: value for key, value in former.items() if key not in begun}
    if former:
        former |= {key: begun[key] for key in TrainConfig.FORMER_DEFAULTS if key in begun}
    fields = TrainConfig.model_fields
    unset = {key: value for key, value in former.items() if getattr(config, key) == fields[key].default}
    return config.model_copy(update=unset)


def resolve_settings(config: TrainConfig, shards: Path) -> TrainConfig:
    """Replaces all settings that are "auto" and follow from the data set; `epochs` needs its crops."""
    return resolve_light(resolve_registration(resolve_warm_up_flow(config, shards), shards), shards)


def resolve_warm_up_flow(config: TrainConfig, shards: Path) -> TrainConfig:
    """Replaces `warm_up_flow = "auto"`: estimated where a training pair has no stored alignment, else stored."""
    if config.warm_up_flow != "auto":
        return config
    with ShardReader(shards, split="train") as reader:
        all_registered = all(is_registered(reader, pair) for pair in reader.pair_ids)
    return config.model_copy(update={"warm_up_flow": "stored" if all_registered else "estimated"})


def resolve_registration(config: TrainConfig, shards: Path) -> TrainConfig:
    """Replaces `registration = "auto"`: pairs, if a pair needs it, the warm-up estimates flow and the mask is ours."""
    wanted = config.registration == "pairs" or (config.registration == "auto" and config.mask == "consistency")
    needed = wanted and config.warm_up_flow == "estimated" and bool(unregistered_pairs(shards))
    return config.model_copy(update={"registration": "pairs" if needed else "crops"})


def resolve_light(config: TrainConfig, shards: Path) -> TrainConfig:
    """Replaces `reblur_light = "auto"`: linear where the images have the sRGB curve; linear images need no decoding."""
    with ShardReader(shards, split="train") as reader:
        is_linear = reader.encoding is Encoding.LINEAR16
    if config.reblur_light == "encoded":
        return config
    return config.model_copy(update={"reblur_light": "encoded" if is_linear else "linear"})


def epochs_to_steps(config: TrainConfig, patches: int) -> TrainConfig:
    """Replaces `epochs`, if given, by `steps`: an epoch has as many crops as there are patches."""
    if config.epochs is None:
        return config
    steps = max(1, math.ceil(config.epochs * patches / config.batch))
    return config.model_copy(update={"steps": steps, "epochs": None})
