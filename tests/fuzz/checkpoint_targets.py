"""Damaged checkpoints as fuzzing targets; apart from the others because they need torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from jdrl.checkpoints import checkpoint
from jdrl.networks import build_network
from sdd_toolkit.imaging.encoding import Encoding
from tests.fuzz.cases import Target

OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def targets() -> tuple[Target, ...]:
    """A checkpoint's header beside intact weights, and weights beside an intact header."""
    torch.set_num_threads(1)
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {"crop": 64})
    folder = checkpoint.save_checkpoint(
        Path(tempfile.mkdtemp()), header, build_network("nafnet", **OPTIONS).state_dict(), {"x": torch.ones(1)}
    )
    header_bytes, weights = (folder / checkpoint.HEADER).read_bytes(), (folder / checkpoint.WEIGHTS).read_bytes()

    def with_weights(path: Path) -> None:
        (path.parent / checkpoint.WEIGHTS).write_bytes(weights)
        checkpoint.load_network(path.parent)

    def with_header(path: Path) -> None:
        (path.parent / checkpoint.HEADER).write_bytes(header_bytes)
        checkpoint.load_network(path.parent)

    return (
        Target("checkpoint header", f"u/{checkpoint.HEADER}", (header_bytes,), with_weights, structured=True),
        Target("checkpoint weights", f"g/{checkpoint.WEIGHTS}", (weights,), with_header),
    )
