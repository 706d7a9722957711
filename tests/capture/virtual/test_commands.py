from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capture.virtual.commands import simulate


def test_the_command_shoots_pairs_and_reports_as_json(tmp_path: Path) -> None:
    options = ["--scenes", "1", "--size", "128x96", "--out", str(tmp_path), "--workers", "1", "--json"]
    done = CliRunner().invoke(simulate, options, catch_exceptions=False)
    assert json.loads(done.stdout)["done"] == 1
    assert sorted(path.name for path in (tmp_path / "scene-0001").iterdir()) == ["blur.dng", "sharp.dng", "truth.npz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "128"], "WIDTHxHEIGHT"),
        (["--depth", "a.png"], "needs --image"),
        (["--workers", "2", "--executor", "serial"], "give one"),
        (["--kind", "zoom"], "zoom"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(simulate, ["--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 2
    assert message in done.stderr
