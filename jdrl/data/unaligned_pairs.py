"""Pairs that came without an alignment: imported ones, whose frames are packed as they were shot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jdrl.flow.bidirectional import deform_bidirectionally
from jdrl.flow.estimators import flow_estimator

if TYPE_CHECKING:
    from jdrl.data.batch import Batch
    from sdd_toolkit.shards.reader import ShardReader


def is_registered(reader: ShardReader, pair: str) -> bool:
    """Whether anybody has aligned the pair: its record or its flow tells of it."""
    return reader.record(pair).alignment is not None or bool(reader.read_flow(pair).any())


def register_batch(pair: Batch) -> Batch:
    """The pair with its flow u[B→S] estimated, by the weight-free estimator and from the two frames alone.

    `valid` is multiplied by how far flow there and back, and what both frames show, agree.
    """
    found = deform_bidirectionally(pair.blur, pair.wide_sharp, pair.valid, pair.wide_valid, flow_estimator("pyramid"))
    return replace(pair, flow=found.to_sharp, sharp_on_blur=found.target, valid=found.target_mask)
