"""Saves the batch that produced a non-finite loss, and the positions of its crops."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from jdrl.data.crops import load_batch
from sdd_toolkit.errors import SddError
from sdd_toolkit.storage.files import replace_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from jdrl.data.crops import CropDataset

_MAX_NAMED = 8


def save_diverged_batch(step: int, crops: CropDataset, batch: int, out: Path, *, write: bool) -> SddError:
    """Saves the batch of a step with a non-finite loss. Returns the error that names its crops.

    Args:
        step: Number of the step.
        crops: Training crops of the run.
        batch: Crops a step.
        out: Receives `diverged-step-….npz`: the tensors of the batch, and each crop's pair, top, left and turn.
        write: Whether this process writes the file.
    """
    path = out / f"diverged-step-{step:08d}.npz"
    crop_positions = [crops.sample_crop(number) for number in range(step * batch, (step + 1) * batch)]
    if write:
        content = load_batch(crops, step, batch)
        arrays = {field.name: getattr(content, field.name).numpy() for field in fields(content)}
        for name in ("pair", "top", "left", "turn"):
            arrays[name] = np.array([getattr(position, name) for position in crop_positions])
        with replace_atomically(path) as partial, partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    named = [f"{position.pair} at ({position.left}, {position.top})" for position in crop_positions[:_MAX_NAMED]]
    more = f" and {len(crop_positions) - _MAX_NAMED} more" if len(crop_positions) > _MAX_NAMED else ""
    return SddError(
        f"the loss or its gradient is not finite at step {step}, on crops of {', '.join(named)}{more}; "
        f"the batch is saved in {path}",
        hint="look at that batch; then lower [train] learning_rate or gradient_norm and start anew with --overwrite",
    )
