from __future__ import annotations

from pathlib import Path

import pytest

from sdd_toolkit.bench import page
from sdd_toolkit.bench.plan import ABLATION_LEVEL, LEVELS, LOCAL
from sdd_toolkit.bench.scoring import ScoreRow, read_rows, write_rows
from sdd_toolkit.bench.tables import all_tables
from sdd_toolkit.errors import InputError
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "docs/benchmarks"


def rows() -> list[ScoreRow]:
    levels = {"input": [ABLATION_LEVEL, LOCAL], "oracle": [ABLATION_LEVEL, LOCAL]}
    psnr = {"input": 25.0, "oracle": 27.0, "naive": 24.0, "prealigned": 26.7, "jdrl": 26.85}
    return [
        ScoreRow(arm, level.name, 0, scene, mean + offset, 0.7, 0.1, 0.5)
        for arm, mean in psnr.items()
        for level in levels.get(arm, [LEVELS[2], ABLATION_LEVEL, LOCAL])
        for scene, offset in (("a", -1.0), ("b", 1.0))
    ]


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_tables_hold_what_the_scores_say() -> None:
    text = page.write_text(rows())
    assert "| JDRL on pairs as shot | 26.85 | 26.85 |" in text
    assert "| oracle: pixel loss on the truth | 27.00 | 27.00 |" in text
    assert "| naive: pixel loss on pairs as shot | -3.00 [-3.00, -3.00] | -3.00 [-3.00, -3.00] |" in text
    assert "| JDRL on pairs as shot | 95 % [95, 95] | 95 % [95, 95] |" in text
    assert "+0.15 [+0.15, +0.15]" in text
    titles = [table.title for table in all_tables(rows())]
    assert titles[-1] == "Local motion, parallax and a moving object"


def test_a_run_that_is_not_finished_has_tables_too() -> None:
    first = [row for row in rows() if row.arm in ("input", "oracle")]
    for part in ([], first, [row for row in rows() if row.level == LEVELS[2].name]):
        page.write_text(part)


def test_rows_survive_their_file(tmp_path: Path) -> None:
    written = [*rows(), ScoreRow("jdrl", "local", 1, "c", 20.5, 0.5, None, 0.25)]
    write_rows(tmp_path / "a.csv", written)
    assert read_rows([tmp_path / "a.csv"]) == written
    (tmp_path / "b.csv").write_text("arm,level\njdrl,local\n", encoding="utf-8")
    with pytest.raises(InputError, match="no table of scores"):
        read_rows([tmp_path / "b.csv"])


def test_the_tables_of_the_page_are_those_of_its_csv() -> None:
    rows = read_rows([BENCHMARKS / page.CSV])
    made = lines_of(page.write_text(rows))
    assert bool(made) == bool(rows)
    assert lines_of((BENCHMARKS / page.PAGE).read_text(encoding="utf-8")) == made
