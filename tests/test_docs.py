"""Documentation that cannot drift: every command in it parses, every command and every key is in it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from cli import BENCH_COMMANDS, CAPTURE_COMMANDS, COMMANDS, cli
from sdd_toolkit.config import Section
from sdd_toolkit.records import (
    REASON_TEXT,
    Alignment,
    Exposure,
    FileRef,
    FrameMeta,
    PairRecord,
    Quality,
    Reason,
    RejectedFile,
    Step,
    Verdict,
)
from tests.support.paths import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", "examples/demo.sh")
DOCS = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
SECTIONS = {
    "simulate": "capture.virtual.config:SimulateConfig",
    "ingest": "capture.config:IngestConfig",
    "develop": "sdd_toolkit.raw.development:DevelopConfig",
    "fuse": "alignment.fusion.stage:FuseConfig",
    "align": "alignment.config:AlignConfig",
    "filter": "sdd_toolkit.quality.criteria:FilterConfig",
    "pack": "sdd_toolkit.packing.config:PackConfig",
    "card": "sdd_toolkit.cards.config:CardConfig",
    "report": "sdd_toolkit.report.stage:ReportConfig",
    "build": "sdd_toolkit.pipeline.dataset_folder:BuildConfig",
    "train": "jdrl.config:TrainConfig",
    "evaluate": "jdrl.config:EvaluateConfig",
}


def commands_in(path: Path) -> list[str]:
    """Lines of code that start with `sdd`, continuation lines joined, comments and pipes cut."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    # Odd parts of a page split at its fences are code.
    code = re.split(r"^```.*$", text, flags=re.MULTILINE)[1::2] if path.suffix == ".md" else [text]
    lines = [line.strip().removeprefix("$ ") for block in code for line in block.splitlines()]
    return [re.split(r"\s[|#>]", line)[0] for line in lines if re.match(r"sdd\s", line)]


def complaint_about(line: str) -> str:
    """The error of click about a command line, or nothing."""
    words = shlex.split(line)[1:]
    command: click.Command = cli
    try:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            _, subcommand, words = command.resolve_command(click.Context(command), words)
            assert subcommand is not None
            command = subcommand
        with contextlib.suppress(click.exceptions.Exit):  # --help and --version
            command.make_context("sdd", words)
    except click.ClickException as error:
        return error.format_message()
    return ""


def test_every_command_in_the_docs_parses() -> None:
    lines = [(path, line) for path in DOCS for line in commands_in(path)]
    assert len(lines) > 100
    assert [f"{path.name}: {line}: {complaint_about(line)}" for path, line in lines if complaint_about(line)] == []


def test_the_check_of_commands_sees_a_wrong_one() -> None:
    assert complaint_about("sdd pack a.jsonl --out b") == ""
    for line in ("sdd pakc a", "sdd capture ingest a", "sdd pack a.jsonl --out", "sdd pack a.jsonl --output b"):
        assert complaint_about(line)


def test_the_readme_walks_through_real_commands() -> None:
    assert len(commands_in(ROOT / "README.md")) >= len(COMMANDS)


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    groups = {"": COMMANDS, "capture ": CAPTURE_COMMANDS, "bench ": BENCH_COMMANDS}
    lines = [f"sdd {group}{spec.name}" for group, specs in groups.items() for spec in specs]
    assert [line for line in lines if line not in readme] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_configuration_is_documented_with_its_default(section: str) -> None:
    module, _, name = SECTIONS[section].partition(":")
    model: type[Section] = getattr(importlib.import_module(module), name)
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    table = page.partition(f"## [{section}]\n")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", table, re.MULTILINE))
    defaults = {
        key: default_text(field.get_default(call_default_factory=True)) for key, field in model.model_fields.items()
    }
    assert documented == defaults


def default_text(value: object) -> str:
    """The default as it would stand in TOML; `-` where there is none."""
    if value is None or repr(value) == "PydanticUndefined":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(default_text(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {default_text(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def test_every_folder_has_its_line_in_the_architecture() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = ("sdd_toolkit", "capture", "alignment", "jdrl")
    folders = {path.parent.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py")}
    assert {folder for folder in folders if f"`{folder}/`" not in page} == set()


def dead_links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")) if page.suffix == ".md" else []
    local = [target for target in targets if "://" not in target]
    return [f"{page.name}: {target}" for target in local if not (page.parent / target).exists()]


def test_every_link_between_pages_leads_somewhere(tmp_path: Path) -> None:
    assert [link for page in DOCS for link in dead_links(page)] == []
    (tmp_path / "page.md").write_text("[a](page.md) [b](https://x.org/y) [c](none.md#there)")
    assert dead_links(tmp_path / "page.md") == ["page.md: none.md"]


def test_every_field_of_a_record_and_every_reason_is_explained() -> None:
    page = (ROOT / "docs/manifest.md").read_text(encoding="utf-8")
    records = (PairRecord, FileRef, FrameMeta, Exposure, Alignment, Quality, Verdict, Step, RejectedFile)
    names = {field.name for record in records for field in dataclasses.fields(record)} | set(Reason)
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert set(REASON_TEXT) == set(Reason)
