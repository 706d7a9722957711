from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.measurement_table import build_table
from sdd_toolkit.packing import stage as pack
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import REASON_TEXT, FileRef, Quality, Reason
from sdd_toolkit.report.commands import report as command
from sdd_toolkit.report.stage import ReportConfig, choose_pictured_pairs, to_csv, write_report
from tests.support.planted_pairs import META, alignment, build_folder, record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sdd_toolkit.records import PairRecord

SMALL = ReportConfig(picture_width_px=96)
NO_PICTURES = ReportConfig(max_pictures=0)
HOSTILE = '<script>alert("&\'")</script>'
VOID = {"meta", "img", "input", "br", "link", "hr"}


class Balance(HTMLParser):
    """Collects what a page refers to and checks that every element is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [str(values[name]) for name in ("src", "href", "action", "srcset") if name in values]
        self.ids += [str(values["id"])] if "id" in values else []
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An SVG element without content."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_page(folder: Path) -> tuple[str, Balance]:
    text = (folder / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return text, parser


def bare_folder(folder: Path, pairs: Iterable[PairRecord], stage: str = "filtered") -> Path:
    manifest.write_manifest(folder / f"{stage}.jsonl", manifest.Manifest(folder, tuple(pairs)))
    return folder


def cells(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "pairs.csv").read_text(encoding="utf-8"))))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    folder = build_folder(tmp_path, [record("a"), record("b", Reason.CLIPPED)])
    write_report(folder, tmp_path / "out", SMALL)
    text, parser = read_page(tmp_path / "out")
    assert parser.addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in parser.addresses)
    assert not re.search(r"@import|url\(|https?://", text)
    assert "default-src 'none'" in text


def test_the_only_script_is_the_one_the_policy_allows(tmp_path: Path) -> None:
    write_report(bare_folder(tmp_path, [record("a")]), tmp_path / "out", NO_PICTURES)
    text, parser = read_page(tmp_path / "out")
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert parser.scripts == 1
    assert f"script-src 'sha256-{digest}'" in text


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    hostile = replace(META, make=HOSTILE, model=HOSTILE, lens=HOSTILE)
    evil = FileRef(f"raw/{HOSTILE}.png", 1, "0" * 64)
    rejected = record(HOSTILE.replace("/", ""), Reason.CLIPPED, scene=HOSTILE, sharp_meta=hostile, sharp=evil)
    rejected = replace(rejected, verdict=replace(rejected.verdict, detail=HOSTILE))
    folder = bare_folder(tmp_path, [rejected])
    (folder / "rejected_files.csv").write_text(f'path,reason,detail\n"{HOSTILE}",{HOSTILE},{HOSTILE}\n', "utf-8")
    (folder / "config.json").write_text(json.dumps({HOSTILE: {HOSTILE: HOSTILE}}), "utf-8")
    write_report(folder, tmp_path / "out", replace_title(HOSTILE))
    text, parser = read_page(tmp_path / "out")
    assert parser.scripts == 1
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(") > 10


def replace_title(title: str) -> ReportConfig:
    return ReportConfig(title=title, picture_width_px=96)


def test_the_notes_of_a_pair_stand_on_its_card(tmp_path: Path) -> None:
    noted = replace(record("a", Reason.CLIPPED), notes=("orientation tags differ: 1 and 6", HOSTILE))
    write_report(bare_folder(tmp_path, [noted]), tmp_path / "out", SMALL)
    text, parser = read_page(tmp_path / "out")
    assert "orientation tags differ: 1 and 6" in text
    assert parser.scripts == 1


def test_every_reason_is_explained(tmp_path: Path) -> None:
    pairs = [record(f"pair-{reason}", reason) for reason in Reason]
    write_report(bare_folder(tmp_path, pairs), tmp_path / "out", NO_PICTURES)
    text, _ = read_page(tmp_path / "out")
    for reason in Reason:
        assert f"<b>{reason.replace('_', ' ')}</b>" in text
        assert REASON_TEXT[reason] in text


def test_the_csv_holds_every_pair_and_every_number_whatever_is_pictured(tmp_path: Path) -> None:
    pairs = [record(f"p{number}") for number in range(5)] + [record("x", Reason.MISALIGNED)]
    write_report(bare_folder(tmp_path, pairs), tmp_path / "out", NO_PICTURES)
    rows = cells(tmp_path / "out")
    assert [row["id"] for row in rows] == ["p0", "p1", "p2", "p3", "p4", "x"]
    assert (rows[0]["shift_x_px"], rows[0]["shift_y_px"], rows[0]["h02"], rows[0]["sharpness_gain"]) == (
        *("6", "-4", "6"),
        "3",
    )
    assert (rows[5]["verdict"], rows[5]["reason"], rows[5]["detail"]) == ("rejected", "misaligned", "0.1 > 0.05")
    text, _ = read_page(tmp_path / "out")
    assert text.count("<tr data-verdict=") == 6


def test_a_name_that_looks_like_a_formula_is_defused_in_the_csv() -> None:
    text = to_csv(build_table([record("=cmd()", alignment=alignment((-3.0, 0.0)))]))
    row = next(csv.DictReader(io.StringIO(text)))
    assert (row["id"], row["shift_x_px"]) == ("'=cmd()", "-3")


def test_the_same_data_set_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "set", [record(f"p{number}") for number in range(3)])
    for name, executor in (("one", "serial"), ("two", "local:2")):
        write_report(folder, tmp_path / name, SMALL, executor=executor)
    for name in ("report.html", "pairs.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_second_run_leaves_the_report_alone_until_something_changes(tmp_path: Path) -> None:
    folder, out = bare_folder(tmp_path, [record("a")]), tmp_path / "out"
    assert (write_report(folder, out, NO_PICTURES).done, write_report(folder, out, NO_PICTURES).skipped) == (1, 1)
    assert write_report(folder, out, NO_PICTURES, overwrite=True).done == 1
    (folder / "config.json").write_text('{"filter": {"min_gain": 2}}', "utf-8")
    assert write_report(folder, out, NO_PICTURES).done == 1
    assert "min_gain" in read_page(out)[0]
    assert write_report(folder, out, ReportConfig(max_pictures=0, title="Other")).done == 1


def test_no_more_pairs_are_pictured_than_the_limit_and_the_page_says_how_many(tmp_path: Path) -> None:
    folder = build_folder(tmp_path, [record(f"p{number}") for number in range(4)])
    write_report(folder, tmp_path / "out", ReportConfig(max_pictures=2, picture_width_px=96))
    text, _ = read_page(tmp_path / "out")
    assert text.count('<article class="pair') == text.count('type="range"') == 2
    assert "2 of 4 pairs are pictured" in text


def test_all_reasons_are_pictured_and_kept_pairs_are_evenly_spaced() -> None:
    bad = [record(f"z{reason}-{turn}", reason) for reason in list(Reason)[:6] for turn in range(30)]
    found = choose_pictured_pairs([record(f"k{number:03d}") for number in range(100)] + bad, 20)
    assert len(found) == len(set(found)) == 20
    assert {name[1:].rpartition("-")[0] for name in found if name[0] == "z"} == set(list(Reason)[:6])
    kept = [int(name[1:]) for name in found if name[0] == "k"]
    assert kept == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 9])
def test_the_choice_fills_exactly_the_places_there_are(limit: int) -> None:
    pairs = [record("a"), record("b"), record("c", Reason.CLIPPED), record("d", Reason.MISALIGNED)]
    assert len(choose_pictured_pairs(pairs, limit)) == min(limit, 4)
    assert len(choose_pictured_pairs(pairs[:2], limit)) == len(choose_pictured_pairs(pairs[2:], limit)) == min(limit, 2)
    assert choose_pictured_pairs([], limit) == ()


def test_an_ingested_data_set_shows_its_pairs_and_no_statistics(tmp_path: Path) -> None:
    pair = record("a", alignment=None, quality=None, verdict=None)
    write_report(build_folder(tmp_path, [pair], stage="ingested"), tmp_path / "out", SMALL)
    text, _ = read_page(tmp_path / "out")
    assert "not yet judged" in text
    assert "Alignment statistics" not in text
    assert text.count('type="range"') == 1


def test_an_aligned_data_set_shows_its_statistics_and_no_kept_pairs(tmp_path: Path) -> None:
    pairs = [record(name, quality=None, verdict=None) for name in ("a", "b")]
    write_report(bare_folder(tmp_path, pairs, stage="aligned"), tmp_path / "out", NO_PICTURES)
    text, _ = read_page(tmp_path / "out")
    assert "Displacement before and after" in text
    assert "Sharpness gain <span>" not in text
    assert "<dt>kept</dt>" not in text


def test_the_furthest_manifest_is_shown_and_one_given_by_name_is_taken(tmp_path: Path) -> None:
    bare_folder(tmp_path, [record("early", verdict=None)], stage="aligned")
    bare_folder(tmp_path, [record("late")])
    write_report(tmp_path, tmp_path / "one", NO_PICTURES)
    write_report(tmp_path / "aligned.jsonl", tmp_path / "two", NO_PICTURES)
    assert [cells(tmp_path / name)[0]["id"] for name in ("one", "two")] == ["late", "early"]


def test_an_empty_manifest_makes_a_page(tmp_path: Path) -> None:
    report = write_report(bare_folder(tmp_path, []), tmp_path / "out", SMALL)
    text, _ = read_page(tmp_path / "out")
    assert (report.total, report.done) == (0, 0)
    assert "0 of 0 pairs are kept" in text


def test_a_folder_without_a_manifest_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no manifest") as caught:
        write_report(tmp_path, tmp_path / "out", SMALL)
    assert "sdd ingest" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "filtered.jsonl").write_text("nonsense", "utf-8")
    with pytest.raises(ManifestError):
        write_report(tmp_path, tmp_path / "out", SMALL)


def test_rejected_files_are_counted_and_listed(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path, [record("a")])
    lines = "path,reason,detail\nraw/x.nef,unreadable,LibRaw: data\nraw/y.txt,unsupported,\nodd,unheard_of,?\n"
    (folder / "rejected_files.csv").write_text(lines, "utf-8")
    write_report(folder, tmp_path / "out", NO_PICTURES)
    text, _ = read_page(tmp_path / "out")
    assert "<code>raw/x.nef</code>" in text
    assert "LibRaw: data" in text
    assert REASON_TEXT[Reason.UNREADABLE] in text
    assert "<b>Files found</b><span>5</span>" in text


@pytest.mark.parametrize("name", ["config.json", "rejected_files.csv", "shards/index.json"])
def test_a_damaged_side_file_is_a_note_and_stops_nothing(tmp_path: Path, name: str) -> None:
    folder = bare_folder(tmp_path, [record("a")])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\xff\x00[" + b"x" * 200_000)
    write_report(folder, tmp_path / "out", NO_PICTURES)
    text, _ = read_page(tmp_path / "out")
    assert '<p class="note">' in text or name == "rejected_files.csv"


def test_a_packed_pair_is_shown_from_the_shards_even_when_its_sources_are_gone(tmp_path: Path) -> None:
    folder = build_folder(tmp_path, [record("a"), record("b")])
    packing = PackConfig(patch_size=64, min_size_px=64)
    pack.pack_dataset(folder / "filtered.jsonl", folder / "shards", packing)
    (folder / "raw" / "a_blur.png").unlink()
    write_report(folder, tmp_path / "out", SMALL)
    text, _ = read_page(tmp_path / "out")
    assert text.count("The packed pair, as training sees it") == 2
    assert "<b>Packed</b><span>2</span>" in text
    assert text.count("Overlay before alignment") == text.count("Overlay after alignment") == 2
    assert text.count("warped back to its position before alignment") == 2
    assert "No picture" not in text


def test_missing_sources_leave_a_page_that_says_so(tmp_path: Path) -> None:
    write_report(bare_folder(tmp_path, [record("a")]), tmp_path / "out", SMALL)
    text, _ = read_page(tmp_path / "out")
    assert "No picture." in text
    assert "a_blur.png" in text


def test_steps_and_thresholds_are_stated(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path, [record("a"), record("b")])
    (folder / "config.json").write_text('{"filter": {"max_px": 1.5, "deep": {"x": null}}}', "utf-8")
    write_report(folder, tmp_path / "out", NO_PICTURES)
    text, _ = read_page(tmp_path / "out")
    assert "<code>max_px</code></dt><dd>1.5</dd>" in text
    assert "<code>deep.x</code></dt><dd>none</dd>" in text
    assert f"<td>align</td><td>0.1.0</td><td><code>{'c' * 16}</code></td>" in text


def test_extreme_numbers_do_not_break_the_page(tmp_path: Path) -> None:
    huge = Quality(**{name: 1e300 for name in Quality.__slots__})
    far = replace(alignment(), before_px=0.0, residual_px=1e9, zoom=-3.0, coc_px=1e12)
    write_report(bare_folder(tmp_path, [record("a", quality=huge, alignment=far), record("b")]), tmp_path, SMALL)
    read_page(tmp_path)


def test_the_command_writes_both_files_and_prints_the_report_as_json(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path, [record("a"), record("b", Reason.CLIPPED)])
    words = [str(folder), "--out", str(tmp_path / "out"), "--executor", "serial", "--pictures", "0", "--json"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    printed = json.loads(done.stdout)
    assert (done.exit_code, printed["total"], printed["rejected"]) == (0, 2, {"clipped": 1})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pairs.csv", "report.html"]


def test_a_table_too_long_for_a_page_is_cut_and_says_so_and_the_csv_is_not(tmp_path: Path) -> None:
    pairs = [record(f"p{number}") for number in range(5)] + [record("x", Reason.MISALIGNED)]
    write_report(bare_folder(tmp_path, pairs), tmp_path / "out", ReportConfig(max_pictures=0, max_rows=3))
    text, _ = read_page(tmp_path / "out")
    assert text.count("<tr data-verdict=") == 3
    assert "3 of 6 pairs are listed" in text
    assert '<td class="wrap">x</td>' in text
    assert len(cells(tmp_path / "out")) == 6
