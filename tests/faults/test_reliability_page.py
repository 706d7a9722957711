"""The counts in docs/reliability.md are those of the tests."""

from __future__ import annotations

import re

from tests.faults import test_damaged_shards, test_disk_full, test_kills
from tests.fuzz import attacks, cases, test_invented
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_counts_of_the_page_are_those_of_the_tests() -> None:
    assert f"`tests/faults/test_kills.py`: {test_kills.RANDOM_KILLS} |" in PAGE
    assert f"`tests/faults/test_disk_full.py`: every kind, {len(test_disk_full.TMPFS_KIB)} |" in PAGE
    damaged = f"{test_damaged_shards.FLIPPED_BYTES} bytes, {test_damaged_shards.CUTS} cuts"
    assert f"`tests/faults/test_damaged_shards.py`: {damaged} |" in PAGE
    invented = test_invented.EXAMPLES * (len(test_invented.READERS) + 2)
    assert f"`tests/fuzz/`: {sum(attacks.CASES.values())} damaged, {invented} invented" in PAGE
    assert f"hang ({cases.CASE_LIMIT_S} s a case) or {cases.MEMORY_LIMIT_BYTES >> 30} GB" in PAGE


def test_every_test_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
