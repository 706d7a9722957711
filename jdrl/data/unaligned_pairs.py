"""Estimates the flow of imported pairs that have no stored alignment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jdrl.flow.bidirectional import deform_bidirectionally
from jdrl.flow.estimators import flow_estimator

if TYPE_CHECKING:
    from jdrl.data.batch import Batch
    from sdd_toolkit.shards.reader import ShardReader


def is_registered(reader: ShardReader, pair: str) -> bool:
    """Whether the pair is aligned: its record holds an alignment, or its stored flow is not zero."""
    return reader.record(pair).alignment is not None or bool(reader.read_flow(pair).any())


def align_batch(pair: Batch) -> Batch:
    """Estimates the flow u[B→S] of a batch by the weight-free estimator and warps its sharp frame by it.

    `valid` is multiplied by the forward-backward and photometric consistency masks.
    """
    deformation = deform_bidirectionally(
        pair.blur, pair.wide_sharp, pair.valid, pair.wide_valid, flow_estimator("pyramid")
    )
    return replace(pair, flow=deformation.to_sharp, sharp_on_blur=deformation.target, valid=deformation.target_mask)
