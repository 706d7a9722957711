from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdd_toolkit.own_modules import find_foreign_module
from tests.support.paths import ROOT
from tests.support.small_build import SMALL

SCRIPT = "import sys; from sdd_toolkit.__main__ import main; sys.argv[0] = 'sdd'; sys.exit(main())"
STARTS = {"script": ["-P", "-c", SCRIPT], "module": ["-m", "sdd_toolkit"], "cli": [str(ROOT / "cli.py")]}


def start(how: str, folder: Path, *words: object, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(ROOT))))}
    command = [sys.executable, *STARTS[how], *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def plant(folder: Path, name: str) -> Path:
    file = folder / (f"{name}.py" if name == "cli" else f"{name}/__init__.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('a module of another project was run')\n")
    return file


def test_the_modules_beside_the_package_are_its_own() -> None:
    assert find_foreign_module() is None


@pytest.mark.parametrize(
    ("how", "name"),
    [
        *(("script", name) for name in ("cli", "alignment", "capture", "jdrl")),
        *(("module", name) for name in ("cli", "jdrl")),
    ],
)
def test_a_module_of_another_project_is_named_in_two_lines_and_not_run(tmp_path: Path, how: str, name: str) -> None:
    file = plant(tmp_path, name)
    done = start(how, tmp_path, "--help", path="." if how == "script" else "")
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {file} takes the place of the toolkit's own {name!r}")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("how", STARTS)
def test_the_program_starts_in_a_folder_of_another_project_that_is_not_on_the_path(tmp_path: Path, how: str) -> None:
    if how != "module":
        plant(tmp_path, "cli")
    # Without a file in it, a folder is no package that comes first.
    (tmp_path / "capture").mkdir()
    done = start(how, tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ingest" in done.stdout


def test_workers_find_the_modules_of_the_main_process(tmp_path: Path) -> None:
    for name in ("cli", "alignment", "capture", "sdd_toolkit", "jdrl"):
        plant(tmp_path, name)
    (tmp_path / "sdd.toml").write_text(SMALL.format(pairs_per_shard=1, min_level=0.0))
    words = ("capture", "simulate", "--scenes", 2, "--out", "raw", "--config", "sdd.toml", "--executor", "local:2")
    done = start("script", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout
