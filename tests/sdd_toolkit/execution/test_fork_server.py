"""Workers are forked by a server that has imported everything, has one thread and ends with its main process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# The server imports them because this process has: OpenCV, LibRaw, HDF5, Blosc2, pandas and all threads of theirs.
import alignment.registration.stage  # noqa: F401
import cli
import sdd_toolkit.cards.stage
import sdd_toolkit.packing.stage  # noqa: F401
from sdd_toolkit.execution import fork_server
from sdd_toolkit.execution.executor import run_tasks, start_workers_early

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    fork_server.stop()
    yield
    fork_server.stop()


def read_state(_: int) -> tuple[int, int, frozenset[str], str | None]:
    """The state of a worker: its parent and the threads of that, the imported modules, an environment variable."""
    threads = len(os.listdir(f"/proc/{os.getppid()}/task"))
    return os.getppid(), threads, frozenset(sys.modules), os.environ.get("SDD_TEST")


def worker_state() -> tuple[int, int, frozenset[str], str | None]:
    (outcome,) = run_tasks(read_state, [0], "local:1")
    assert outcome.result is not None
    return outcome.result


def test_pools_share_one_server_that_has_imported_everything_and_has_one_thread() -> None:
    parent, threads, modules, _ = worker_state()
    assert parent != os.getpid()
    assert threads == 1
    assert {
        "cv2",
        "rawpy",
        "h5py",
        "blosc2",
        "pandas",
        "alignment.registration.stage",
        "sdd_toolkit.packing.stage",
    } <= modules
    assert worker_state()[0] == parent


def test_the_server_of_a_build_imports_the_modules_of_its_workers_and_no_others() -> None:
    start_workers_early("serial", cli.WORKER_MODULES)
    assert server_pid() is None
    start_workers_early("local:1", cli.WORKER_MODULES)
    server, threads, modules, _ = worker_state()
    assert server == server_pid()
    assert threads == 1
    assert set(cli.WORKER_MODULES) <= modules
    libraries = Path(f"/proc/{server}/maps").read_text()
    assert [name for name in ("/cv2/", "/rawpy/", "/h5py/", "/blosc2/") if name not in libraries] == []
    assert [name for name in ("/pandas/", "/torch/", "/matplotlib/") if name in libraries] == []


def server_pid() -> int | None:
    from multiprocessing import forkserver

    return getattr(forkserver._forkserver, "_forkserver_pid", None)


def test_a_worker_has_the_present_environment_not_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert worker_state()[3] is None
    monkeypatch.setenv("SDD_TEST", "1")
    environment = dict(os.environ)
    fork_server.stop()
    assert worker_state()[3] == "1"
    assert dict(os.environ) == environment


def test_a_server_that_was_killed_is_started_again() -> None:
    parent = worker_state()[0]
    os.kill(parent, signal.SIGKILL)
    assert worker_state()[0] != parent


def test_a_server_whose_socket_is_gone_gives_way_to_spawned_workers(tmp_path: Path) -> None:
    worker_state()
    from multiprocessing import forkserver

    address = Path(vars(forkserver._forkserver)["_forkserver_address"])
    kept = address.rename(tmp_path / "socket")
    assert worker_state()[0] == os.getpid()
    kept.rename(address)


def test_without_a_folder_for_its_socket_workers_are_spawned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from multiprocessing import util

    monkeypatch.setattr(util, "get_temp_dir", lambda: str(tmp_path / ("long" * 30)))
    assert worker_state()[0] == os.getpid()


def test_modules_in_the_working_folder_are_not_imported(tmp_path: Path) -> None:
    """A folder of untrusted files may hold a `cv2.py`."""
    (tmp_path / "cv2.py").write_text("import os; os.write(2, b'planted')")
    imports = "from sdd_toolkit.execution.executor import run_tasks"
    program = f"{imports}\nprint([outcome.result for outcome in run_tasks(abs, [-7], 'local:1')])"
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere/main.py"
    script.write_text(f"if __name__ == '__main__':\n    {program.replace(chr(10), chr(10) + '    ')}\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[7]\n", "")


ASLEEP = """
import os, sys, time
from sdd_toolkit.execution.executor import run_tasks
def sleep(seconds):
    os.write(1, f"{os.getppid()} {os.getpid()}\\n".encode())
    time.sleep(seconds)
if __name__ == "__main__":
    list(run_tasks(sleep, [60], "local:1"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_and_workers_go_with_the_main_process_and_leave_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "asleep.py").write_text(ASLEEP)
    command, environment = [sys.executable, tmp_path / "asleep.py"], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as main:
        assert main.stdout is not None
        pids = [int(word) for word in main.stdout.readline().split()]
        main.send_signal(number)
        main.communicate(timeout=30)
    end = time.monotonic() + 30
    while time.monotonic() < end and (any(map(alive, pids)) or list(tmp_path.glob("pymp-*"))):
        time.sleep(0.02)
    assert [pid for pid in pids if alive(pid)] == []
    assert list(tmp_path.glob("pymp-*")) == []


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
