"""Imported pairs, which have no stored alignment: whole pairs are registered, crops are aligned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jdrl.data.aligned_crops import image_to_tensor
from jdrl.flow.bidirectional import deform_bidirectionally
from jdrl.flow.estimators import flow_estimator
from jdrl.flow.global_motion import GlobalMotion, register_frames
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from pathlib import Path

    from jdrl.data.batch import Batch


def is_registered(reader: ShardReader, pair: str) -> bool:
    """Whether the pair is aligned: its record holds an alignment, or its stored flow is not zero."""
    return reader.record(pair).alignment is not None or bool(reader.read_flow(pair).any())


def unregistered_pairs(shards: Path) -> list[tuple[str, str]]:
    """(split, pair) of all training and validation pairs that are not aligned."""
    found = []
    with ShardReader(shards, split="train") as reader:
        present = {shard.split for shard in reader.index.shards}
    for split in sorted(present & {"train", "val"}):
        with ShardReader(shards, split=split) as reader:
            found += [(split, pair) for pair in reader.pair_ids if not is_registered(reader, pair)]
    return found


def register_pair(reader: ShardReader, pair: str) -> GlobalMotion | None:
    """Registers a whole pair by its global motion u[blur→sharp]; None where it has none for sure."""
    packed = reader.read(pair)
    return register_frames(image_to_tensor(packed.blur), image_to_tensor(packed.sharp))


def align_for_validation(crop: Batch) -> Batch:
    """Warps the sharp frame of a crop by the crop's flow and the residual that the weight-free estimator finds.

    All real content stays valid, also where the estimate is not trusted, so that scores compare with those of aligned
    pairs.
    """
    deformation = deform_bidirectionally(
        crop.blur,
        crop.wide_sharp,
        crop.valid,
        crop.wide_valid,
        flow_estimator("pyramid"),
        stored_flow=crop.flow,
        mask="none",
    )
    return replace(crop, flow=deformation.to_sharp, sharp_on_blur=deformation.target, valid=deformation.target_mask)


def align_batch(pair: Batch) -> Batch:
    """Estimates the flow u[B→S] of a batch by the weight-free estimator and warps its sharp frame by it.

    `valid` is multiplied by the forward-backward and photometric consistency masks.
    """
    deformation = deform_bidirectionally(
        pair.blur, pair.wide_sharp, pair.valid, pair.wide_valid, flow_estimator("pyramid")
    )
    return replace(pair, flow=deformation.to_sharp, sharp_on_blur=deformation.target, valid=deformation.target_mask)
