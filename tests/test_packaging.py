"""The wheel holds exactly the packages, and works in a bare virtual environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "cli.py",
        "sdd_toolkit",
        "capture",
        "alignment",
        "jdrl",
    }
    assert {"sdd_toolkit/py.typed", "jdrl/py.typed", "sdd_toolkit/report/templates/report.html.jinja"} <= set(names)
    assert {"jdrl/weights/default.safetensors", "jdrl/weights/default.md"} <= set(names)
    assert {f"jdrl/training/recipes/{name}.toml" for name in ("official", "sdd", "fine_tune")} <= set(names)


def test_the_installed_wheel_shows_its_help_with_click_alone(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare/bin/python"
    site = next((tmp_path / "bare/lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    click_home = Path(__import__("click").__file__).parent
    (site / "click").symlink_to(click_home)
    done = subprocess.run([python, "-m", "cli", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert "ingest" in done.stdout


def test_every_pinned_requirement_of_the_project_is_in_the_constraints() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["train"], *extras["cluster"], *extras["dev"]]
    assert [name for name in wanted if name.partition(">=")[0].lower() not in pinned] == []


def test_the_wheel_carries_a_bill_of_materials_of_the_pinned_versions(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith(".dist-info/sboms/sbom.cdx.json"))
    bill = json.loads(archive.read(name))
    assert bill["bomFormat"] == "CycloneDX"
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == (PROJECT["name"], PROJECT["version"])
    held = {canonical(part["name"]): part["version"].partition("+")[0] for part in bill["components"]}
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert held == {canonical(key): value for key, value in pinned.items() if canonical(key) in held}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]
    assert {canonical(entry.partition(">=")[0]) for entry in wanted} <= set(held)


def canonical(name: str) -> str:
    """The name of a distribution as PyPI compares it."""
    return name.lower().replace("_", "-")


def test_the_citation_names_both_papers() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert "Learning Single Image Defocus Deblurring with Misaligned Training Pairs" in text
    assert "Reblurring-Guided Single Image Defocus Deblurring" in text
