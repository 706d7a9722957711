"""Registration of whole pairs that have no stored alignment, once, before training; kept in RUN/registration.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from jdrl.data.unaligned_pairs import register_pair, unregistered_pairs
from jdrl.flow.global_motion import GlobalMotion
from jdrl.training.processes import sum_over_processes
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lightning_fabric import Fabric

    from sdd_toolkit.execution.progress import Track

NAME, FORMAT = "registration.json", "sdd-registration"
_TERMS = 6

Motions = dict[str, GlobalMotion | None]
"""Motions by pair; None for a pair that has none for sure."""


def load_or_register(fabric: Fabric, shards: Path, out: Path, track: Track) -> Motions:
    """The motions of all training and validation pairs without a stored alignment.

    Those that an earlier start in `out` has kept for the same data set are taken over. The processes share the work.

    Args:
        fabric: Of this process.
        shards: Folder of the data set.
        out: Folder of the run.
        track: Shows progress.
    """
    kept = fabric.broadcast(read_motions(out, sha256_of(shards / "index.json")))
    todo = unregistered_pairs(shards)
    if kept is not None and kept.keys() == {pair for _, pair in todo}:
        return kept
    # Found or not, height, width, and the coefficients of x and y.
    table = torch.zeros(len(todo), 3 + 2 * _TERMS, dtype=torch.float64)
    mine = range(fabric.global_rank, len(todo), fabric.world_size)
    readers = {split: ShardReader(shards, split=split) for split in {split for split, _ in todo}}
    with (track if fabric.is_global_zero else silent)("register", len(mine)) as advance:
        for number in mine:
            split, pair = todo[number]
            motion = register_pair(readers[split], pair)
            if motion is not None:
                table[number] = torch.tensor([1, *motion.size, *motion.coefficients[0], *motion.coefficients[1]])
            advance(note=pair)
    for reader in readers.values():
        reader.close()
    rows = sum_over_processes(fabric, table.to(fabric.device)).tolist() if todo else []
    return {pair: _motion(row) for (_, pair), row in zip(todo, rows, strict=True)}


def write_motions(out: Path, motions: Mapping[str, GlobalMotion | None], shards_sha256: str) -> None:
    """Writes RUN/registration.json."""
    content = {
        "format": FORMAT,
        "version": 1,
        "shards_sha256": shards_sha256,
        "motions": {
            pair: None if motion is None else {"size": motion.size, "coefficients": motion.coefficients}
            for pair, motion in motions.items()
        },
    }
    write_text(out / NAME, json.dumps(content, indent=1) + "\n")


def read_motions(out: Path, shards_sha256: str) -> Motions | None:
    """Reads RUN/registration.json; None where it is not there, not whole or of another data set."""
    try:
        content = json.loads((out / NAME).read_text(encoding="utf-8"))
        if (content["format"], content["version"], content["shards_sha256"]) != (FORMAT, 1, shards_sha256):
            return None
        found = {
            pair: None
            if kept is None
            else _motion([1, *kept["size"], *kept["coefficients"][0], *kept["coefficients"][1]])
            for pair, kept in content["motions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return found


def _motion(row: list[float]) -> GlobalMotion | None:
    found, height, width, *coefficients = (float(value) for value in row)
    if len(coefficients) != 2 * _TERMS:
        raise ValueError(f"{len(coefficients)} coefficients")
    halves = tuple(coefficients[:_TERMS]), tuple(coefficients[_TERMS:])
    return GlobalMotion((int(height), int(width)), halves) if found else None
