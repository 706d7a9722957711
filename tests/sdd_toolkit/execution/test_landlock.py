"""Workers read their sources and write their output: everything else is refused by the kernel."""

from __future__ import annotations

import ast
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from sdd_toolkit.execution import landlock
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess, folders_of
from sdd_toolkit.metadata import exiftool
from sdd_toolkit.storage.locations import Remote
from tests.support.paths import ROOT

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")
PACKAGES = ("sdd_toolkit", "capture", "alignment", "jdrl")


@dataclass(frozen=True)
class Place:
    """Folders of a data set: sources, output, and what belongs to neither."""

    sources: Path
    out: Path
    elsewhere: Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "sources", tmp_path / "out", tmp_path / "elsewhere")
    for folder in (made.sources, made.out, made.elsewhere):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    (tmp_path / "beside").write_text("beside")
    (made.sources / "link").symlink_to(made.elsewhere / "file")
    (made.sources / "folder").symlink_to(made.elsewhere)
    return made


def read(path: str) -> str:
    return Path(path).read_text()


def write(path: str) -> str:
    Path(path).write_text("mine")
    return "written"


def truncate(path: str) -> str:
    os.truncate(path, 0)
    return "truncated"


def remove(path: str) -> str:
    Path(path).unlink()
    return "removed"


def move(path: str) -> str:
    Path(path).rename(Path(path).parent.parent / "out" / "moved")
    return "moved"


def hard_link(path: str) -> str:
    os.link(path, Path(path).parent.parent / "out" / "linked")
    return "linked"


def listed(path: str) -> str:
    return " ".join(sorted(os.listdir(path)))


def make_folder(path: str) -> str:
    Path(path, "new").mkdir()
    return "made"


def read_by_grandchild(path: str) -> str:
    done = subprocess.run(["cat", path], capture_output=True, text=True, check=False)
    return done.stdout or "refused"


def read_by_new_interpreter(path: str) -> str:
    code = "import sys; print(open(sys.argv[1]).read(), end='')"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    return done.stdout or "refused"


def told(action: Callable[[str], str], path: str) -> str:
    try:
        return action(path)
    except OSError as error:
        return "refused" if error.errno in (13, 18, 1) else f"other: {error}"


def by_worker(place: Place, action: Callable[[str], str], path: object, **more: tuple[Path, ...]) -> str | None:
    access = FileAccess((place.sources,), (place.out,), **more)
    (outcome,) = run_tasks(partial(told, action), [str(path)], "local:1", access=access)
    return outcome.result


@needs_landlock
def test_a_worker_reads_sources_and_writes_the_output(place: Place) -> None:
    assert by_worker(place, read, place.sources / "file") == "sources"
    assert by_worker(place, listed, place.sources) == "file folder link"
    assert by_worker(place, write, place.out / "new") == "written"
    assert by_worker(place, read, place.out / "new") == "mine"
    assert by_worker(place, truncate, place.out / "new") == "truncated"
    assert by_worker(place, remove, place.out / "new") == "removed"
    assert by_worker(place, make_folder, place.out) == "made"


@needs_landlock
@pytest.mark.parametrize("action", [read, read_by_grandchild, read_by_new_interpreter])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "{elsewhere}/file",
            "{sources}/../beside",
            "{sources}/../elsewhere/file",
            "{sources}/link",
            "{sources}/folder/file",
        ),
        *("/etc/passwd", "/etc/hosts", "{sources}/../../../../../../../../etc/passwd", "/proc/1/environ", "{home}"),
    ],
)
def test_a_worker_told_to_open_a_file_elsewhere_is_refused(
    place: Place, tmp_path_factory: pytest.TempPathFactory, path: str, action: Callable[[str], str]
) -> None:
    home = tmp_path_factory.mktemp("home") / "id_ed25519"
    home.write_text("a key")
    names = {"elsewhere": place.elsewhere, "sources": place.sources, "home": home}
    assert by_worker(place, action, path.format(**names)) == "refused"


@needs_landlock
@pytest.mark.parametrize("action", [write, truncate, remove, move, hard_link])
def test_a_worker_changes_no_source(place: Place, action: Callable[[str], str]) -> None:
    assert by_worker(place, action, place.sources / "file") == "refused"
    assert by_worker(place, write, place.sources / "new") == "refused"
    assert (place.sources / "file").read_text() == "sources"
    assert sorted(os.listdir(place.sources)) == ["file", "folder", "link"]


@needs_landlock
@pytest.mark.parametrize("action", [write, truncate, remove])
def test_a_worker_changes_nothing_elsewhere(place: Place, action: Callable[[str], str]) -> None:
    assert by_worker(place, action, place.elsewhere / "file") == "refused"
    assert by_worker(place, listed, place.elsewhere) == "refused"
    assert by_worker(place, write, place.sources.parent / "new") == "refused"


def connect(port: str) -> str:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5):
        return "connected"


def kill_parent(_: str) -> str:
    os.kill(os.getppid(), 0)
    return "sent"


@needs_landlock
@pytest.mark.skipif(landlock.version() < 6, reason="an older Landlock")
def test_a_worker_reaches_neither_the_network_nor_other_processes(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert by_worker(place, connect, server.getsockname()[1]) == "refused"
    assert by_worker(place, kill_parent, "") == "refused"


def test_workers_without_access_given_and_the_main_process_are_not_restricted(place: Place) -> None:
    (outcome,) = run_tasks(partial(told, read), [str(place.elsewhere / "file")], "local:1")
    assert outcome.result == "elsewhere"
    assert (place.elsewhere / "file").read_text() == "elsewhere"


@needs_landlock
def test_a_single_file_may_be_a_source(place: Place) -> None:
    access = FileAccess((place.elsewhere / "file",))
    tasks = [str(place.elsewhere / "file"), str(place.sources / "file")]
    results = {one.task: one.result for one in run_tasks(partial(told, read), tasks, "local:2", access=access)}
    assert list(map(results.get, tasks)) == ["elsewhere", "refused"]


@needs_landlock
def test_the_output_is_created_for_the_worker(tmp_path: Path) -> None:
    access = FileAccess(write=(tmp_path / "a" / "b",))
    (outcome,) = run_tasks(partial(told, write), [str(tmp_path / "a" / "b" / "c")], "local:1", access=access)
    assert outcome.result == "written"


def decode_everything(_: str) -> str:
    """What workers import and call at their first task."""
    import blosc2
    import cv2
    import h5py
    import hdf5plugin
    import numpy as np
    import rawpy
    import tifffile

    cv2.GaussianBlur(np.zeros((64, 64), np.float32), (5, 5), 1)
    return str(
        all((blosc2.__version__, h5py.__version__, hdf5plugin.__file__, rawpy.__version__, tifffile.__version__))
    )


@needs_landlock
def test_libraries_load_late(place: Place) -> None:
    assert by_worker(place, decode_everything, "") == "True"


def ask_exiftool(path: str) -> str:
    return str(exiftool.read_tags([Path(path)]))


@needs_landlock
@pytest.mark.skipif(shutil.which("exiftool") is None, reason="no ExifTool")
def test_exiftool_runs_in_a_worker_under_the_same_rules(place: Place) -> None:
    from tests.fuzz.targets import pictures

    for folder in (place.sources, place.elsewhere):
        (folder / "a.jpg").write_bytes(pictures()["jpg"])
    run = (Path(str(shutil.which("exiftool"))),)
    assert "Canon" in str(by_worker(place, ask_exiftool, place.sources / "a.jpg", run=run))
    assert "Canon" not in str(by_worker(place, ask_exiftool, place.elsewhere / "a.jpg", run=run))


def test_without_landlock_it_is_said_once_and_workers_work(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    landlock.report_missing.cache_clear()
    monkeypatch.setattr(landlock, "version", lambda: 0)
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert by_worker(place, read, place.sources / "file") == "sources"
    landlock.report_missing.cache_clear()
    assert [record.message for record in caplog.records if "Landlock" in record.message] == [
        "this system has no Landlock: worker processes may use every file that you may"
    ]
    assert not landlock.restrict_process(landlock.rules_of(FileAccess()))


@pytest.mark.parametrize(("interface", "bits"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (9, 16)])
def test_an_older_kernel_is_asked_for_the_rights_it_knows(interface: int, bits: int) -> None:
    assert landlock._rights_of(interface) == 2**bits - 1


def test_folders_of_files_on_two_disks_are_not_their_common_root() -> None:
    files = [f"/media/card/{number}/a.dng" for number in range(2400)] + [
        f"/home/me/raw/{number}/a.dng" for number in range(540)
    ]
    assert folders_of(files) == (Path("/home/me/raw"), Path("/media/card"))
    assert folders_of(files[:900]) == tuple(sorted(Path(file).parent for file in files[:900]))
    assert folders_of(["/a/b/c.dng", "/a/d.dng"]) == (Path("/a"), Path("/a/b"))
    assert folders_of([]) == ()


def test_many_folders_never_become_the_root_or_the_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for parent in ("/home/me", "/home", ""):
        files = [f"{parent}/{number}/a.dng" for number in range(1200)]
        assert len(folders_of(files)) == 1200
    deep = [f"/home/me/{number}/raw/a.dng" for number in range(1200)]
    assert folders_of(deep) == tuple(sorted(Path(file).parent.parent for file in deep))


def readable_by(access: FileAccess) -> dict[str, int]:
    return dict(landlock.rules_of(access).rights)


CREDENTIALS = (
    *(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    *("AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "FSSPEC_CONFIG_DIR"),
    *("AZURE_CONFIG_DIR", "CLOUDSDK_CONFIG", "BOTO_CONFIG", "NETRC"),
)


@pytest.mark.parametrize("variable", CREDENTIALS)
def test_credentials_named_by_the_environment_are_read_with_stores_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    monkeypatch.setenv(variable, str(key))
    monkeypatch.setenv("AWS_PROFILE", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert readable_by(FileAccess((Remote("s3://bucket/set"),)))[str(key)] & 4
    assert str(tmp_path) not in readable_by(FileAccess((Remote("s3://bucket/set"),)))
    for local in (tmp_path / "set", Remote(f"file://{tmp_path}/set"), Remote(f"local://{tmp_path}/set")):
        rules = landlock.rules_of(FileAccess((local,)))
        assert not rules.network
        assert str(key) not in dict(rules.rights)


def test_settings_of_stores_and_of_names_of_hosts_are_read_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / ".config/fsspec").mkdir(parents=True)
    (tmp_path / "resolv.conf").symlink_to(tmp_path / "real.conf")
    (tmp_path / "real.conf").write_text("nameserver ::1")
    assert "/etc/resolv.conf" in landlock._NETWORK
    monkeypatch.setattr(landlock, "_NETWORK", (*landlock._NETWORK, str(tmp_path / "resolv.conf")))
    rights = readable_by(FileAccess((Remote("s3://bucket/set"),)))
    assert {str(tmp_path / ".config/fsspec"), str(tmp_path / "real.conf")} <= rights.keys()


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LD_LIBRARY_PATH"])
def test_folders_of_code_that_the_environment_names_are_read_but_no_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    home, code, other = (tmp_path / name for name in ("home", "code", "other"))
    for folder in (home / "own", code, other):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv(variable, os.pathsep.join(map(str, ("", code, home, home / "own", tmp_path, "/"))))
    rights = readable_by(FileAccess((other,)))
    assert {path for path in rights if path == "/" or path.startswith(str(tmp_path))} == {
        str(other), str(code), str(home / "own"),
    }  # fmt: skip


def test_the_folder_a_link_leads_to_is_among_those_of_its_file(place: Place) -> None:
    assert folders_of([str(place.sources / "link")]) == (place.elsewhere, place.sources)


def test_every_stage_says_which_files_its_workers_may_use() -> None:
    found, without = 0, []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_tasks":
                    found += 1
                    given = {option.arg: ast.unparse(option.value) for option in node.keywords}
                    if given.get("access", "None") == "None":
                        without.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found > 10
    assert without == []
