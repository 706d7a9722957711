"""Findings of coverage-guided fuzzing, each a file in `seeds/TARGET/`, and the search that finds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError
from tests.faults import builds
from tests.fuzz import attacks, campaign
from tests.fuzz.cases import Target

FOUND = sorted((path for path in campaign.SEEDS.glob("*/*") if path.is_file()), key=str)
NAMES = {campaign.folder_of(name): name for name in attacks.CASES}


@pytest.mark.parametrize("seed", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_a_result_or_an_error_of_ours(intact: tuple[Path, bytes], tmp_path: Path, seed: Path) -> None:
    arguments = (*intact, NAMES[seed.parent.name], seed.read_bytes(), tmp_path)
    assert builds.in_child(attacks.run_one, *arguments, timeout_s=60) == 0, (tmp_path / "crash").read_text()[:2000]
    _, _, escaped, _, _ = json.loads((tmp_path / "outcome.json").read_text())
    assert escaped == []


def test_every_target_of_the_campaign_is_one_of_the_random_cases() -> None:
    assert set(campaign.TARGETS) <= set(attacks.CASES)
    assert {path.parent.name for path in FOUND} <= set(NAMES)
    assert [path.name for path in FOUND].count("planted-nesting") == 3


def test_a_failure_is_kept_once_and_errors_of_ours_are_none(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: coverage-guided fuzzing needs it")
    from tests.fuzz.coverage_guided import Search

    def read(path: Path) -> None:
        content = path.read_bytes()
        if content.startswith(b"ours"):
            raise InputError("refused", hint="none")
        if content.startswith(b"bug"):
            raise KeyError(content)

    search = Search(Target("planted", "p.bin", (), read), tmp_path / "found", tmp_path)
    for content in (b"fine", b"ours", b"bug 1", b"bug 2"):
        search.try_input(content)
    assert [path.read_bytes() for path in (tmp_path / "found").iterdir()] == [b"bug 1"]


def test_the_search_learns_inputs_that_reach_new_branches(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: coverage-guided fuzzing needs it")
    builds.tiny_set(tmp_path)
    (tmp_path / "small.dng").write_bytes(b"II*\0")
    outcome = campaign.search("condition", 8, tmp_path, tmp_path / "corpus", tmp_path / "found")
    assert outcome.findings == ()
    assert outcome.inputs > 1000
    assert outcome.edges > 50
    assert len(list((tmp_path / "corpus/condition").iterdir())) > 10
