from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdd_toolkit.errors import ConfigError
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.spec import workers_of


def square(value: int) -> int:
    return value * value


def threads(_: int) -> tuple[int, str | None]:
    import cv2

    return cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")


def die_on_three(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value * value


def fail(value: int) -> int:
    raise ValueError(f"bad {value}")


@pytest.mark.parametrize("executor", ["serial", "local:2"])
def test_every_task_comes_back_once_with_its_result(executor: str) -> None:
    outcomes = {outcome.task: outcome.result for outcome in run_tasks(square, range(7), executor)}
    assert outcomes == {value: value * value for value in range(7)}


def test_a_worker_has_one_thread_of_opencv_and_of_libraw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [outcome.result for outcome in run_tasks(threads, [0], "local:1")] == [(1, "1")]


def test_a_killed_worker_loses_only_the_task_that_killed_it() -> None:
    outcomes = {outcome.task: outcome for outcome in run_tasks(die_on_three, range(8), "local:2")}
    results = {value: outcome.result for value, outcome in outcomes.items()}
    assert results == {value: None if value == 3 else value * value for value in range(8)}
    codes = {value: outcome.exit_code for value, outcome in outcomes.items() if outcome.exit_code is not None}
    assert codes == {3: -signal.SIGKILL}


def note_and_hang_or_exit(path: Path) -> str:
    with path.open("a") as file:
        file.write("begun\n")
    if path.name == "2":
        time.sleep(600)
    if path.name == "3":
        os._exit(0)
    return path.name


def test_a_task_that_takes_too_long_is_killed_and_only_it_is_lost(tmp_path: Path) -> None:
    tasks = [tmp_path / str(number) for number in range(8) if number != 3]
    outcomes = {one.task.name: one for one in run_tasks(note_and_hang_or_exit, tasks, "local:2?timeout_s=1")}
    assert [name for name in sorted(outcomes) if outcomes[name].result != name] == ["2"]
    assert outcomes["2"].timed_out
    assert (tmp_path / "2").read_text() == "begun\n"


def test_a_task_may_take_the_time_out_of_each_of_its_pairs(tmp_path: Path) -> None:
    outcomes = list(run_tasks(time.sleep, [2.0], "local:1?timeout_s=0.5", pairs=lambda task: 8))
    assert [outcome.timed_out for outcome in outcomes] == [False]


def test_tasks_of_other_workers_are_not_begun_again_when_a_worker_dies(tmp_path: Path) -> None:
    """Exit code 0 counts as a death as well."""
    tasks = [tmp_path / str(number) for number in range(9) if number != 2]
    outcomes = {one.task.name: one.result for one in run_tasks(note_and_hang_or_exit, tasks, "local:2")}
    assert [name for name in sorted(outcomes) if outcomes[name] is None] == ["3"]
    assert (tmp_path / "3").read_text() == "begun\n" * 2


NO_WORKER = """
import os, sys
from sdd_toolkit.execution.executor import run_tasks
if __name__ != "__main__":
    os._exit(7)
try:
    list(run_tasks(abs, [1, 2, 3], "local:2"))
except Exception as error:
    print(error)
"""


def test_workers_that_cannot_start_are_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(NO_WORKER)
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("worker processes end before they begin (exit codes ")


SLOW = """
import os, sys, time
from sdd_toolkit.execution.executor import run_tasks
def sleep(seconds):
    os.write(1, b"started\\n")  # at once: two workers must not mix their lines
    time.sleep(seconds)
if __name__ == "__main__":
    print("ready", flush=True)
    list(run_tasks(sleep, [60] * 4, "local:2"))
"""


@pytest.mark.parametrize("wait_for", ["ready", "started"])
def test_an_interrupt_ends_workers_at_once_and_only_the_main_process_reports_it(tmp_path: Path, wait_for: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, tmp_path / "slow.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        while child.stdout.readline().decode().strip() != wait_for:
            pass
        time.sleep(0.15)
        os.killpg(child.pid, signal.SIGINT)
        # The pipes end when the last process that could write to them has.
        _, err = child.communicate(timeout=30)
    assert err.decode().count("Traceback") == err.decode().count("KeyboardInterrupt\n") == 1


@pytest.mark.parametrize("delay_s", [0.05, 0.3])
def test_workers_end_with_a_main_process_that_was_killed_while_they_start(tmp_path: Path, delay_s: float) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, tmp_path / "slow.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay_s)
        child.kill()
        child.communicate(timeout=30)


def test_an_unexpected_exception_is_raised_not_swallowed() -> None:
    with pytest.raises(ValueError, match="bad 0"):
        list(run_tasks(fail, [0], "local:1"))


@pytest.mark.parametrize(
    "name", ["", "local", "local:0", "local:x", "threads:2", "dask://nowhere", "dask", "serial?timeout_s=5"]
)
def test_an_unknown_executor_is_refused_with_the_valid_names(name: str) -> None:
    with pytest.raises(ConfigError, match="serial, local:N or dask"):
        workers_of(name)


@pytest.mark.parametrize("option", ["retries=1", "timeout_s=0", "timeout_s=-1", "timeout_s=nan", ""])
def test_an_unknown_time_out_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="is no time-out"):
        workers_of(f"local:2?{option}")


def test_a_dask_cluster_runs_the_same_tasks() -> None:
    distributed = pytest.importorskip("distributed", reason="the cluster extra is not installed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(protocol="tcp", host="127.0.0.1", **options) as cluster:
        name = "dask://" + cluster.scheduler_address.partition("://")[2]
        outcomes = {outcome.task: outcome.result for outcome in run_tasks(square, range(5), name)}
    assert outcomes == {value: value * value for value in range(5)}


def test_a_scheduler_that_does_not_answer_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the cluster extra is not installed")
    monkeypatch.setattr("sdd_toolkit.execution.dask_cluster.CONNECT_S", 1)
    with pytest.raises(ConfigError, match="no dask scheduler answers"):
        list(run_tasks(square, [1], "dask://127.0.0.1:9"))
