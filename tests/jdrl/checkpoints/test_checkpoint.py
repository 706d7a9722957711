"""Checkpoints: atomic, versioned, never pickled, refused if they do not fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from jdrl.checkpoints import checkpoint
from jdrl.networks import build_network
from sdd_toolkit.errors import CheckpointError
from sdd_toolkit.imaging.encoding import Encoding

OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def saved(run: Path, step: int = 1, changes: dict[str, object] | None = None) -> Path:
    torch.manual_seed(step)
    header = checkpoint.CheckpointHeader(step, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {})
    folder = checkpoint.save_checkpoint(
        run, header, build_network("nafnet", **OPTIONS).state_dict(), {"x": torch.ones(1)}
    )
    if changes:
        path = folder / checkpoint.HEADER
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_a_network_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = build_network("nafnet", **OPTIONS)
    network, header = checkpoint.load_network(saved(tmp_path))
    for name, value in original.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert header.encoding is Encoding.SRGB8
    assert not network.training


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a"), saved(tmp_path / "b")
    for name in (checkpoint.HEADER, checkpoint.WEIGHTS, checkpoint.TRAINING):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_run_is_located_by_its_best_then_its_latest_checkpoint(tmp_path: Path) -> None:
    first, second = saved(tmp_path, 1), saved(tmp_path, 2)
    assert checkpoint.locate(tmp_path) == second
    checkpoint.write_pointer(tmp_path, checkpoint.BEST, first)
    assert checkpoint.locate(tmp_path) == first
    assert checkpoint.latest_checkpoint(tmp_path) == second
    assert checkpoint.locate(second) == second


def test_a_pointer_cannot_lead_out_of_the_run(tmp_path: Path) -> None:
    saved(tmp_path / "elsewhere")
    run = tmp_path / "run"
    run.mkdir()
    (run / "latest").write_text("../elsewhere/step-00000001\n")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.locate(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "checkpoint version 2, this toolkit reads 1"),
        ({"format": "other"}, "not a checkpoint header"),
        ({"step": "many"}, "step"),
        ({"encoding": "cmyk"}, "encoding"),
        ({"network": "resnet"}, "unknown network 'resnet'"),
        ({"network_options": {**OPTIONS, "width": 6}}, "does not fit NAFNet"),
        ({"network_options": {"depth": 6}}, "depth"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_network(saved(tmp_path, changes=changes))


@pytest.mark.parametrize("name", [checkpoint.HEADER, checkpoint.WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"{", pickle.dumps({"a": 1})])
def test_a_missing_torn_or_pickled_file_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = saved(tmp_path) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError):
        checkpoint.load_network(path.parent)


def test_what_a_killed_run_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    whole = saved(tmp_path)
    torn = tmp_path / "step-00000002.partial"
    torn.mkdir()
    (torn / checkpoint.WEIGHTS).write_bytes(b"half")
    assert checkpoint.list_checkpoints(tmp_path) == [whole]
    assert saved(tmp_path, 2).is_dir()
    assert not torn.exists()


def test_the_optimisers_moments_come_back(tmp_path: Path) -> None:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    optimiser = AdamW(weights, lr=0.1)
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.5)
    optimiser.step()
    tensors = checkpoint.strip_prefix(checkpoint.optimiser_tensors(optimiser), "optimiser")
    fresh = AdamW(weights, lr=0.1)
    checkpoint.load_optimiser(fresh, tensors)
    assert fresh.state_dict()["state"][1]["exp_avg"].tolist() == pytest.approx([0.05] * 3)
    assert fresh.state_dict()["state"][1]["step"] == 1


def test_pruning_spares_the_newest_and_the_best(tmp_path: Path) -> None:
    first = saved(tmp_path, 1)
    checkpoint.write_pointer(tmp_path, checkpoint.BEST, first)
    for step in range(2, 6):
        saved(tmp_path, step)
    checkpoint.prune(tmp_path, keep=2)
    assert [path.name[-1] for path in checkpoint.list_checkpoints(tmp_path)] == ["1", "4", "5"]
