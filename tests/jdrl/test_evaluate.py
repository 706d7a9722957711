"""Scores: equal to scikit-image's and to what the planted data must give."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jdrl import checkpoint
from jdrl.config import EvaluateConfig
from jdrl.evaluate import Evaluation, Score, run, whole_pair
from jdrl.networks import build_network
from jdrl.pictures import cut_out
from sdd_toolkit.develop import Encoding
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.shards.reader import ShardReader

OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
CONFIG = EvaluateConfig(device="cpu", pictures=1, picture_crop=48)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A checkpoint whose network returns its input."""
    header = checkpoint.Header(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {})
    checkpoint.save(tmp_path / "run", header, build_network("nafnet", **OPTIONS).state_dict(), {})
    return tmp_path / "run"


def found(evaluation: Evaluation, image: str, protocol: str) -> Score:
    (score,) = [score for score in evaluation.images if (score.image, score.protocol) == (image, protocol)]
    return score


def test_unwarped_scores_are_those_of_scikit_image(
    identity: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, flow=(0, 0))
    score = found(run(identity, folder, tmp_path / "out", CONFIG), "input", "unwarped")
    pair = ShardReader(folder).read("scene-00")
    blur, sharp = (image.astype(np.float64) / 255 for image in (pair.blur, pair.sharp))
    assert score.psnr_db == pytest.approx(peak_signal_noise_ratio(sharp, blur, data_range=1), abs=1e-4)
    expected = structural_similarity(sharp, blur, data_range=1, channel_axis=2)
    assert score.ssim == pytest.approx(expected, abs=1e-5)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(sharp, blur, data_range=1, channel_axis=2, **gaussian)
    assert score.ssim_gaussian == pytest.approx(expected, abs=1e-5)
    assert score.mae == pytest.approx(np.abs(sharp - blur).mean(), abs=1e-6)


def test_aligned_scores_forgive_the_planted_shift_and_only_that(identity: Path, shards: Path, tmp_path: Path) -> None:
    evaluation = run(identity, shards, tmp_path / "out", CONFIG)
    pair = ShardReader(shards, split="test").read("scene-03")
    # Stored flow (2, -1): pixel (x, y) of the blurred frame belongs to (x + 2, y - 1) of the sharp one.
    blur, sharp = pair.blur[1:, :126] / 255, pair.sharp[:-1, 2:] / 255
    expected = -10 * np.log10(np.mean((blur - sharp) ** 2))
    aligned, unwarped = (found(evaluation, "input", protocol) for protocol in ("aligned", "unwarped"))
    assert aligned.psnr_db == pytest.approx(expected, abs=1e-3)
    assert unwarped.psnr_db is not None
    assert expected > unwarped.psnr_db + 3


def test_a_network_that_changes_nothing_scores_as_its_input(identity: Path, shards: Path, tmp_path: Path) -> None:
    evaluation = run(identity, shards, tmp_path / "out", CONFIG)
    for protocol in ("unwarped", "aligned"):
        before, after = (found(evaluation, image, protocol) for image in ("input", "deblurred"))
        assert (before.psnr_db, before.ssim, before.mae) == pytest.approx((after.psnr_db, after.ssim, after.mae))


def test_tables_and_pictures_are_written_and_agree(
    identity: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1, "test": 2})
    evaluation = run(identity, folder, tmp_path / "out", CONFIG)
    rows = list(csv.DictReader((tmp_path / "out" / "evaluation.csv").open()))
    assert [row["pair"] for row in rows] == ["scene-01"] * 4 + ["scene-02"] * 4 + ["mean"] * 4
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["means"][0]["psnr_db"] == float(rows[8]["psnr_db"]) == evaluation.means[0].psnr_db
    both = [float(row["psnr_db"]) for row in rows if (row["image"], row["protocol"]) == ("input", "unwarped")]
    assert both[2] == pytest.approx((both[0] + both[1]) / 2)
    assert cv2.imread(str(tmp_path / "out" / "before_after.png")).shape[1] > 900
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "01.png")).shape == (48, 3 * 48 + 8, 3)


def test_a_perfect_score_is_null_not_infinity(identity: Path, make_shards: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, radius_px=0.0)
    evaluation = run(identity, folder, tmp_path / "out", CONFIG)
    assert evaluation.means[0].psnr_db is None
    assert evaluation.means[0].ssim == pytest.approx(1)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["means"][0]["psnr_db"] is None


def test_a_data_set_without_the_split_is_refused(
    identity: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1})
    with pytest.raises(InputError, match="no split 'test'"):
        run(identity, folder, tmp_path / "out", CONFIG)
    empty = make_shards(tmp_path / "empty", scenes={"train": 1, "test": 0})
    with pytest.raises(InputError, match="holds no pairs"):
        run(identity, empty, tmp_path / "out", CONFIG)


def test_linear_scores_say_so_and_their_pictures_get_the_srgb_curve(
    make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    header = checkpoint.Header(1, "nafnet", OPTIONS, Encoding.LINEAR16, "0" * 64, {})
    checkpoint.save(tmp_path / "run", header, build_network("nafnet", **OPTIONS).state_dict(), {})
    pictures = []
    for encoding in (Encoding.LINEAR16, Encoding.SRGB8):
        folder = make_shards(tmp_path / encoding, scenes={"test": 1}, encoding=encoding, size=(64, 64))
        with ShardReader(folder) as reader:
            truth = whole_pair(reader, "scene-00")
        pictures.append(cut_out("scene-00", truth, truth.blur, 64, encoding).input.astype(int))
    assert abs(pictures[0] - pictures[1]).max() <= 1
    assert run(tmp_path / "run", tmp_path / "linear16", tmp_path / "out", CONFIG).domain == "linear light"
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["domain"] == "linear light"


def test_a_data_set_of_another_encoding_is_refused(
    identity: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, encoding=Encoding.LINEAR16)
    with pytest.raises(CheckpointError, match=r"trained on srgb8 images, .* holds linear16"):
        run(identity, folder, tmp_path / "out", CONFIG)
