from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignment.config import AlignConfig
from alignment.fusion import stage as fuse_stage
from alignment.fusion.stage import FuseConfig
from alignment.registration import stage
from sdd_toolkit.errors import InputError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.pipeline.manifest import Manifest
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Report
from sdd_toolkit.storage.files import sha256_of
from tests.support.command_line import sdd_in_process
from tests.support.planted_stacks import SIZE, write_stack


def ingested(folder: Path, paths: list[Path]) -> Path:
    """A manifest of one scene: the first frame is its sharp one; `folder` is the data set's."""
    refs = [FileRef(path.name, path.stat().st_size, sha256_of(path)) for path in paths]
    meta = FrameMeta(orientation=1)
    first = PairRecord("lake", "lake", PairKind.FOCUS, refs[1], refs[0], meta, meta)
    more = [replace(first, id=f"lake-{number}", blur=ref) for number, ref in enumerate(refs[2:], 2)]
    path = folder / "ingested.jsonl"
    manifest.write_manifest(path, Manifest(paths[0].parent, (first, *more)))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    ingested(tmp_path / "set", write_stack(tmp_path / "photos")[1])
    return tmp_path / "set"


def run(dataset: Path, config: FuseConfig | None = None, **how: object) -> Report:
    return fuse_stage.fuse_stacks(dataset / "ingested.jsonl", dataset, config or FuseConfig(), AlignConfig(), **how)  # type: ignore[arg-type]


def test_every_frame_of_a_stack_becomes_a_pair_with_the_fused_picture(dataset: Path) -> None:
    report = run(dataset)
    pairs = manifest.read_manifest(dataset / "fused.jsonl")
    assert (report.total, report.done, report.rejected) == (3, 3, {})
    assert [record.id for record in pairs.records] == ["lake", "lake-2", "lake-reference"]
    assert {pairs.locate(record.sharp) for record in pairs.records} == {dataset.resolve() / "fused/lake.png"}
    assert sorted(pairs.locate(record.blur).name for record in pairs.records) == ["step0.png", "step1.png", "step2.png"]
    assert all(record.history[-1].stage == "fuse" for record in pairs.records)


def test_the_fused_pairs_align(dataset: Path) -> None:
    run(dataset)
    stage.align_pairs(dataset / "fused.jsonl", dataset, AlignConfig())
    aligned = manifest.read_manifest(dataset / "aligned.jsonl").records
    assert [record.verdict for record in aligned] == [None, None, None]
    assert [record.alignment.zoom for record in aligned if record.alignment] == pytest.approx(
        [1 / 1.012, 1 / 0.985, 1.0], abs=4e-4
    )


def test_a_second_run_fuses_nothing_and_writes_the_same_bytes(dataset: Path) -> None:
    run(dataset)
    before = {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}
    report = run(dataset)
    assert (report.done, report.skipped) == (0, 3)
    assert {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()} == before


def test_a_worker_process_writes_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "other")
    run(dataset)
    run(tmp_path / "other", executor="local:1")
    for name in ("lake.png", "lake_origin.png", "lake_check.jpg", "lake.json"):
        assert (dataset / "fused" / name).read_bytes() == (tmp_path / "other/fused" / name).read_bytes()


@pytest.mark.parametrize("cause", ["lost", "other", "limits", "overwrite"])
def test_a_fusion_that_is_not_true_any_more_is_made_again(cause: str, dataset: Path) -> None:
    run(dataset)
    align = AlignConfig(max_zoom_percent=8) if cause == "limits" else AlignConfig()
    if cause == "lost":
        (dataset / "fused/lake.png").unlink()
    elif cause == "other":
        ingested(dataset, write_stack(dataset.parent / "photos", seed=3)[1])
    source = dataset / "ingested.jsonl"
    report = fuse_stage.fuse_stacks(source, dataset, FuseConfig(), align, overwrite=cause == "overwrite")
    assert report.done == 3
    assert (dataset / "fused/lake.png").is_file()


def test_a_pair_that_is_no_stack_stays_as_it_was(dataset: Path) -> None:
    report = run(dataset, FuseConfig(min_frames=4))
    before, after = (manifest.read_manifest(dataset / name) for name in ("ingested.jsonl", "fused.jsonl"))
    assert report.total == 0
    assert [after.locate(record.sharp) for record in after.records] == [
        before.locate(record.sharp) for record in before.records
    ]
    assert [record.history for record in after.records] == [record.history for record in before.records]


def test_a_frame_that_does_not_fit_is_listed_and_stays_a_pair(dataset: Path, tmp_path: Path) -> None:
    flat = tmp_path / "photos/step9.png"
    cv2.imwrite(str(flat), np.full((*SIZE, 3), 90, np.uint8))
    ingested(dataset, [*(tmp_path / "photos" / f"step{number}.png" for number in range(3)), flat])
    report = run(dataset)
    rows = list(csv.DictReader((dataset / "fused/left_out.csv").open()))
    assert report.rejected == {"no_texture": 1}
    assert [(row["stack"], Path(row["path"]).name, row["reason"]) for row in rows] == [
        ("lake", "step9.png", "no_texture")
    ]
    assert len(manifest.read_manifest(dataset / "fused.jsonl").records) == 4


def test_a_stack_whose_reference_changed_keeps_its_pairs_and_is_listed(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "photos/step0.png").write_bytes((tmp_path / "photos/step1.png").read_bytes())
    report = run(dataset)
    assert report.rejected == {"changed": 3}
    assert [record.id for record in manifest.read_manifest(dataset / "fused.jsonl").records] == ["lake", "lake-2"]


def test_a_manifest_is_not_written_over_itself(dataset: Path) -> None:
    run(dataset)
    with pytest.raises(InputError, match="both input and output"):
        fuse_stage.fuse_stacks(dataset / "fused.jsonl", dataset, FuseConfig(), AlignConfig())


def test_the_command_fuses_frames_without_a_manifest(tmp_path: Path) -> None:
    paths = write_stack(tmp_path)[1]
    done = sdd_in_process("fuse", *paths, "--out", tmp_path / "all", "--reference", paths[2])
    assert "fuse: 3 done" in done.stdout
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        "fused.png", "fused_origin.png", "fused_check.jpg", "fused.json",
    }  # fmt: skip
    again = sdd_in_process("fuse", *paths, "--out", tmp_path / "all", check=False)
    assert again.returncode == 2
    assert "exist already" in again.stderr


def test_the_command_refuses_a_reference_that_is_not_among_the_frames(tmp_path: Path) -> None:
    paths = write_stack(tmp_path)[1]
    done = sdd_in_process("fuse", *paths[:2], "--out", tmp_path / "all", "--reference", paths[2], check=False)
    assert done.returncode == 2
    assert "is not among the frames" in done.stderr


def test_the_sharpest_frame_is_taken_for_reference_whatever_else_is_handed_in(tmp_path: Path) -> None:
    paths = write_stack(tmp_path)[1]
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:500])
    busy = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "other.png"), busy)
    done = sdd_in_process("fuse", tmp_path / "cut.png", tmp_path / "other.png", *paths, "--out", tmp_path / "all")
    assert "fuse: 3 done, 0 unchanged, 2 rejected of 5" in done.stdout


def test_one_frame_is_no_manifest(tmp_path: Path) -> None:
    done = sdd_in_process("fuse", write_stack(tmp_path)[1][0], "--out", tmp_path / "all", check=False)
    assert done.returncode == 2
    assert "several frames" in done.stderr
