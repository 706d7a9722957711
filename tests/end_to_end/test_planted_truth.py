"""The walk on virtual RAW pairs with planted truth: is what comes out what went in?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.virtual.defects import Defect
from sdd_toolkit.pipeline.manifest import read_manifest
from tests.support.command_line import sdd_in_process
from tests.support.planted_pairs import corner_error_px

SIZE = "960x640"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 focus pairs and one pair for each planted defect, aligned and filtered."""
    folder = tmp_path_factory.mktemp("acceptance")
    sdd_in_process(
        "capture",
        "simulate",
        "--scenes",
        12,
        "--kind",
        "focus",
        "--defects",
        "--seed",
        11,
        "--size",
        SIZE,
        "--out",
        folder / "raw",
    )
    sdd_in_process("ingest", folder / "raw", "--out", folder, "--pairing", "focus")
    sdd_in_process("align", folder / "ingested.jsonl", "--out", folder)
    sdd_in_process("filter", folder / "aligned.jsonl", "--out", folder)
    return folder


def truth_of(folder: Path, scene: str) -> dict[str, np.ndarray]:
    with np.load(folder / "raw" / scene / "truth.npz") as truth:
        return dict(truth)


def defect_of(truth: dict[str, np.ndarray]) -> str:
    return str(truth["defect"]) if "defect" in truth else ""


def test_the_homography_of_virtual_focus_pairs_is_found_to_a_fraction_of_a_pixel(dataset: Path) -> None:
    errors_px = []
    for record in read_manifest(dataset / "filtered.jsonl").records:
        truth = truth_of(dataset, record.scene)
        if not defect_of(truth):
            assert record.alignment is not None
            errors_px.append(corner_error_px(record.alignment.homography, truth["homography"], record.alignment.size))
    assert len(errors_px) == 12
    assert float(np.median(errors_px)) < 0.3
    assert max(errors_px) < 1.0


def test_every_planted_defect_is_rejected_for_its_own_reason_and_no_good_pair(dataset: Path) -> None:
    found = {}
    for record in read_manifest(dataset / "filtered.jsonl").records:
        defect = defect_of(truth_of(dataset, record.scene))
        assert record.verdict is not None
        if defect:
            found[defect] = record.verdict.reason
        else:
            assert record.verdict.keep, f"{record.id}: {record.verdict}"
    assert found == {defect.value: defect.reason for defect in Defect}
