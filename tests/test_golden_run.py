"""A checkpoint and the fingerprints of version 0.2.0, kept as files: every later version reads and repeats them."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint
from jdrl.inference.deblur import deblur
from sdd_toolkit.config import Section
from tests.support.paths import ROOT
from tests.test_docs import SECTIONS

RUN = ROOT / "tests" / "golden_checkpoint"
FINGERPRINTS = json.loads((ROOT / "tests" / "golden_fingerprints.json").read_text(encoding="utf-8"))


def ramp() -> np.ndarray:
    rows, columns, channels = np.mgrid[:24, :32, :3]
    return ((rows * 7 + columns * 3 + channels * 40) % 256 / 255).astype(np.float32)


def test_a_checkpoint_of_version_0_2_deblurs_as_it_did() -> None:
    loaded = of_checkpoint(RUN)
    image = torch.from_numpy(ramp().transpose(2, 0, 1).copy())
    found = deblur(loaded.network.eval(), image, tile=0, overlap=0).numpy().transpose(1, 2, 0)
    expected = np.load(RUN / "deblurred.npy")
    # The 240 weights changed the image then; the tolerance is that of another processor's sums.
    assert np.abs(expected - ramp()).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_training_state_of_version_0_2_is_read_whole() -> None:
    folder = checkpoint.locate(RUN)
    assert checkpoint.read_header(folder).step == 4
    tensors = checkpoint.read_tensors(folder / checkpoint.TRAINING)
    parts = {part: checkpoint.strip_prefix(tensors, part) for part in ("network", "reblur", "optimiser")}
    assert all(parts.values())


@pytest.mark.parametrize("section", FINGERPRINTS)
def test_a_default_section_has_the_fingerprint_of_version_0_2(section: str) -> None:
    """Another fingerprint makes every stage of every data set in the making stale."""
    module, _, name = SECTIONS[section].partition(":")
    model: type[Section] = getattr(importlib.import_module(module), name)
    assert model().fingerprint() == FINGERPRINTS[section]
