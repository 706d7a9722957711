"""Untrusted files: no code in them is run, no path leaves its root, no name controls the terminal."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sdd_toolkit.cli.progress_bar import terminal_progress
from sdd_toolkit.cli.terminal_text import escape_unprintable
from sdd_toolkit.errors import ManifestError, SddError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import FileRef, Reason, Verdict
from sdd_toolkit.report.stage import ReportConfig
from sdd_toolkit.report.stage import write_report as report
from sdd_toolkit.shards import ShardReader
from sdd_toolkit.shards.index import text_with_sha256
from sdd_toolkit.storage.files import check_relative, resolve_inside
from tests.support.command_line import sdd_in_process
from tests.support.paths import ROOT
from tests.support.small_dataset import alignment, filtered_manifest, pair

PACKAGES = ("sdd_toolkit", "capture", "alignment", "jdrl")
SOURCES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
RUNNING_CODE = {"eval", "exec", "os.system", "os.popen", "yaml.load", "pickle.load", "pickle.loads"}
DESERIALISING_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
ESCAPES = ("", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "x\0y", "/", "//x", "link/x", "link")
HARMLESS = ("x", "a/b", "C:\\x", "..\\x", "...", "a b", "ä/ö", "~root", "$HOME", "-rf", "x" * 5000, "a/" * 3000 + "x")
PAYLOADS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=document.title='owned'>",
    "' autofocus onfocus=document.title='owned' x='",
    "{{ 7 * 7 }}</title><script>document.title='owned'</script>",
)
ORDERS = (
    "\x1b[31mred",
    "\x1b]0;owned\x07",
    "a\rb",
    "a\nhint: rm",
    "\x9b31m",
    "\u202egnp",
    "[/red]",
    "[link=x]",
    "\u2028",
)


def is_dangerous(node: ast.AST) -> bool:
    """Whether a piece of code may run what a file holds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
        return bool(names & DESERIALISING_CODE)
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    return (
        name in RUNNING_CODE
        or options.get("allow_pickle", "False") != "False"
        or options.get("shell", "False") != "False"
        or (name == "torch.load" and options.get("weights_only") != "True")
        or (name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False")
    )


def dangers_in(text: str) -> list[str]:
    nodes = (node for node in ast.walk(ast.parse(text)) if is_dangerous(node))
    return [f"{node.lineno}: {ast.unparse(node)}" for node in nodes]  # type: ignore[attr-defined]


def test_no_source_file_can_run_code_from_a_data_file() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    assert [f"{path.relative_to(ROOT)}:{line}" for path, text in texts.items() for line in dangers_in(text)] == []


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from yaml import x", "eval('1')", "np.load('x')", "torch.load('x')", "run('x', shell=True)"],
)
def test_the_check_sees_code_that_runs_what_a_file_holds(text: str) -> None:
    assert dangers_in(text) == [f"1: {text}"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_path_that_leaves_its_root_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(ManifestError):
        resolve_inside(tmp_path / "root", name)


@pytest.mark.parametrize("name", HARMLESS, ids=lambda name: name[:12])
def test_a_path_that_stays_below_its_root_stays_there_however_it_is_spelt(tmp_path: Path, name: str) -> None:
    """On Windows a drive or a backslash that leads out is refused by where it leads to."""
    check_relative(name, "here")
    assert os.path.realpath(resolve_inside(tmp_path, name)).startswith(str(tmp_path) + os.sep)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    path = filtered_manifest(folder, scenes=2, pairs=1)
    assert sdd_in_process("pack", path, "--out", folder / "shards").returncode == 0
    (tmp_path / "canary").write_text("alive")
    return folder


@pytest.mark.parametrize("where", ["/canary", "../canary", "raw/../../canary", "link/canary"])
def test_no_manifest_leads_a_stage_out_of_its_root(packed: Path, where: str) -> None:
    (packed / "raw" / "link").symlink_to(packed.parent)
    pairs = manifest.read_manifest(packed / "filtered.jsonl")
    flow = alignment(flow_file=where if not where.startswith("link") else "raw/link/canary")
    for record in (
        replace(pairs.records[0], blur=FileRef(where, 5, "0" * 64)),
        replace(pairs.records[0], sharp=FileRef(where, 5, "0" * 64)),
        replace(pairs.records[0], alignment=flow),
    ):
        path = packed / "hostile.jsonl"
        manifest.write_manifest(path, manifest.Manifest(pairs.root, (record,)))
        done = sdd_in_process("pack", path, "--out", packed / "other", check=False)
        assert (done.returncode, "leaves its root" in done.stderr) == (2, True), done.stderr
    assert (packed.parent / "canary").read_text() == "alive"


@pytest.mark.parametrize("where", ["/canary.h5", "../canary.h5", "x/../../canary.h5", "link.h5"])
def test_no_index_leads_a_reader_out_of_its_folder(packed: Path, where: str) -> None:
    shards = packed / "shards"
    (packed / "canary.h5").write_bytes(next(shards.glob("*.h5")).read_bytes())
    (shards / "link.h5").symlink_to(packed / "canary.h5")
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0]["name"] = where
    index["shards"][0]["bytes"] = (packed / "canary.h5").stat().st_size
    index.pop("sha256")
    (shards / "index.json").write_text(text_with_sha256(index))
    with ShardReader(shards) as reader, pytest.raises(SddError):
        reader.read(reader.pair_ids[0])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium to open the report in")
def test_no_name_in_a_report_runs_in_a_browser(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    records = []
    for number, payload in enumerate(PAYLOADS):
        record = pair(tmp_path / "raw", f"pair-{number}", payload, seed=number)
        meta = replace(record.blur_meta, make=payload, model=payload, lens=payload, serial=payload)
        verdict = Verdict(keep=False, reason=Reason.CLIPPED, detail=payload)
        records.append(replace(record, blur_meta=meta, sharp_meta=meta, verdict=verdict))
    manifest.write_manifest(tmp_path / "filtered.jsonl", manifest.Manifest(tmp_path / "raw", tuple(records)))
    lines = "".join(f'"{payload.replace(chr(34), chr(34) * 2)}",unreadable,x\n' for payload in PAYLOADS)
    (tmp_path / "rejected_files.csv").write_text("path,reason,detail\n" + lines)
    report(tmp_path, tmp_path / "out", ReportConfig(title="Mine", picture_width_px=96))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    page = (tmp_path / "out" / "report.html").as_uri()
    done = subprocess.run([*command, "--dump-dom", page], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        pytest.skip(f"Chromium does not start here: {done.stderr[-200:]}")
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    assert title == "Mine · data set report"
    assert "&lt;script&gt;document.title" in done.stdout


def test_no_name_of_a_file_is_obeyed_by_a_terminal(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    names = [order.replace("/", "") for order in ORDERS]
    for name in names:
        assert escape_unprintable(name).isprintable()
        (raw / f"{name}.dng").write_bytes(b"no RAW file")
    for words in (("ingest", raw, "--out", tmp_path / "set"), ("ingest", raw, "--out", tmp_path / "set", "--dry-run")):
        done = sdd_in_process(*words, check=False)
        assert "Traceback" not in done.stderr
        assert all(letter.isprintable() or letter == "\n" for letter in done.stdout + done.stderr)
    done = sdd_in_process("pack", tmp_path / f"{''.join(names)}.jsonl", "--out", tmp_path / "shards", check=False)
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)


def test_a_name_that_is_markup_does_not_stop_the_bar_that_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_progress("align", 1) as advance:
        advance(note="[/red][link=x]\x1b[31m")
    assert "\x1b" not in capsys.readouterr().err
