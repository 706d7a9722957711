"""The align stage and the models of the lenses: what is done again, and that the zoom to expect gets through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignment.config import AlignConfig
from alignment.registration.stage import align_pairs
from cli import cli
from sdd_toolkit.calibration import lens_breathing
from sdd_toolkit.calibration.breathing_model import BreathingModel
from sdd_toolkit.calibration.lens_breathing import LensBreathing
from sdd_toolkit.config import load_section
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.geometry import rescale_homography
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import Exposure, FrameMeta, PairKind, PairRecord
from tests.support.planted_motion import plant_pair, write_at_double_size
from tests.support.planted_pairs import corner_error_px

CONFIG = AlignConfig(max_radius_px=6.0)
MODEL = LensBreathing("L", 50.0, BreathingModel((0.05,), ((1e-6,),), 1e-3, 8, 0, (0.1, 2.0)))


def ingested(folder: Path, lens: str | None) -> Path:
    pair = plant_pair(30)
    blur, sharp = (
        write_at_double_size(folder / f"{kind}.png", frame) for kind, frame in (("b", pair.blur), ("s", pair.sharp))
    )
    # Focus positions between which MODEL zooms by the planted 1.012.
    metas = (FrameMeta(lens=lens, exposure=Exposure(focal_mm=50.0, focus_m=focus_m)) for focus_m in (1.0, 1 / 1.24))
    record = PairRecord("a", "a", PairKind.FOCUS, blur, sharp, *metas)
    manifest.write_manifest(folder / "ingested.jsonl", manifest.Manifest(root=folder, records=(record,)))
    return folder / "ingested.jsonl"


def test_other_models_align_every_pair_again_and_the_same_ones_none(tmp_path: Path) -> None:
    source = ingested(tmp_path, lens=None)
    done = [
        align_pairs(source, tmp_path, with_models(models)).done
        for models in ((), (MODEL,), (MODEL,), (replace(MODEL, focal_mm=35.0),), ())
    ]
    assert done == [1, 1, 0, 1, 1]


def with_models(models: tuple[LensBreathing, ...]) -> AlignConfig:
    return CONFIG.model_copy(update={"breathing": models})


def test_a_pair_is_aligned_with_the_zoom_that_its_lens_lets_expect(tmp_path: Path) -> None:
    source = ingested(tmp_path, lens="L")
    lens_breathing.write_models(tmp_path / "lens.json", [MODEL])
    words = ["align", str(source), "--out", str(tmp_path), "--breathing", str(tmp_path / "lens.json")]
    shown = CliRunner().invoke(cli, [*words, "--executor", "serial"], catch_exceptions=False)
    assert "1 done" in shown.output
    (record,) = manifest.read_manifest(tmp_path / "aligned.jsonl").records
    assert record.alignment is not None
    assert record.alignment.failure is None
    truth = rescale_homography(plant_pair(30).homography, 2.0)
    assert corner_error_px(record.alignment.homography, truth, record.alignment.size) < 0.2


def test_models_may_stand_in_the_configuration(tmp_path: Path) -> None:
    text = """
[[align.breathing]]
lens = "L"
focal_mm = 50.0
model = {coefficients = [0.05], covariance = [[1e-6]], scatter = 1e-3, count = 8, outliers = 0, range_dpt = [0.1, 2]}
"""
    (tmp_path / "sdd.toml").write_text(text)
    section = load_section(AlignConfig, "align", tmp_path / "sdd.toml")
    assert section == AlignConfig(breathing=(MODEL,))
    assert section.fingerprint() != AlignConfig().fingerprint()


def test_a_file_that_holds_no_models_is_refused_before_any_work(tmp_path: Path) -> None:
    source = ingested(tmp_path, lens="L")
    (tmp_path / "lens.json").write_text("{}")
    words = ["align", str(source), "--out", str(tmp_path), "--breathing", str(tmp_path / "lens.json")]
    with pytest.raises(InputError, match=r"lens\.json: format: Field required"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert not (tmp_path / "aligned.jsonl").exists()
