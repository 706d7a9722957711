"""Blur maps: planted radii are recovered, tiles have no seams, files are independent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner

from benchmarks import blur_map as virtual
from jdrl.checkpoints import checkpoint
from jdrl.commands import blurmap
from jdrl.config import BasisName, Tiling
from jdrl.inference.blur_map import BlurMapper, kernel_radius, load_blur_mapper, map_blur_of_files
from jdrl.networks import Guide, GuidedNetwork, build_network
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.network import ReblurNetwork
from sdd_toolkit.errors import CheckpointError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import Encoding

SMALL = Tiling(tile=64, overlap=32, device="cpu")
OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def saved(folder: Path, network: ReblurNetwork, **changes: object) -> Path:
    """A checkpoint of `network` beside a deblurring network."""
    config = {"reblur_radius_px": network.radius_px, "reblur_width": network.intro.out_channels}
    config |= {"reblur_basis": network.basis, "reblur_scale": network.scale, **changes}
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, config)
    training = {**checkpoint.add_prefix("reblur", network.state_dict()), "optimiser.0.step": torch.ones(1)}
    checkpoint.save_checkpoint(folder, header, build_network("nafnet", **OPTIONS).state_dict(), training)
    return folder


def always(plane: int, basis: BasisName = "discs", radius_px: int = 7) -> ReblurNetwork:
    """A network that predicts one plane of its basis everywhere."""
    network = ReblurNetwork(radius_px, 4, basis=basis)
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = 60.0 * torch.eye(len(planes(Basis(basis, radius_px))))[plane]
    return network


def photograph(path: Path, size: tuple[int, int] = (33, 47)) -> Path:
    draw = np.random.default_rng(0)
    write_image(path, draw.integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def test_the_map_of_a_photograph_is_the_radius_of_its_kernels_in_pixels(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", always(6))
    report, failures = map_blur_of_files(
        load_blur_mapper(model, SMALL), [photograph(tmp_path / "a.png")], tmp_path / "out"
    )
    assert failures == ()
    assert report.outputs == (str(tmp_path / "out" / "a_blurmap.tif"),)
    radius_px = tifffile.imread(report.outputs[0])
    assert (radius_px.dtype, radius_px.shape) == (np.float32, (33, 47))
    np.testing.assert_allclose(radius_px, 4.0, atol=1e-5)
    assert read_image(tmp_path / "out" / "a_blurmap.png").shape[1] == 1500


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_show_no_seam(scale: int) -> None:
    torch.manual_seed(0)
    network = ReblurNetwork(width=8, blocks=1, scale=scale).eval()
    torch.nn.init.normal_(network.head.weight, std=0.5)
    sharp, blurred = torch.rand(2, 3, 200, 190)
    whole = kernel_radius(network, sharp, blurred, tile=0, overlap=0)
    tiled = kernel_radius(network, sharp, blurred, tile=128, overlap=64)
    assert whole.std() > 0.1
    assert (whole - tiled).abs().max() < 1e-3


def test_the_map_of_a_guided_network_is_that_of_its_estimator(tmp_path: Path) -> None:
    guide = Guide(radius_px=7, width=4)
    network = GuidedNetwork(build_network("nafnet", **OPTIONS), guide)
    torch.nn.init.normal_(network.estimator.head.weight)
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {"crop": 32}, guide=guide)
    checkpoint.save_checkpoint(tmp_path / "model", header, network.state_dict(), {"optimiser.0.step": torch.ones(1)})
    mapper = load_blur_mapper(tmp_path / "model", Tiling(tile=256, overlap=128, device="cpu"))
    image = torch.rand(3, 300, 60)
    with torch.no_grad():
        whole = network.estimator.estimate_radius_px(image[None])[0, 0]
    assert mapper.max_radius_px == 7
    assert whole.std() > 0.05
    torch.testing.assert_close(mapper.estimate_radius_px(image), whole, rtol=0, atol=1e-3)


def test_the_picture_has_the_colours_of_small_and_large_radii(tmp_path: Path) -> None:
    step = torch.cat([torch.zeros(40, 40), torch.full((40, 40), 7.0)], 1)
    estimator = BlurMapper(Encoding.SRGB8, 7, lambda _: step)
    map_blur_of_files(estimator, [photograph(tmp_path / "a.png")], tmp_path)
    picture = read_image(tmp_path / "a_blurmap.png")
    left, right = picture[picture.shape[0] // 2, 60], picture[picture.shape[0] // 2, 1000]
    # The ends of the colour map: dark violet and yellow.
    assert np.abs(left.astype(int) - [68, 1, 84]).max() < 3
    assert np.abs(right.astype(int) - [253, 231, 37]).max() < 3


def test_one_bad_file_stops_none_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing more")
    files = [tmp_path / "broken.png", photograph(tmp_path / "a.png")]
    estimator = BlurMapper(Encoding.SRGB8, 7, lambda image: image.mean(0))
    report, failures = map_blur_of_files(estimator, files, tmp_path / "out")
    assert (report.total, report.done, report.rejected) == (2, 1, {"unreadable": 1})
    assert [Path(failure.path).name for failure in failures] == ["broken.png"]


def test_the_command_reports_its_results_and_fails_if_a_file_fails(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", always(2))
    words = [str(model), str(photograph(tmp_path / "a.png")), "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(blurmap, words, catch_exceptions=False)
    assert json.loads(done.stdout)["done"] == 1
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a_blurmap.tif"), 1.0, atol=1e-5)
    failed = CliRunner().invoke(blurmap, [*words, str(tmp_path / "missing.png"), "--overwrite"])
    assert failed.exit_code == 2


def test_a_checkpoint_of_before_there_were_bases_has_hats(tmp_path: Path) -> None:
    network = ReblurNetwork(3, 4)
    header = checkpoint.CheckpointHeader(
        1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {"reblur_radius_px": 3, "reblur_width": 4}
    )
    weights = build_network("nafnet", **OPTIONS).state_dict()
    checkpoint.save_checkpoint(tmp_path, header, weights, checkpoint.add_prefix("reblur", network.state_dict()))
    estimator = load_blur_mapper(tmp_path, SMALL)
    # Three quarters of the weight in the delta: a radius below two.
    assert estimator.max_radius_px == 3
    assert 0 < float(estimator.estimate_radius_px(torch.rand(3, 16, 16)).max()) < 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reblur_radius_px": 5}, "does not fit"),
        ({"reblur_basis": "gaussians"}, "reblur_basis"),
        ({"reblur_width": 10**9}, "overflow"),
    ],
)
def test_a_header_that_does_not_fit_its_weights_is_named(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    saved(tmp_path, ReblurNetwork(7, 4), **changes)
    with pytest.raises(CheckpointError, match=words):
        load_blur_mapper(tmp_path, SMALL)


def test_a_checkpoint_without_a_reblurring_network_says_so(tmp_path: Path) -> None:
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {})
    checkpoint.save_checkpoint(tmp_path, header, build_network("nafnet", **OPTIONS).state_dict(), {})
    with pytest.raises(CheckpointError, match="holds no reblurring network"):
        load_blur_mapper(tmp_path, SMALL)


def test_a_network_trained_without_radii_predicts_those_of_the_virtual_camera() -> None:
    seen, unseen = virtual.shoot(1, 16, (112, 160)), virtual.shoot(2, 4, (112, 160))
    network = virtual.train_network(seen, "hats", steps=300, width=12, crop=48)
    truth = torch.cat([pair.radius_px[pair.textured] for pair in unseen])
    found = float(virtual.errors_px(network, unseen).abs().median())
    one_for_all = float((truth - truth.median()).abs().median())
    # 0.57 px where this was written, the best single radius 1.01 px.
    assert found < 0.65
    assert found < 0.65 * one_for_all
