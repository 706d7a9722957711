"""The shape shared by stages: resuming, the journal, a dying worker, a file that changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sdd_toolkit.config import Section
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.pipeline import manifest, stage_runner
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Quality, Reason, Verdict
from sdd_toolkit.storage.files import sha256_of


class Options(Section):
    level: float = 1.0


def measured(job: stage_runner.Job[Options]) -> PairRecord:
    with (job.folder / "calls.txt").open("a") as calls:
        calls.write(job.record.id + "\n")
    if job.record.id == "c":
        return stage_runner.reject(job.record, Reason.CLIPPED, "0.9 > 0.1")
    return replace(job.record, quality=Quality(*([job.config.level] * 10)), verdict=Verdict(keep=True))


def stops_at_b(job: stage_runner.Job[Options]) -> PairRecord:
    if job.record.id == "b":
        raise KeyboardInterrupt
    return measured(job)


def dies_at_b(job: stage_runner.Job[Options]) -> PairRecord:
    if job.record.id == "b":
        os._exit(9)
    return measured(job)


def stage(
    work: Callable[[stage_runner.Job[Options]], PairRecord],
    config: Options = Options(),  # noqa: B008 frozen
) -> stage_runner.PairStage[Options]:
    return stage_runner.PairStage("measure", config, work)


class LostSideFile(stage_runner.PairStage[Options]):
    def is_intact(self, record: PairRecord) -> bool:
        return record.id != "b"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    def ref(name: str) -> FileRef:
        (tmp_path / name).write_text(name)
        return FileRef(path=name, bytes=len(name), sha256=sha256_of(tmp_path / name))

    records = tuple(
        PairRecord(one, "s", PairKind.FOCUS, ref(f"{one}1"), ref(f"{one}2"), FrameMeta(), FrameMeta()) for one in "abc"
    )
    path = tmp_path / "ingested.jsonl"
    manifest.write_manifest(path, manifest.Manifest(root=tmp_path, records=records))
    return path


def calls(folder: Path) -> list[str]:
    return (folder / "calls.txt").read_text().split()


def test_every_pair_is_worked_on_and_counted(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    report = stage_runner.work_through(stage(measured), source, out)
    assert (report.total, report.done, report.skipped) == (3, 3, 0)
    assert report.rejected == {"clipped": 1}
    assert [record.history[-1].stage for record in manifest.read_manifest(out).records] == ["measure"] * 3
    assert not out.with_name("measured.jsonl.journal").exists()


def test_a_second_run_does_nothing_and_writes_the_same_bytes(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, out)
    first = out.read_bytes()
    report = stage_runner.work_through(stage(measured), source, out)
    assert (report.done, report.skipped, report.rejected) == (0, 3, {"clipped": 1})
    assert out.read_bytes() == first
    assert calls(source.parent) == ["a", "b", "c"]


def test_another_configuration_does_the_work_again(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, out)
    report = stage_runner.work_through(stage(measured, Options(level=2.0)), source, out)
    assert report.done == 3
    assert manifest.read_manifest(out).records[0].quality == Quality(*([2.0] * 10))


def test_a_run_that_was_stopped_goes_on_where_it_was_and_ends_with_the_same_bytes(source: Path) -> None:
    whole, out = source.with_name("whole.jsonl"), source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, whole)
    (source.parent / "calls.txt").unlink()
    with pytest.raises(KeyboardInterrupt):
        stage_runner.work_through(stage(stops_at_b), source, out)
    assert not out.exists()
    report = stage_runner.work_through(stage(measured), source, out)
    assert (report.done, report.skipped) == (2, 1)
    assert calls(source.parent) == ["a", "b", "c"]
    assert out.read_bytes() == whole.read_bytes()


def test_a_line_torn_by_a_kill_is_done_again(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    with pytest.raises(KeyboardInterrupt):
        stage_runner.work_through(stage(stops_at_b), source, out)
    journal = source.with_name("measured.jsonl.journal")
    journal.write_bytes(journal.read_bytes()[:-20])
    assert stage_runner.work_through(stage(measured), source, out).skipped == 0


def test_a_pair_whose_side_file_vanished_is_done_again(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, out)
    report = stage_runner.work_through(LostSideFile("measure", Options(), measured), source, out)
    assert (report.done, report.skipped) == (1, 2)


def test_overwrite_forgets_what_was_done(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, out)
    assert stage_runner.work_through(stage(measured), source, out, overwrite=True).done == 3


def test_a_worker_that_dies_costs_its_own_pair_and_is_tried_again(source: Path) -> None:
    out = source.with_name("measured.jsonl")
    report = stage_runner.work_through(stage(dies_at_b), source, out, executor="local:1")
    assert report.rejected == {"clipped": 1, "worker_died": 1}
    again = stage_runner.work_through(stage(measured), source, out)
    assert (again.done, again.skipped, again.rejected) == (1, 2, {"clipped": 1})


def test_the_input_is_never_its_own_output(source: Path) -> None:
    with pytest.raises(InputError, match="both input and output"):
        stage_runner.work_through(stage(measured), source, source)


def test_an_unknown_executor_is_refused_before_anything_is_read(source: Path) -> None:
    with pytest.raises(ConfigError, match="gpu"):
        stage_runner.work_through(stage(measured), source.with_name("none"), source, executor="gpu")


def test_a_changed_or_missing_file_is_named(source: Path) -> None:
    record = manifest.read_manifest(source).records[0]
    job = stage_runner.Job(record=record, root=source.parent, folder=source.parent, config=Options())
    assert stage_runner.describe_change(job) == ""
    (source.parent / "a2").write_text("A2")
    assert stage_runner.describe_change(job) == "sharp file a2 has another SHA-256 than when it was ingested"
    (source.parent / "a1").unlink()
    assert stage_runner.describe_change(job) == "blur file a1 is missing"


def gone_once(job: stage_runner.Job[Options]) -> PairRecord:
    marker = job.folder / "back"
    if job.record.id == "b" and not marker.exists():
        marker.write_text("")
        return stage_runner.reject(job.record, Reason.CHANGED, "blur file b1 is missing")
    return measured(job)


def test_a_pair_whose_file_was_gone_is_tried_again_once_it_may_be_back(source: Path) -> None:
    whole, out = source.with_name("whole.jsonl"), source.with_name("measured.jsonl")
    stage_runner.work_through(stage(measured), source, whole)
    report = stage_runner.work_through(stage(gone_once), source, out)
    assert report.rejected == {"changed": 1, "clipped": 1}
    report = stage_runner.work_through(stage(gone_once), source, out)
    assert (report.done, report.skipped, report.rejected) == (1, 2, {"clipped": 1})
    assert out.read_bytes() == whole.read_bytes()


def test_a_manifest_without_pairs_is_an_error_that_writes_nothing(tmp_path: Path) -> None:
    manifest.write_manifest(tmp_path / "empty.jsonl", manifest.Manifest(tmp_path, ()))
    with pytest.raises(InputError, match=r"empty\.jsonl holds no pair"):
        stage_runner.work_through(stage(measured), tmp_path / "empty.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]
