"""The architecture, enforced on every source file: which package may import which, and no cycle of files or folders."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support.paths import ROOT

INDEPENDENT = ("capture", "alignment", "jdrl")
PACKAGES = ("sdd_toolkit", *INDEPENDENT)
SOURCES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
SOLE_IMPORTERS = {
    "rawpy": "sdd_toolkit/raw/libraw.py",
    "h5py": "sdd_toolkit/shards/",
    "blosc2": "sdd_toolkit/shards/blosc_chunks.py",
    "fsspec": "sdd_toolkit/storage/locations.py",
    "distributed": "sdd_toolkit/execution/dask_cluster.py",
    "lensfunpy": "sdd_toolkit/calibration/lensfun_profile.py",
    "gphoto2": "capture/tether/gphoto_camera.py",
    "torch": "jdrl/",
}
MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 8
MOST_FILES = 20


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every name that a file imports, however late: in functions, under `TYPE_CHECKING`, by `import_module`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def roots_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


def file_graph(paths: list[Path], root: Path = ROOT) -> dict[str, set[str]]:
    graph = {module_name(path, root): imports_of(path) for path in paths}
    return {name: {target for target in targets if target in graph} - {name} for name, targets in graph.items()}


def folder_graph(files: Mapping[str, set[str]], packages: set[str]) -> dict[str, set[str]]:
    """The same between folders; a module at the root of a top-level package counts as a folder of its own."""

    def folder(name: str) -> str:
        return name if name in packages or name.count(".") < 2 else name.rpartition(".")[0]

    graph: dict[str, set[str]] = {}
    for name, targets in files.items():
        graph.setdefault(folder(name), set()).update(folder(target) for target in targets)
    return {name: targets - {name} for name, targets in graph.items()}


def packages_of(paths: list[Path], root: Path = ROOT) -> set[str]:
    return {module_name(path, root) for path in paths if path.name == "__init__.py"}


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """The names along one cycle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller passes; the options that click fills in a command do not count."""
    if any("command" in ast.unparse(decorator) for decorator in node.decorator_list):
        return 0
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_no_file_imports_another_in_a_cycle() -> None:
    assert cycle_in(file_graph(SOURCES)) == []


def test_no_folder_imports_another_in_a_cycle() -> None:
    assert cycle_in(folder_graph(file_graph(SOURCES), packages_of(SOURCES))) == []
