"""Files of published weights: what is read, and what is said of a file that is refused."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jdrl.checkpoints.deblurrer import of_weights
from jdrl.checkpoints.published_weights import read_weights
from jdrl.networks import build_network
from sdd_toolkit.errors import CheckpointError

WEIGHTS = {"a.weight": torch.ones(2)}


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_beside_the_weights_are_read_over(tmp_path: Path, zipped: bool) -> None:
    extra = {"psnr": np.float64(25.9), "ssim": np.float32(0.8), "best": np.int64(3), "is_best": np.bool_(True)}
    content = {"state_dict": WEIGHTS, **extra, "history": np.arange(3.0), "nested": {"all": [np.float16(1)]}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = read_weights(tmp_path / "a.pth")["state_dict"]
    assert isinstance(read, dict)
    assert torch.equal(read["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"state_dict": WEIGHTS, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"state_dict": WEIGHTS, "load": np.load}, "numpy.load"),
    ],
)
def test_what_could_run_code_is_named_and_refused(tmp_path: Path, content: object, name: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="could run code: refused") as refused:
        read_weights(tmp_path / "a.pth")
    assert name in refused.value.what
    assert "safetensors" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("a.pth", b"\n<!DOCTYPE html><html>not found", "web page"),
        ("a.safetensors", b"<html>not found", "web page"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        ("a.pth", b"\x1f\x8b\x08" + bytes(99), "gzip"),
        ("a.onnx", b"\x08\x07\x12", "ONNX"),
        ("a.pth", b"", "empty"),
        ("a.pth", b"PK\x03\x04" + bytes(99), "cut short or damaged"),
        ("a.pth", b"hello", "damaged"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=what):
        read_weights(tmp_path / name)


def test_a_folder_a_cut_file_and_a_program_are_named(tmp_path: Path) -> None:
    torch.save({"params": {"a": torch.ones(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:3000])
    with zipfile_of(tmp_path / "script.pt", ("script/constants.pkl", "script/code/a.py", "script/data.pkl")):
        pass
    with zipfile_of(tmp_path / "photos.pth", ("a.jpg",)):
        pass
    for name, what in (
        ("", "is a folder"),
        ("cut.pth", "cut short"),
        ("script.pt", "TorchScript"),
        ("photos.pth", "a.jpg"),
        ("missing.pth", "cannot read"),
    ):
        with pytest.raises(CheckpointError, match=what):
            read_weights(tmp_path / name)


def zipfile_of(path: Path, names: tuple[str, ...]) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path, "w")
    for name in names:
        archive.writestr(name, b"")
    return archive


def test_weights_of_another_network_are_described_and_their_network_named(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "params": build_network("unet").state_dict()}, tmp_path / "unet.pth")
    with pytest.raises(CheckpointError) as refused:
        of_weights(tmp_path / "unet.pth", "nafnet")
    assert "params: 46 tensors (encoder.block1.0.weight" in refused.value.what
    assert "--network unet" in str(refused.value.hint)


def test_the_choice_of_averaged_weights_is_said(tmp_path: Path) -> None:
    state = build_network("unet").state_dict()
    torch.save({"params": {key: 0 * value for key, value in state.items()}, "params_ema": state}, tmp_path / "a.pth")
    deblurrer = of_weights(tmp_path / "a.pth", "unet")
    assert deblurrer.notes == ("a.pth: the averaged weights in params_ema are used, not those in params",)
    assert torch.equal(next(iter(deblurrer.network.state_dict().values())), next(iter(state.values())))
