from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from sdd_toolkit.config import Section
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.pipeline.manifest import (
    Manifest,
    has_step,
    read_finished,
    read_manifest,
    reject_counts,
    step_of,
    write_manifest,
)
from sdd_toolkit.records import Exposure, FileRef, FrameMeta, PairKind, PairRecord, Reason, Verdict


class Config(Section):
    threshold: float = 1.0


def record(name: str = "a") -> PairRecord:
    return PairRecord(
        id=name,
        scene=name,
        kind=PairKind.FOCUS,
        blur=FileRef(f"{name}/blur.dng", 1, "00"),
        sharp=FileRef(f"{name}/sharp ü.dng", 2, "01"),
        blur_meta=FrameMeta(make="Maker", exposure=Exposure(iso=100.0)),
        sharp_meta=FrameMeta(size=(20, 30)),
    )


def test_what_is_written_is_read_back_equal_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "out" / "m.jsonl"
    rejected = replace(record("a"), verdict=Verdict(False, Reason.CLIPPED, "50 %"))
    write_manifest(path, Manifest(root=tmp_path, records=(record("b"), rejected)))
    assert read_manifest(path) == Manifest(root=tmp_path.resolve(), records=(rejected, record("b")))


def test_a_lens_focused_at_infinity_is_written_in_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    far = replace(record(), sharp_meta=FrameMeta(exposure=Exposure(focus_m=math.inf)))
    write_manifest(path, Manifest(root=tmp_path, records=(far,)))
    written = json.loads(path.read_text().splitlines()[1], parse_constant=pytest.fail)
    assert written["sharp_meta"]["exposure"]["focus_m"] == "Infinity"
    assert read_manifest(path).records == (far,)


def test_any_other_infinity_is_an_error(tmp_path: Path) -> None:
    wrong = replace(record(), sharp_meta=FrameMeta(exposure=Exposure(iso=math.inf)))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path / "m.jsonl", Manifest(root=tmp_path, records=(wrong,)))


def test_line_separators_of_unicode_in_a_name_end_no_line(tmp_path: Path) -> None:
    odd = replace(record(), blur=FileRef("a\u2028b\x85c/blur.dng", 1, "00"))
    write_manifest(tmp_path / "m.jsonl", Manifest(root=tmp_path, records=(odd,)))
    assert read_manifest(tmp_path / "m.jsonl").records == (odd,)


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/x", "a\0", ".hidden", "x" * 400, "a\\b"])
def test_an_id_that_cannot_name_a_file_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path / "m.jsonl", Manifest(root=tmp_path, records=(record(name),)))
    with pytest.raises(ManifestError, match="line 2"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("path", ["../x.dng", "/etc/passwd", "", "a/../../b", "a\0b"])
def test_a_path_that_could_leave_the_root_is_refused_before_any_work(tmp_path: Path, path: str) -> None:
    bad = replace(record(), sharp=FileRef(path, 1, "00"))
    write_manifest(tmp_path / "m.jsonl", Manifest(root=tmp_path, records=(bad,)))
    with pytest.raises(ManifestError, match="leaves its root"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("header", ["[" * 100_000, '{"format":"sdd-manifest","version":1,"root":"a\\u0000b"}'])
def test_a_hostile_header_is_no_manifest(tmp_path: Path, header: str) -> None:
    (tmp_path / "m.jsonl").write_text(header + "\n")
    with pytest.raises(ManifestError, match="no manifest header"):
        read_manifest(tmp_path / "m.jsonl")


def test_equal_manifests_are_equal_bytes_wherever_the_folder_lies(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write_manifest(tmp_path / place / "m.jsonl", Manifest(root=tmp_path / place / "raw", records=(record(),)))
    assert (tmp_path / "one/m.jsonl").read_bytes() == (tmp_path / "two/m.jsonl").read_bytes()


def test_a_ref_is_found_below_the_root_and_never_outside(tmp_path: Path) -> None:
    manifest = Manifest(root=tmp_path, records=())
    assert manifest.locate(FileRef("a/b.dng", 1, "")) == tmp_path / "a/b.dng"
    with pytest.raises(ManifestError):
        manifest.locate(FileRef("../b.dng", 1, ""))


@pytest.mark.parametrize(
    ("line", "message"),
    [("{}", "line 2: id"), ("not json", "line 2"), ('{"id": 3}', "line 2"), ("[1]", "line 2")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, Manifest(root=tmp_path, records=()))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"format": "sdd-manifest", "root": 3}'])
def test_a_file_without_the_header_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(ManifestError, match="no manifest header"):
        read_manifest(tmp_path / "m.jsonl")


def test_another_version_is_refused_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"format": "sdd-manifest", "version": 9, "root": "."}))
    with pytest.raises(ManifestError, match="version 9"):
        read_manifest(tmp_path / "m.jsonl")


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", Manifest(root=tmp_path, records=(record("a"), record("a"))))
    with pytest.raises(ManifestError, match="'a' appears twice"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_step_is_unchanged_until_files_configuration_or_history_change() -> None:
    first = step_of("align", Config(), record())
    done = replace(record(), history=(first,))
    assert has_step(done, step_of("align", Config(), done))
    assert not has_step(done, step_of("align", Config(threshold=2.0), done))
    other = replace(record(), blur=FileRef("a/blur.dng", 1, "ff"))
    assert not has_step(done, step_of("align", Config(), other))
    assert not has_step(None, first)


def test_a_manifest_cut_short_resumes_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, Manifest(root=tmp_path, records=(record("a"), record("b"))))
    assert set(read_finished(path)) == {"a", "b"}
    path.write_bytes(path.read_bytes()[:-40])
    assert read_finished(path) == {}


def test_rejections_are_counted_by_reason_most_frequent_first() -> None:
    reasons = [Reason.CLIPPED, Reason.MOVING_OBJECT, Reason.MOVING_OBJECT]
    records = [replace(record(), verdict=Verdict(False, reason)) for reason in reasons]
    assert list(reject_counts([*records, record()]).items()) == [("moving_object", 2), ("clipped", 1)]
