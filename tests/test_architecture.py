"""The architecture, enforced on every source file: allowed imports, no cycle of files or folders, sizes.

Late imports, imports under `TYPE_CHECKING` and `import_module` count like those at the top of a file.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from tests.conftest import MARKS
from tests.support.paths import ROOT

INDEPENDENT = ("capture", "alignment", "jdrl")
PACKAGES = ("sdd_toolkit", *INDEPENDENT)
SOURCES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOLE_IMPORTERS = {
    "rawpy": "sdd_toolkit/raw/libraw.py",
    "h5py": "sdd_toolkit/shards/",
    "blosc2": "sdd_toolkit/shards/blosc_chunks.py",
    "fsspec": "sdd_toolkit/storage/locations.py",
    "distributed": "sdd_toolkit/execution/dask_cluster.py",
    "pebble": "sdd_toolkit/execution/process_pool.py",
    "lensfunpy": "sdd_toolkit/calibration/lensfun_profile.py",
    "gphoto2": "capture/tether/gphoto_camera.py",
    "torch": "jdrl/",
}
MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 8
MOST_FILES = 20


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def tree_of(path: Path) -> ast.Module:
    return parsed(path.read_text(encoding="utf-8"))


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_in(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
        return {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return set()


def imports_of(path: Path) -> set[str]:
    """Every name that a file imports, anywhere in it."""
    return {name for node in ast.walk(tree_of(path)) for name in imports_in(node)}


def forbidden_imports(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    """Imports of another package than the file's own and the core library; `cli.py` may import all of them.

    `sdd_toolkit/__main__.py` may import `cli.py`.
    """
    forbidden = []
    for path in paths:
        home = path.relative_to(root).parts[0]
        allowed = {home, "sdd_toolkit", *(PACKAGES if home == "cli.py" else ())}
        if path == root / "sdd_toolkit/__main__.py":
            allowed.add("cli")
        for node in ast.walk(tree_of(path)):
            if {name.partition(".")[0] for name in imports_in(node)} & {*PACKAGES, "cli"} - allowed:
                forbidden.append(f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)}")
    return forbidden


def relative_imports(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    """Imports by dots, which the other checks do not follow."""
    return [
        f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)}"
        for path in paths
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def imports_outside_their_module(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    """Imports of a library of `SOLE_IMPORTERS` by any file but the one that wraps it."""
    return [
        f"{path.relative_to(root)} imports {library}"
        for path in paths
        for library in sorted(SOLE_IMPORTERS.keys() & {name.partition(".")[0] for name in imports_of(path)})
        if not path.relative_to(root).as_posix().startswith(SOLE_IMPORTERS[library])
    ]


def file_graph(paths: Sequence[Path], root: Path = ROOT) -> dict[str, set[str]]:
    graph = {module_name(path, root): imports_of(path) for path in paths}
    return {name: {target for target in targets if target in graph} - {name} for name, targets in graph.items()}


def folder_graph(paths: Sequence[Path], root: Path = ROOT) -> dict[str, set[str]]:
    """The same between folders; a module at the root of a top-level package counts as a folder of its own."""
    packages = {module_name(path, root) for path in paths if path.name == "__init__.py"}

    def folder(name: str) -> str:
        return name if name in packages or name.count(".") < 2 else name.rpartition(".")[0]

    graph: dict[str, set[str]] = {}
    for name, targets in file_graph(paths, root).items():
        graph.setdefault(folder(name), set()).update(folder(target) for target in targets)
    return {name: targets - {name} for name, targets in graph.items()}


def cycle_in(graph: Mapping[str, set[str]]) -> str:
    """One cycle as `a imports b imports a`, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # Each node of the cycle is listed before those that import it.
        return " imports ".join(reversed(error.args[1]))
    return ""


def crowded_folders(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    counts = Counter(path.parent for path in paths)
    return [f"{folder.relative_to(root)}: {count} files" for folder, count in counts.items() if count > MOST_FILES]


def long_files(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return [f"{path.relative_to(root)}: {count} lines" for path, count in lines.items() if count > MOST_LINES]


def files_without_docstring(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    return [str(path.relative_to(root)) for path in paths if not ast.get_docstring(tree_of(path))]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller passes; the options of a click command count too."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def large_functions(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    large = []
    for path in paths:
        for node in functions(path):
            name = f"{path.relative_to(root)}:{node.lineno}: {node.name}"
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                large.append(f"{name}: {lines} lines")
            if parameter_count(node) > MOST_PARAMETERS:
                large.append(f"{name}: {parameter_count(node)} parameters")
    return large


def test_a_package_imports_only_itself_and_the_core_library() -> None:
    assert forbidden_imports(SOURCES) == []


def test_every_import_is_absolute() -> None:
    assert relative_imports(SOURCES) == []


def test_a_library_with_hard_edges_is_imported_by_its_own_module_alone() -> None:
    assert imports_outside_their_module(SOURCES) == []


def test_no_file_imports_another_in_a_cycle() -> None:
    assert cycle_in(file_graph(SOURCES)) == ""


def test_no_folder_imports_another_in_a_cycle() -> None:
    assert cycle_in(folder_graph(SOURCES)) == ""


def test_no_folder_holds_more_than_twenty_python_files() -> None:
    assert crowded_folders([*SOURCES, *BENCHMARKS, *TESTS]) == []


def test_no_file_is_longer_than_400_lines() -> None:
    assert long_files([*SOURCES, *BENCHMARKS, *TESTS]) == []


def test_every_source_file_opens_with_a_docstring() -> None:
    assert files_without_docstring([*SOURCES, *BENCHMARKS]) == []


def test_no_function_has_more_than_60_lines_or_8_parameters() -> None:
    assert large_functions([*SOURCES, *BENCHMARKS]) == []


def test_every_mark_is_of_tests_that_exist() -> None:
    for beginning in (beginning for beginnings in MARKS.values() for beginning in beginnings):
        path, _, test = beginning.partition("::")
        assert beginning, "an empty beginning marks every test"
        assert (ROOT / path).exists(), beginning
        assert not test or f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), beginning


def planted(root: Path, **files: str) -> list[Path]:
    """Files of a small package tree by dotted name, `__` for the dot, and the `__init__.py` of every folder."""
    paths = []
    for name, text in files.items():
        path = (root / name.replace("__", "/")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        folders = [folder for folder in path.parents if folder.is_relative_to(root) and folder != root]
        for folder in folders:
            (folder / "__init__.py").touch()
        paths += [path, *(folder / "__init__.py" for folder in folders)]
    return sorted(set(paths))


LATE = "def late():\n    from {} import x\n    return x\n"
TYPES_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import x\n"


def test_a_planted_cycle_of_late_imports_is_named_whole(tmp_path: Path) -> None:
    paths = planted(
        tmp_path,
        jdrl__a__one=LATE.format("jdrl.b.two"),
        jdrl__b__two=LATE.format("jdrl.c.three"),
        jdrl__c__three=LATE.format("jdrl.a.one"),
    )
    steps = cycle_in(file_graph(paths, tmp_path)).split(" imports ")
    edges = {("jdrl.a.one", "jdrl.b.two"), ("jdrl.b.two", "jdrl.c.three"), ("jdrl.c.three", "jdrl.a.one")}
    assert set(pairwise(steps)) == edges
    folders = cycle_in(folder_graph(paths, tmp_path)).split(" imports ")
    assert (len(folders), set(folders)) == (4, {"jdrl.a", "jdrl.b", "jdrl.c"})


def test_a_planted_cycle_of_folders_without_one_of_files_is_seen(tmp_path: Path) -> None:
    paths = planted(
        tmp_path,
        jdrl__a__one=TYPES_ONLY.format("jdrl.b"),
        jdrl__a__other="",
        jdrl__b__two="import importlib\nthree = importlib.import_module('jdrl.a.other')\n",
    )
    (tmp_path / "jdrl/b/__init__.py").write_text("x = 1\n")
    assert cycle_in(file_graph(paths, tmp_path)) == ""
    assert set(cycle_in(folder_graph(paths, tmp_path)).split(" imports ")) == {"jdrl.a", "jdrl.b"}


def test_a_module_at_the_root_of_a_package_is_a_folder_of_its_own(tmp_path: Path) -> None:
    paths = planted(
        tmp_path, jdrl__config="from jdrl.a import one\n", jdrl__a__one="", jdrl__device="import jdrl.config\n"
    )
    assert cycle_in(folder_graph(paths, tmp_path)) == ""
    (tmp_path / "jdrl/a/one.py").write_text(TYPES_ONLY.format("jdrl.config"))
    assert set(cycle_in(folder_graph(paths, tmp_path)).split(" imports ")) == {"jdrl.a", "jdrl.config"}


def test_planted_imports_across_packages_are_seen(tmp_path: Path) -> None:
    paths = planted(
        tmp_path,
        jdrl__a=LATE.format("alignment.config"),
        sdd_toolkit__a=TYPES_ONLY.format("capture"),
        capture__a="import cli\nfrom . import b\nimport rawpy\n",
        cli="import jdrl, capture, alignment, sdd_toolkit\n",
        alignment__a="import sdd_toolkit.config\n",
    )
    assert forbidden_imports(paths, tmp_path) == [
        "capture/a.py:1: import cli",
        "jdrl/a.py:2: from alignment.config import x",
        "sdd_toolkit/a.py:3: from capture import x",
    ]
    assert relative_imports(paths, tmp_path) == ["capture/a.py:2: from . import b"]
    assert imports_outside_their_module(paths, tmp_path) == ["capture/a.py imports rawpy"]


def test_planted_sizes_are_seen(tmp_path: Path) -> None:
    function = "@click.command()\ndef f({}):\n" + "    x = 1\n" * 60
    many = ", ".join(f"p{number}=0" for number in range(9))
    files = {f"jdrl__a__m{number}": "'''Doc.'''\n" for number in range(20)}
    paths = planted(tmp_path, jdrl__b__long=function.format("self, *, " + many) + "y = 2\n" * 339, **files)
    assert large_functions(paths, tmp_path) == ["jdrl/b/long.py:2: f: 61 lines", "jdrl/b/long.py:2: f: 9 parameters"]
    assert long_files(paths, tmp_path) == ["jdrl/b/long.py: 401 lines"]
    assert crowded_folders(paths, tmp_path) == ["jdrl/a: 21 files"]
    assert "jdrl/b/long.py" in files_without_docstring(paths, tmp_path)
    assert "jdrl/a/m0.py" not in files_without_docstring(paths, tmp_path)
