"""Damaged and hostile files: an `SddError` or a result, never another exception, a crash, a hang or 2 GB of memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.faults import builds
from tests.fuzz import attacks
from tests.fuzz.cases import MEMORY_LIMIT_BYTES, Outcome

ROUNDS = int(os.environ.get("SDD_FUZZ_ROUNDS", "1"))
FIRST = int(os.environ.get("SDD_FUZZ_FIRST", "0"))


@pytest.mark.parametrize("name", list(attacks.CASES))
def test_a_reader_meets_damage_with_an_error_of_ours(intact: tuple[Path, bytes], tmp_path: Path, name: str) -> None:
    cases = attacks.CASES[name] * ROUNDS
    code = builds.in_child(attacks.run, *intact, name, FIRST, cases, tmp_path, timeout_s=60 + cases / 10)
    at = (tmp_path / "at").read_text().strip() if (tmp_path / "at").exists() else "none"
    assert code == 0, f"case {at} of {name} ended the process: {code}; {(tmp_path / 'crash').read_text()[:2000]}"
    outcome = Outcome(*json.loads((tmp_path / "outcome.json").read_text()))
    assert outcome.escaped == [], "\n".join(f"{number}: {what}" for number, what in outcome.escaped[:12])
    assert outcome.cases == cases
    assert outcome.refused >= cases * attacks.LEAST_REFUSED.get(name, 0.2)
    assert outcome.peak_bytes < MEMORY_LIMIT_BYTES


def test_the_cases_are_ten_thousand() -> None:
    assert sum(attacks.CASES.values()) >= 10_000
