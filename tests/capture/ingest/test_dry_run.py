from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.ingest.dry_run import format_json, format_table, format_text
from capture.ingest.pairs import IngestResult
from sdd_toolkit.pipeline.manifest import Manifest
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Reason, RejectedFile


@pytest.fixture
def found() -> IngestResult:
    blur, sharp = (FileRef(f"{'long/' * 30}{name}.dng", 1, "0" * 64) for name in ("blur", "sharp"))
    record = PairRecord("lake", "lake", PairKind.AUTO, blur, sharp, FrameMeta(), FrameMeta())
    left = RejectedFile("new\nline[red].dng", Reason.NO_PARTNER, "alone")
    return IngestResult(
        Manifest(Path("/x"), (record,)), (left,), 3, 0, {"lake": "role words"}, ("A: +5 s, as configured",)
    )


def test_text_is_one_line_a_pair_or_file_with_whole_names(found: IngestResult) -> None:
    long = "long/" * 30
    assert format_text(found).splitlines() == [
        f"lake: {long}blur.dng -> {long}sharp.dng (role words)",
        "  new\\nline[red].dng: no_partner, alone",
        "clock of A: +5 s, as configured",
        "1 pairs; 1 of 3 files in none",
    ]


def test_a_table_folds_long_names_and_cuts_none(found: IngestResult) -> None:
    assert "long/" * 30 + "blur.dng" in format_table(found, 500)
    narrow = format_table(found, 80)
    assert "…" not in narrow
    assert narrow.count("/") == 60
    assert "line[red]" in narrow


def test_json_holds_pairs_rejections_and_clocks(found: IngestResult) -> None:
    told = json.loads(format_json(found))
    assert (told["pairs"][0]["why"], told["pairs"][0]["kind"]) == ("role words", "auto")
    assert told["rejected"] == [{"path": "new\nline[red].dng", "reason": "no_partner", "detail": "alone"}]
    assert told["clocks"] == ["A: +5 s, as configured"]
