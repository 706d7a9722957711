"""The examples in the docstrings of the packages: they run, and the most used names have one."""

from __future__ import annotations

import ast
import doctest
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT
from tests.test_architecture import SOURCES, module_name, tree_of

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_AN_EXAMPLE: tuple[str, ...] = (
    "capture.pairing.naming.safe_names",
    "capture.tether.exposure.parse_shutter_s",
    "capture.virtual.lens.signed_coc_radius_px",
    "capture.virtual.optics.Optics",
    "sdd_toolkit.shards.dataframes.pairs_table",
    "sdd_toolkit.shards.dataframes.iterate",
    "sdd_toolkit.shards.index.read_index",
    "sdd_toolkit.shards.patch_reader.PatchReader",
    "sdd_toolkit.shards.reader.ShardReader",
    "sdd_toolkit.shards.writer.write_shard",
    "jdrl.checkpoints.deblurrer.of_checkpoint",
    "jdrl.data.datasets.PatchDataset",
    "jdrl.data.datasets.PatchStream",
    "jdrl.flow.estimators.flow_estimator",
    "jdrl.flow.warping.warp",
    "jdrl.inference.deblur.deblur_files",
    "jdrl.inference.tiled.deblur",
    "jdrl.losses.joint.charbonnier",
    "jdrl.losses.joint.joint_loss",
    "jdrl.losses.joint.reblur_loss",
    "jdrl.losses.joint.warm_up_loss",
    "jdrl.metrics.fidelity.psnr",
    "jdrl.metrics.fidelity.ssim",
    "jdrl.reblurring.kernel_basis.planes",
    "jdrl.reblurring.reblur.reblur",
)
# Folders that the examples open: a packed set of one pair, scene/01 of 24x32 px, and its export as patches.
DATA_SETS = {"shards": "fast-srgb8", "patches": "patches-fast-srgb8"}


def documented_in(path: Path) -> Iterator[tuple[str, str]]:
    """The dotted names below a module and their docstrings."""
    stack: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef]] = [(module_name(path), tree_of(path))]
    while stack:
        name, node = stack.pop()
        yield name, ast.get_docstring(node) or ""
        stack += [
            (f"{name}.{child.name}", child) for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)
        ]


def failures_in(module: ModuleType) -> list[str]:
    """The report of every example of a module that does not give what it shows."""
    reports: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=reports.append, clear_globs=True)
    return reports


def test_every_example_gives_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in DATA_SETS.items():
        shutil.copytree(ROOT / "tests/golden_shards" / folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    modules = [module_name(path) for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]
    assert [report for name in modules for report in failures_in(importlib.import_module(name))] == []


def test_the_most_used_names_have_an_example() -> None:
    shown = {name for path in SOURCES for name, docstring in documented_in(path) if ">>> " in docstring}
    assert [name for name in WITH_AN_EXAMPLE if name not in shown] == []


def test_the_check_sees_an_example_that_is_wrong() -> None:
    (report,) = failures_in(ModuleType("planted", "Adds.\n\n>>> [0.51, 2]\n[0.5...,   2]\n>>> 1 + 1\n3\n"))
    assert "Expected:\n    3\nGot:\n    2\n" in report
