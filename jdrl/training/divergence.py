"""What is left of a run whose loss is no number: the batch that made it, and where its crops lie."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from jdrl.data.crops import load_batch
from sdd_toolkit.errors import SddError
from sdd_toolkit.storage.files import replace_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from jdrl.data.crops import Crops

_MOST = 8


def diverged(step: int, crops: Crops, batch: int, out: Path, *, write: bool) -> SddError:
    """Saves the batch of a step whose loss is no number. Returns the error that names its crops.

    Args:
        step: The one that went wrong.
        crops: The run's.
        batch: Crops a step.
        out: Receives `diverged-step-….npz`: the tensors of the batch, and each crop's pair, top, left and turn.
        write: Whether this process is the one that writes.
    """
    path = out / f"diverged-step-{step:08d}.npz"
    spots = [crops.spot(number) for number in range(step * batch, (step + 1) * batch)]
    if write:
        whole = load_batch(crops, step, batch)
        tensors = {field.name: getattr(whole, field.name).numpy() for field in fields(whole)}
        places = {name: np.array([getattr(spot, name) for spot in spots]) for name in ("pair", "top", "left", "turn")}
        with replace_atomically(path) as partial, partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **tensors, **places)
    named = [f"{spot.pair} at ({spot.left}, {spot.top})" for spot in spots[:_MOST]]
    more = f" and {len(spots) - _MOST} more" if len(spots) > _MOST else ""
    return SddError(
        f"the loss or its gradient is not finite at step {step}, on crops of {', '.join(named)}{more}; "
        f"the batch is saved in {path}",
        hint="look at that batch; then lower [train] learning_rate or gradient_norm and start anew with --overwrite",
    )
