"""Tiles without seams; photographs from file to file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from jdrl.checkpoints import checkpoint
from jdrl.checkpoints.deblurrer import Deblurrer, of_checkpoint
from jdrl.config import DeblurConfig
from jdrl.inference.deblur import deblur, deblur_files
from jdrl.inference.tiles import tile_spans
from jdrl.networks import NAFNet, build_network, restore
from sdd_toolkit.errors import CheckpointError, ConfigError, InputError
from sdd_toolkit.formats.colour import ImageColour, read_colour
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.formats.icc import encode_icc
from sdd_toolkit.frames.reading import read_full
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.colour_profile import SRGB_CURVE, SRGB_PRIMARIES, ColourProfile, Curve, colorants_of
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.metadata.file_metadata import read_file_metadata

SMALL = DeblurConfig(tile=64, overlap=16, device="cpu")


def convolutions() -> nn.Module:
    """Three 3x3 convolutions with a strong answer; they reach 3 px."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)]
    return nn.Sequential(*layers, nn.Sigmoid()).eval()


def noise(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A training run whose network brightens by 1/8 everywhere."""
    return saved_network(tmp_path / "run", Encoding.SRGB8)


def saved_network(run_path: Path, encoding: Encoding, brighter: float = 0.125) -> Path:
    options = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
    network = build_network("nafnet", **options)
    assert isinstance(network, NAFNet)
    network.ending.bias.data.fill_(brighter)
    header = checkpoint.CheckpointHeader(1, "nafnet", options, encoding, "0" * 64, {})
    checkpoint.save_checkpoint(run_path, header, network.state_dict(), {})
    return run_path


def test_tiles_of_a_convolutional_network_show_no_seam() -> None:
    network, image = convolutions(), noise(150, 131)
    whole = deblur(network, image, tile=0, overlap=0)
    tiled = deblur(network, image, tile=48, overlap=16)
    assert (whole - tiled).abs().max() < 1e-5
    hard = deblur(network, image, tile=48, overlap=0)
    assert (whole - hard).abs().max() > 1 / 255


def test_pooling_falls_on_the_same_pixels_in_a_tile_as_in_the_frame() -> None:
    torch.manual_seed(0)
    network = build_network("unet", width=8).eval()
    image = noise(32, 1000)
    whole = deblur(network, image, tile=0, overlap=0)
    # Its reach of 117 px must be covered by 3/8 of the overlap.
    tiled = deblur(network, image, tile=640, overlap=312)
    assert whole.std() > 10 / 255
    assert (whole - tiled).abs().max() < 1 / 255


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 200), (64, 64), (65, 63)])
def test_odd_and_small_sizes_come_out_in_their_own_size(size: tuple[int, int]) -> None:
    network = build_network("nafnet", width=4, encoder_blocks=[1, 1], middle_blocks=1, decoder_blocks=[1, 1]).eval()
    image = noise(*size)
    assert torch.allclose(deblur(network, image, tile=32, overlap=8), image, atol=1e-6)


def test_the_whole_image_is_the_networks_own_answer() -> None:
    network, image = convolutions(), noise(40, 50)
    with torch.inference_mode():
        expected = restore(network, image[None])[0][0]
    assert torch.allclose(deblur(network, image, tile=0, overlap=0), expected, atol=1e-6)


def test_tiles_cover_a_side_evenly_with_at_least_the_overlap() -> None:
    assert tile_spans(100, 0, 8, 1) == [(0, 100)]
    assert tile_spans(100, 100, 8, 1) == [(0, 100)]
    assert tile_spans(100, 64, 16, 1) == [(0, 64), (36, 100)]
    for length in range(65, 400, 7):
        tiles = tile_spans(length, 64, 16, 8)
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(first % 8 == 0 and end - first <= 64 for first, end in tiles)
        assert all(before[1] - after[0] >= 16 for before, after in pairwise(tiles))


@pytest.mark.parametrize("tile", [1, 10, 17])
def test_tiles_smaller_than_the_step_between_them_leave_no_gap(tile: int) -> None:
    for length in range(1, 100, 7):
        tiles = tile_spans(length, tile, tile // 2, 16)
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(after[0] <= before[1] < after[1] for before, after in pairwise(tiles))


P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
CURVES = {"sRGB": SRGB_CURVE, "gamma": Curve(2.2), "linear": Curve(), "table": Curve(samples=(0.0, 0.1, 0.4, 1.0))}


@pytest.mark.parametrize("encoding", [Encoding.SRGB8, Encoding.LINEAR16])
@pytest.mark.parametrize(("dtype", "name"), [(np.uint8, "a.png"), (np.uint16, "a.png"), (np.uint16, "a.tif")])
@pytest.mark.parametrize("curve", CURVES)
def test_a_network_that_changes_nothing_keeps_the_code_values_and_the_profile(
    tmp_path: Path, curve: str, dtype: type, name: str, encoding: Encoding
) -> None:
    profile = ColourProfile(curve, (CURVES[curve],) * 3, colorants_of(P3))
    codes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 48, 3), dtype=dtype, endpoint=True)
    write_image(tmp_path / name, codes, colour=ImageColour(profile, encode_icc(profile)))
    network = NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)).eval()
    report, failures = deblur_files(Deblurrer(network, encoding, None), [tmp_path / name], tmp_path / "out", SMALL)
    assert failures == ()
    result = Path(report.outputs[0])
    np.testing.assert_array_equal(read_image(result), codes)
    assert read_colour(result).icc == encode_icc(profile)


def test_the_network_sees_tones_by_the_curve_of_srgb(run_folder: Path, tmp_path: Path) -> None:
    """A linear file and an sRGB file of one light get the same answer."""
    light = np.linspace(0.02, 0.6, 48, dtype=np.float32)[None, :, None].repeat(40, axis=0).repeat(3, axis=2)
    profile = ColourProfile("linear", (Curve(),) * 3, colorants_of(SRGB_PRIMARIES))
    write_image(tmp_path / "a.tif", encode(light, Encoding.SRGB16))
    write_image(tmp_path / "b.tif", encode(light, Encoding.LINEAR16), colour=ImageColour(profile, encode_icc(profile)))
    deblur_files(of_checkpoint(run_folder), [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out", SMALL)
    one, other = (read_full(tmp_path / "out" / f"{name}_deblurred.tif") for name in "ab")
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(one - light).max() > 0.05


@pytest.mark.parametrize("chunk", [(b"gAMA", (100_000).to_bytes(4, "big")), (b"cICP", bytes((9, 13, 0, 1)))])
def test_the_colour_chunks_of_a_png_stay(run_folder: Path, tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    write_image(tmp_path / "a.png", np.full((32, 32, 3), 90, np.uint8), colour=ImageColour(chunks=(chunk,)))
    deblur_files(of_checkpoint(run_folder), [tmp_path / "a.png"], tmp_path / "out", SMALL)
    assert read_colour(tmp_path / "out" / "a_deblurred.png").chunks == (chunk,)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_metadata_are_copied_and_left_out_on_demand_but_never_the_profile(
    run_folder: Path, tmp_path: Path, name: str
) -> None:
    exif = Image.Exif()
    exif[315] = "A. Photographer"
    Image.new("RGB", (32, 32)).save(tmp_path / "like.jpg", exif=exif)
    profile = ColourProfile("wide", (Curve(2.2),) * 3, colorants_of(P3))
    colour = ImageColour(profile, encode_icc(profile))
    write_image(tmp_path / name, np.full((32, 32, 3), 90, np.uint8), like=tmp_path / "like.jpg", colour=colour)
    for strip in (False, True):
        config = DeblurConfig(tile=64, overlap=16, device="cpu", strip=strip)
        report, _ = deblur_files(of_checkpoint(run_folder), [tmp_path / name], tmp_path / f"out{strip}", config)
        result = Path(report.outputs[0])
        tree = read_file_metadata(result).tree
        assert (b"A. Photographer" in result.read_bytes()) is not strip
        assert tree is None or (315 in tree.directories["main"]) is not strip
        assert read_colour(result).icc == colour.icc


def test_colours_that_cannot_be_read_are_a_reason_and_stop_nothing(run_folder: Path, tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32)).save(tmp_path / "a.jpg")
    write_image(tmp_path / "b.jpg", np.full((32, 32, 3), 90, np.uint8))
    report, failures = deblur_files(
        of_checkpoint(run_folder), [tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "out", SMALL
    )
    assert report.done == 1
    assert "CMYK" in failures[0].reason


@pytest.mark.parametrize(("dtype", "name"), [(np.uint8, "a.png"), (np.uint16, "a.png"), (np.uint16, "a.tif")])
def test_bit_depth_and_format_are_kept(run_folder: Path, tmp_path: Path, dtype: type, name: str) -> None:
    white = np.iinfo(dtype).max
    write_image(tmp_path / name, np.full((33, 47, 3), white // 4, dtype))
    report, failures = deblur_files(of_checkpoint(run_folder), [tmp_path / name], tmp_path / "out", SMALL)
    assert failures == ()
    result = read_image(Path(report.outputs[0]))
    assert Path(report.outputs[0]).name == f"a_deblurred{Path(name).suffix}"
    assert result.dtype == dtype
    assert result.shape == (33, 47, 3)
    assert abs(int(result[5, 5, 0]) - (white // 4 + round(white / 8))) <= 1


def test_a_network_trained_on_linear_light_gets_and_gives_linear_light(tmp_path: Path) -> None:
    linear = saved_network(tmp_path / "run", Encoding.LINEAR16, brighter=0.25)
    write_image(tmp_path / "black.png", np.zeros((16, 16, 3), np.uint8))
    report, _ = deblur_files(of_checkpoint(linear), [tmp_path / "black.png"], tmp_path / "out", SMALL)
    # Linear 0.25 is sRGB 0.5371.
    assert read_image(Path(report.outputs[0]))[8, 8].tolist() == [137, 137, 137]


def test_one_bad_file_stops_none_of_the_others(run_folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing more")
    (tmp_path / "broken.cr2").write_bytes(b"no raw")
    (tmp_path / "notes.txt").write_text("hello")
    names = ["broken.png", "missing.png", "broken.cr2", "notes.txt", "good.png"]
    report, failures = deblur_files(
        of_checkpoint(run_folder), [tmp_path / name for name in names], tmp_path / "out", SMALL
    )
    assert (report.total, report.done, report.rejected) == (5, 1, {"unreadable": 4})
    assert [Path(failure.path).name for failure in failures] == names[:4]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_deblurred.png"]


class Hungry(nn.Module):
    """A network that runs out of memory on more than 32 px."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, blurred: torch.Tensor) -> torch.Tensor:
        if blurred.shape[-1] > 32:
            torch.empty(2**58)
        return blurred * self.weight


def test_a_tile_that_does_not_fit_into_memory_is_an_error_with_a_way_out() -> None:
    with pytest.raises(InputError, match="no memory for 40x50 px") as caught:
        deblur(Hungry(), noise(40, 50), tile=0, overlap=0)
    assert "--tile" in caught.value.hint
    assert deblur(Hungry(), noise(40, 50), tile=32, overlap=8).shape == (3, 40, 50)


def test_a_result_never_replaces_its_source_or_another_result(run_folder: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.png", np.zeros((20, 20, 3), np.uint8))
    bare = SMALL.model_copy(update={"suffix": ""})
    deblurrer, both = of_checkpoint(run_folder), [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    for files, out, config, message in (
        (both[:1], tmp_path / "a", bare, "would replace an input"),
        (both, tmp_path / "out", SMALL, "the result of two files"),
        (both[:1], tmp_path / "b", bare, "exists already"),
    ):
        with pytest.raises(InputError, match=message):
            deblur_files(deblurrer, files, out, config)
    assert not (tmp_path / "out").exists()
    assert deblur_files(deblurrer, both[:1], tmp_path / "b", bare, overwrite=True)[0].done == 1


def test_metadata_of_the_source_goes_along(run_folder: Path, tmp_path: Path) -> None:
    exif = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x06\0\0\0\x1a\0\0\0\0\0\0\0MAKER\0"
    source = tmp_path / "photo.jpg"
    plain = cv2.imencode(".jpg", np.full((24, 24, 3), 90, np.uint8))[1].tobytes()
    segment = b"Exif\0\0" + exif
    source.write_bytes(plain[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + plain[2:])
    report, failures = deblur_files(of_checkpoint(run_folder), [source], tmp_path / "out", SMALL)
    assert failures == ()
    assert b"MAKER" in Path(report.outputs[0]).read_bytes()


def test_a_raw_file_becomes_a_sixteen_bit_tiff(run_folder: Path, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "raw" / "burst_rpi_imx296" / "image_0.dng"
    report, failures = deblur_files(
        of_checkpoint(run_folder), [source], tmp_path, DeblurConfig(tile=1024, device="cpu")
    )
    assert failures == ()
    assert report.outputs[0].endswith("_deblurred.tif")
    assert read_image(Path(report.outputs[0])).dtype == np.uint16


def test_a_folder_without_a_checkpoint_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training run"):
        deblur_files(of_checkpoint(tmp_path), [tmp_path / "x.png"], tmp_path / "out", SMALL)


def test_an_overlap_above_half_a_tile_is_refused() -> None:
    from sdd_toolkit.config import load_section

    with pytest.raises(ConfigError, match="overlap 40 exceeds half a tile of 64"):
        load_section(DeblurConfig, "deblur", None, tile=64, overlap=40)
