"""Scores equal those of scikit-image and the values expected from planted data."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jdrl.checkpoints import checkpoint
from jdrl.config import EvaluateConfig
from jdrl.data.batch import Batch
from jdrl.evaluation.comparison import RankedScore
from jdrl.evaluation.page import render_page
from jdrl.evaluation.pairs import read_pair, score_pair
from jdrl.evaluation.pictures import compare_crop, largest_gain_window
from jdrl.evaluation.protocols import official_pair
from jdrl.evaluation.results import EvaluationResult
from jdrl.evaluation.score_card import CheckpointInfo
from jdrl.evaluation.scores import Candidate, PerceptualMetrics, Score
from jdrl.evaluation.stage import EvaluationOptions, build_notes, evaluate
from jdrl.evaluation.tables import build_tables
from jdrl.flow.estimators import flow_estimator
from jdrl.flow.pwcnet import PWCNet
from jdrl.networks import build_network
from sdd_toolkit.config import load_section
from sdd_toolkit.errors import CheckpointError, ConfigError, InputError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Report
from sdd_toolkit.shards.reader import ShardReader
from tests.support.flows import zero_flow
from tests.support.planted_shards import MakeShards

OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
CONFIG = EvaluateConfig(device="cpu", pictures=1, picture_crop=48)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A checkpoint whose network returns its input."""
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {})
    checkpoint.save_checkpoint(tmp_path / "run", header, build_network("nafnet", **OPTIONS).state_dict(), {})
    return tmp_path / "run"


SHIFTING = """
import torch
from torch import nn


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, image):
        return [self.gain * image.roll((0, 2), (2, 3))]


def factory():
    return Shift()
"""


@pytest.fixture
def shifting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose network shifts its input two pixels to the right."""
    (tmp_path / "shifting.py").write_text(SHIFTING)
    monkeypatch.syspath_prepend(tmp_path)
    header = checkpoint.CheckpointHeader(7, "shifting:factory", {}, Encoding.SRGB8, "0" * 64, {})
    weights = build_network("shifting:factory").state_dict()
    checkpoint.save_checkpoint(tmp_path / "moved", header, weights, {})
    return tmp_path / "moved"


def found(evaluation: EvaluationResult, image: str, protocol: str) -> Score:
    (score,) = [score for score in evaluation.images if (score.image, score.protocol) == (image, protocol)]
    return score


def test_unwarped_scores_are_those_of_scikit_image(identity: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, flow=(0, 0))
    score = found(evaluate(identity, folder, tmp_path / "out", CONFIG), "input", "unwarped")
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
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG)
    pair = ShardReader(shards, split="test").read("scene-03")
    # Stored flow (2, -1): pixel (x, y) of the blurred frame belongs to (x + 2, y - 1) of the sharp one.
    blur, sharp = pair.blur[1:, :126] / 255, pair.sharp[:-1, 2:] / 255
    expected = -10 * np.log10(np.mean((blur - sharp) ** 2))
    aligned, unwarped = (found(evaluation, "input", protocol) for protocol in ("aligned", "unwarped"))
    assert aligned.psnr_db == pytest.approx(expected, abs=1e-3)
    assert unwarped.psnr_db is not None
    assert expected > unwarped.psnr_db + 3


def test_a_network_that_changes_nothing_scores_as_its_input(identity: Path, shards: Path, tmp_path: Path) -> None:
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG)
    for protocol in ("unwarped", "aligned"):
        before, after = (found(evaluation, image, protocol) for image in ("input", "deblurred"))
        assert (before.psnr_db, before.ssim, before.mae) == pytest.approx((after.psnr_db, after.ssim, after.mae))


def test_tables_and_pictures_are_written_and_agree(identity: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1, "test": 2})
    evaluation = evaluate(identity, folder, tmp_path / "out", CONFIG)
    rows = list(csv.DictReader((tmp_path / "out" / "evaluation.csv").open()))
    assert [row["pair"] for row in rows] == ["scene-01"] * 4 + ["scene-02"] * 4 + ["mean"] * 4
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["means"][0]["psnr_db"] == float(rows[8]["psnr_db"]) == evaluation.means[0].psnr_db
    both = [float(row["psnr_db"]) for row in rows if (row["image"], row["protocol"]) == ("input", "unwarped")]
    assert both[2] == pytest.approx((both[0] + both[1]) / 2)
    assert cv2.imread(str(tmp_path / "out" / "before_after.png")).shape[1] > 900
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "01.png")).shape == (48, 3 * 48 + 8, 3)


def test_a_perfect_score_is_null_not_infinity(identity: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, radius_px=0.0)
    evaluation = evaluate(identity, folder, tmp_path / "out", CONFIG)
    assert evaluation.means[0].psnr_db is None
    assert evaluation.means[0].ssim == pytest.approx(1)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["means"][0]["psnr_db"] is None


def test_a_data_set_without_the_split_is_refused(identity: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1})
    with pytest.raises(InputError, match="no split 'test'"):
        evaluate(identity, folder, tmp_path / "out", CONFIG)
    empty = make_shards(tmp_path / "empty", scenes={"train": 1, "test": 0})
    with pytest.raises(InputError, match="holds no pairs"):
        evaluate(identity, empty, tmp_path / "out", CONFIG)


def test_linear_scores_say_so_and_their_pictures_get_the_srgb_curve(make_shards: MakeShards, tmp_path: Path) -> None:
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.LINEAR16, "0" * 64, {})
    checkpoint.save_checkpoint(tmp_path / "run", header, build_network("nafnet", **OPTIONS).state_dict(), {})
    pictures = []
    for encoding in (Encoding.LINEAR16, Encoding.SRGB8):
        folder = make_shards(tmp_path / encoding, scenes={"test": 1}, encoding=encoding, size=(64, 64))
        with ShardReader(folder) as reader:
            truth = read_pair(reader, "scene-00")
        window = largest_gain_window(truth, truth.blur, 64)
        pictures.append(compare_crop("scene-00", truth, truth.blur, window, encoding).input.astype(int))
    assert abs(pictures[0] - pictures[1]).max() <= 1
    assert evaluate(tmp_path / "run", tmp_path / "linear16", tmp_path / "out", CONFIG).domain == "linear light"
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["domain"] == "linear light"


def test_a_data_set_of_another_encoding_is_refused(identity: Path, make_shards: MakeShards, tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, encoding=Encoding.LINEAR16)
    with pytest.raises(CheckpointError, match=r"trained on srgb8 images, .* holds linear16"):
        evaluate(identity, folder, tmp_path / "out", CONFIG)


def test_a_network_that_shifts_the_image_has_drift_and_is_compared_with_the_first(
    identity: Path, shifting: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"train": 1, "test": 3}, size=(112, 208))
    checkpoints = [identity, shifting]
    evaluation = evaluate(checkpoints, folder, tmp_path / "out", CONFIG, EvaluationOptions(network="shifting:factory"))
    first, second = ["run/step-00000001", "moved/step-00000007"]
    assert [(model.label, model.step) for model in evaluation.models] == [(first, 1), (second, 7)]
    means = {row.checkpoint: row for row in evaluation.drifts if row.pair == "mean"}
    assert means[first].mean_px == pytest.approx(0, abs=0.02)
    assert means[second].mean_px == pytest.approx(2, abs=0.1)
    standing = {(row.checkpoint, row.protocol, row.measure): row for row in evaluation.standings}
    worse = standing[second, "aligned", "psnr_db"]
    scores = {
        (score.checkpoint, score.pair): score.psnr_db for score in evaluation.images if score.protocol == "aligned"
    }
    differences = [scores[second, f"scene-0{pair}"] - scores[first, f"scene-0{pair}"] for pair in (1, 2, 3)]
    assert worse.difference == pytest.approx(np.mean(differences))
    assert min(differences) <= worse.difference_low <= worse.difference_high <= max(differences) < 0
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert len(rows) == len(evaluation.standings)
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count('class="compare"') == 4
    assert f"Against {first}" in page


def test_names_of_checkpoints_and_intervals_are_whole_in_a_narrow_terminal() -> None:
    label = "my-run-of-tuesday/step-00200000"
    models = tuple(CheckpointInfo(name, 1, "nafnet") for name in ("first", label))
    row = RankedScore(label, "deblurred", "aligned", "ssim", 9, 0.8, 0.7, 0.9, -0.0123, -0.0234, -0.0012)
    report = Report("evaluate", 9, 9, 0, {}, 1.0)
    evaluation = EvaluationResult(report, "", 1, "test", "srgb8", "sRGB", (), (), models, (row,), (), None, ())
    console = Console(width=80)
    with console.capture() as captured:
        console.print(list(build_tables(evaluation))[-1])
    lines = [[cell.strip() for cell in line.split("│")] for line in captured.get().splitlines() if "│" in line]
    printed = ["".join(cells) for cells in zip(*lines, strict=True)]
    assert label in printed
    assert "-0.0234 … -0.0012" in captured.get()


def test_the_same_scores_in_the_same_bytes_every_time(identity: Path, shards: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"planted_shifts_px": (2.0,), "planted_zooms": (0.01,)})
    for name in ("one", "two"):
        evaluate(identity, shards, tmp_path / name, config, EvaluationOptions(misalignment=True))
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert {"misalignment.csv", "misalignment.png", "evaluation.html", "drift.csv"} <= {str(name) for name in names}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_official_protocol_scores_every_pixel_against_the_frame_warped_to_the_output(
    identity: Path, shards: Path, tmp_path: Path
) -> None:
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG, EvaluationOptions(official=zero_flow))
    with ShardReader(shards, split="test") as reader:
        truth = read_pair(reader, "scene-03")
    output, target = official_pair(truth.blur, truth.sharp, zero_flow)
    expected = -10 * np.log10(float((output - target).double().square().mean()))
    assert found(evaluation, "deblurred", "official").psnr_db == pytest.approx(expected, abs=1e-4)
    assert [mean.protocol for mean in evaluation.means] == ["unwarped"] * 2 + ["aligned"] * 2 + ["official"] * 2
    assert not any("PWC-Net" in note for note in evaluation.notes)


def test_the_official_protocol_takes_pwc_net_from_a_file(identity: Path, shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "pwcnet.pth"
    torch.save(PWCNet().state_dict(), weights)
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG.model_copy(update={"pwcnet": weights}))
    estimated = evaluate(
        identity, shards, tmp_path / "same", CONFIG, EvaluationOptions(official=flow_estimator("pwcnet", weights))
    )
    score, same = (found(one, "deblurred", "official") for one in (evaluation, estimated))
    assert score.psnr_db is not None
    assert score == same


def test_without_pwc_net_a_line_says_why_there_is_no_official_protocol(
    identity: Path, shards: Path, tmp_path: Path
) -> None:
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG)
    assert {score.protocol for score in evaluation.images} == {"unwarped", "aligned"}
    assert "--pwcnet FILE" in evaluation.notes[0]
    assert evaluation.notes[0] in (tmp_path / "out" / "evaluation.html").read_text()


def test_a_change_of_brightness_costs_nothing_once_colours_are_fitted() -> None:
    sharp = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).repeat_interleave(16, 2)
    sharp = 0.1 + 0.8 * sharp.repeat_interleave(16, 3)
    everywhere = torch.ones(1, 1, 128, 128)
    truth = Batch(0.7 * sharp, sharp, sharp, everywhere, torch.zeros(1, 2, 128, 128), everywhere)
    scores = score_pair("p", truth, [Candidate("deblurred", "run", 0.7 * sharp)], PerceptualMetrics(), None)
    for score in scores:
        assert score.psnr_db < 20
        assert score.psnr_colour_db > 40


def test_perceptual_distances_stand_beside_the_others_and_do_not_see_invalid_pixels(shards: Path) -> None:
    def largest(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().amax((1, 2, 3))

    with ShardReader(shards, split="test") as reader:
        truth = read_pair(reader, "scene-03")
    spoiled = truth.blur.where(truth.valid > 0.5, torch.where(truth.sharp_on_blur > 0.5, -0.5, 1.5))
    (_, _, _, score) = score_pair(
        "p", truth, [Candidate("deblurred", "run", spoiled)], PerceptualMetrics(lpips=largest), None
    )
    assert 0 < score.lpips < 1
    assert score.dists is None


def test_only_the_perceptual_distance_without_weights_is_said_to_be_left_out() -> None:
    (note,) = build_notes(PerceptualMetrics(lpips=lambda first, second: first), official=True, unaligned=0)
    assert "DISTS" in note
    assert "LPIPS" not in note


def test_half_of_the_files_of_a_perceptual_distance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lpips_backbone and lpips_weights go together"):
        load_section(EvaluateConfig, "evaluate", None, lpips_weights=tmp_path / "alex.pth")


def test_no_name_in_the_page_becomes_markup(identity: Path, shards: Path, tmp_path: Path) -> None:
    evaluation = evaluate(identity, shards, tmp_path / "out", CONFIG)
    hostile = "<script>document.title='owned'</script>"
    images = tuple(replace(score, pair=hostile) for score in evaluation.images)
    models = tuple(replace(model, label=hostile) for model in evaluation.models)
    page = render_page(
        replace(evaluation, images=images, models=models, split=hostile, notes=(hostile,)), [], 1.0, None
    )
    assert hostile not in page
    assert page.count("&lt;script&gt;document.title") > 4


def test_unaligned_pairs_are_aligned_for_the_protocol_and_counted_in_a_note(
    identity: Path, make_shards: MakeShards, tmp_path: Path
) -> None:
    folder = make_shards(tmp_path / "shards", scenes={"test": 1}, flow=(6, -3), size=(128, 160), stored=False)
    found = evaluate(identity, folder, tmp_path / "out", CONFIG)
    unwarped, aligned = (
        next(mean for mean in found.means if (mean.image, mean.protocol) == ("input", protocol)).psnr_db
        for protocol in ("unwarped", "aligned")
    )
    assert unwarped is not None
    assert aligned is not None
    assert aligned > unwarped + 3
    assert any(note.startswith("1 pairs came without an alignment") for note in found.notes)
