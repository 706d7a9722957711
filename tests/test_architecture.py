"""The star of rooms, enforced on every source file: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("capture", "alignment", "jdrl")
PACKAGES = ("sdd_toolkit", *ROOMS)
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
SOLE_IMPORTERS = {
    "rawpy": "sdd_toolkit/raw_files.py",
    "h5py": "sdd_toolkit/shards/",
    "lensfunpy": "sdd_toolkit/lens_correction.py",
    "gphoto2": "capture/tether/gphoto.py",
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def roots_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_itself_and_the_ground_floor(path: Path) -> None:
    home = path.relative_to(ROOT).parts[0]
    allowed = {home, "sdd_toolkit"}
    assert roots_of(path) & {*PACKAGES, "cli"} <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_foreign_library_with_hard_edges_has_one_importer(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    for library, importer in SOLE_IMPORTERS.items():
        assert library not in roots_of(path) or place.startswith(importer)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_stays_below_400_lines_and_opens_with_a_docstring(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    assert ast.get_docstring(ast.parse(text))


def test_torch_is_imported_by_the_jdrl_room_alone() -> None:
    outside = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "jdrl"]
    assert [path.name for path in outside if "torch" in roots_of(path)] == []


def test_the_check_sees_an_import_that_breaks_the_star(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def late():\n    from jdrl.train import run\n    return run\n")
    assert "jdrl" in roots_of(bad)


def module_graph() -> dict[str, set[str]]:
    graph = {}
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                graph[name] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name: {target for target in targets if target in graph} - {name} for name, targets in graph.items()}


def test_modules_form_no_cycle() -> None:
    graph = {name: set(targets) for name, targets in module_graph().items()}
    # A package's own __init__ counts as a leaf: importing it runs a docstring and a version.
    while free := [name for name, targets in graph.items() if not targets]:
        for name in free:
            del graph[name]
        for targets in graph.values():
            targets -= set(free)
    assert graph == {}
