"""Records to models by lens and focal length, and the file the models are kept in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from sdd_toolkit.calibration import lens_breathing
from sdd_toolkit.calibration.breathing_model import BreathingModel
from sdd_toolkit.calibration.lens_breathing import LensBreathing
from sdd_toolkit.errors import InputError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import Exposure, FrameMeta, PairRecord, Reason
from tests.support.planted_lenses import meta, pair, thin_lens_pairs
from tests.support.planted_pairs import alignment, record

MODEL = LensBreathing("EF 50mm", 50.0, BreathingModel((0.05,), ((1e-8,),), 1e-4, 8, 0, (0.1, 2.0)))


def write(folder: Path, records: list[PairRecord]) -> Path:
    path = folder / "aligned.jsonl"
    manifest.write_manifest(path, manifest.Manifest(folder, tuple(records)))
    return path


def test_every_lens_and_focal_length_gets_its_own_model() -> None:
    records = [*thin_lens_pairs("A", 50.0), *thin_lens_pairs("A", 85.0), *thin_lens_pairs("B", 35.02)]
    fitted = lens_breathing.fit_lenses(records)
    assert [(entry.lens, entry.focal_mm, len(entry.observations)) for entry in fitted] == [
        ("A", 50.0, 8),
        ("A", 85.0, 8),
        ("B", 35.0, 8),
    ]
    slopes = [entry.model.zoom_per_dioptre for entry in fitted if entry.model]
    assert slopes == pytest.approx([0.0528, 0.0927, 0.0364], rel=0.02)


def test_what_is_left_out_is_counted_by_reason() -> None:
    bad = [
        pair("unknown focus", meta(None), meta(1.0)),
        pair("still", meta(1.0), meta(1.0)),
        pair("another lens", meta(1.0, "Sigma"), meta(2.0)),
        pair("zoomed", meta(1.0, focal_mm=35.0), meta(2.0)),
        replace(pair("none", meta(1.0), meta(2.0)), alignment=None),
        replace(
            pair("failed", meta(1.0), meta(2.0)), alignment=replace(alignment(), failure=Reason.PARALLAX), verdict=None
        ),
        record("filtered out", Reason.MOVING_OBJECT, blur_meta=meta(1.0), sharp_meta=meta(2.0)),
    ]
    (entry,) = lens_breathing.fit_lenses([*thin_lens_pairs(), *bad])
    assert len(entry.observations) == 8
    assert entry.model is not None
    assert entry.left_out == {
        "frames differ in lens or focal length": 2,
        "not aligned": 2,
        "focus distance unknown": 1,
        "focus not moved": 1,
        "rejected": 1,
    }


def test_a_camera_stands_for_its_lens_and_an_unknown_one_is_never_fitted() -> None:
    nameless = [replace(entry, blur_meta=meta(1.0, None), sharp_meta=meta(2.0, None)) for entry in thin_lens_pairs()]
    assert lens_breathing.fit_lenses(nameless)[0].lens == "Canon EOS 6D"
    blank = FrameMeta(exposure=Exposure(focal_mm=50.0, focus_m=1.0))
    (entry,) = lens_breathing.fit_lenses(
        [replace(entry, blur_meta=blank, sharp_meta=blank) for entry in thin_lens_pairs()]
    )
    assert (entry.lens, entry.model) == ("unknown", None)
    assert entry.refusal.startswith("0 of 0 pairs")


def test_the_deviation_of_a_pair_is_its_corner_error_and_what_a_turn_of_the_camera_magnifies() -> None:
    (entry,) = lens_breathing.fit_lenses(thin_lens_pairs())
    corner, turn = 0.02 / (math.hypot(160, 240) / 2), (6**2 + 4**2) / 240**2
    assert entry.observations[0].deviation == pytest.approx(math.hypot(corner, turn))


def test_models_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    models = lens_breathing.models_of(
        lens_breathing.fit_lenses([*thin_lens_pairs("Objektiv Ö"), *thin_lens_pairs("B", 85.0)])
    )
    lens_breathing.write_models(tmp_path / "lens.json", models)
    assert lens_breathing.read_models(tmp_path / "lens.json") == models


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is other 1, not sdd-breathing 1"),
        ({"version": 2}, "is sdd-breathing 2, not"),
        ({"lenses": [{"lens": "A"}]}, r"lenses\.0\.focal_mm"),
        ({"model": {"scatter": -1.0}}, r"lenses\.0\.model"),
        ({"model": {"coefficients": [0.1, 0.2]}}, r"lenses\.0\.model"),
        ({"model": {"coefficients": ["NaN"]}}, r"lenses\.0\.model"),
        ({"model": {"range_dpt": [2.0, 0.1]}}, r"lenses\.0\.model"),
        ({"twice": True}, "holds EF 50mm at 50 mm 2 times"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "lens.json"
    lens_breathing.write_models(path, [MODEL])
    content = json.loads(path.read_text())
    content["lenses"] *= 2 if change.pop("twice", False) else 1
    content["lenses"][0]["model"].update(change.pop("model", {}))
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
        lens_breathing.read_models(path)


@pytest.mark.parametrize("text", ["", "[]", "nothing", "{}"])
def test_what_is_no_models_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lens.json").write_text(text)
    with pytest.raises(InputError, match=r"lens\.json"):
        lens_breathing.read_models(tmp_path / "lens.json")
    with pytest.raises(InputError, match="No such file"):
        lens_breathing.read_models(tmp_path / "missing.json")


def test_a_pair_gets_the_prior_of_its_lens_at_its_focal_length() -> None:
    known = pair("a", meta(2.0), meta(1.0))
    prior = lens_breathing.zoom_prior_of(known, [replace(MODEL, focal_mm=35.0), MODEL])
    assert prior is not None
    assert prior.zoom == pytest.approx(math.exp(0.05 * 0.5))
    assert prior.deviation == pytest.approx(1.1e-4, rel=0.1)
    for other in (
        pair("b", meta(2.0, "Sigma"), meta(1.0)),
        pair("c", meta(2.0, "Sigma"), meta(1.0, "Sigma")),
        pair("d", meta(2.0, focal_mm=24.0), meta(1.0, focal_mm=24.0)),
        pair("e", meta(None), meta(1.0)),
    ):
        assert lens_breathing.zoom_prior_of(other, [MODEL]) is None


def test_the_command_writes_models_and_says_what_it_used(tmp_path: Path) -> None:
    path = write(tmp_path, [*thin_lens_pairs(), pair("still", meta(1.0), meta(1.0))])
    out = tmp_path / "lens.json"
    shown = CliRunner().invoke(cli, ["breathing", str(path), "--out", str(out)], catch_exceptions=False)
    assert "EF 50mm" in shown.output
    assert [entry.lens for entry in lens_breathing.read_models(out)] == ["EF 50mm"]
    words = ["breathing", str(path), "--out", str(out), "--overwrite", "--json"]
    told = CliRunner().invoke(cli, words, catch_exceptions=False)
    (entry,) = json.loads(told.output)["lenses"]
    assert (entry["observations"], entry["left_out"], entry["refusal"]) == (8, {"focus not moved": 1}, "")
    assert entry["model"]["coefficients"][0] == pytest.approx(0.05, abs=2e-3)


def test_a_set_without_focus_pairs_is_refused_and_nothing_written(tmp_path: Path) -> None:
    path = write(tmp_path, [pair(f"{i}", meta(1.2), meta(1.2)) for i in range(5)])
    with pytest.raises(InputError, match="5 focus not moved"):
        lens_breathing.fit_lenses_of_manifest(path, tmp_path / "lens.json")
    assert not (tmp_path / "lens.json").exists()
