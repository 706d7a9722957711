"""A real scheduler and worker processes on loopback: nothing hangs, and only what kills its workers is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution import dask_cluster
from sdd_toolkit.execution.executor import is_orphaned, run_tasks
from tests.support.cluster_nodes import Nodes, nodes

pytest.importorskip("distributed", reason="the cluster extra is not installed")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def square(value: int) -> int:
    return value * value


def die_on_three(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value * value


def hang_on_two(value: int) -> int:
    if value == 2:
        time.sleep(600)
    return value * value


def threads_at_once(folder: str) -> tuple[int, int]:
    """The most threads of this process that were here at the same time, and OpenCV's threads."""
    import cv2

    mine = Path(folder, f"{os.getpid()}-{threading.get_ident()}")
    mine.touch()
    time.sleep(0.05)
    others = len(list(Path(folder).glob(f"{os.getpid()}-*")))
    mine.unlink()
    return others, cv2.getNumThreads()


def fail(value: int) -> int:
    raise InputError(f"no pair {value}", hint="look")


def wait_until_orphaned(file: Path) -> None:
    if file.name == "quick":
        return
    file.write_text("begun")
    while not is_orphaned():
        time.sleep(0.05)
    file.write_text("abandoned")


def mark_and_sleep(file: Path) -> None:
    file.write_text("begun")
    time.sleep(600)


def test_every_task_comes_back_once_with_its_result(running: Nodes) -> None:
    outcomes = {outcome.task: outcome.result for outcome in run_tasks(square, range(20), running.name)}
    assert outcomes == {value: value * value for value in range(20)}


def test_a_worker_of_two_threads_does_one_task_at_a_time_with_one_opencv_thread(running: Nodes, tmp_path: Path) -> None:
    outcomes = run_tasks(threads_at_once, [str(tmp_path)] * 12, running.name)
    assert [outcome.result for outcome in outcomes] == [(1, 1)] * 12


def test_an_error_of_a_task_comes_back_as_it_is(running: Nodes) -> None:
    with pytest.raises(InputError, match="no pair 4"):
        list(run_tasks(fail, [4], running.name))


def test_a_task_that_kills_its_workers_is_lost_alone(running: Nodes) -> None:
    outcomes = {outcome.task: outcome.result for outcome in run_tasks(die_on_three, range(6), running.name)}
    assert outcomes == {value: None if value == 3 else value * value for value in range(6)}


def test_a_task_that_the_scheduler_forgot_is_lost_and_the_scheduler_is_not_gone(running: Nodes) -> None:
    with dask_cluster._connected(running.address) as connection:
        future = connection.client.submit(time.sleep, 60)
        connection.client.cancel([future])
        assert isinstance(connection.result_of(future), dask_cluster._WorkerLost)


def test_a_task_that_takes_too_long_is_lost_alone(running: Nodes) -> None:
    outcomes = run_tasks(hang_on_two, range(4), f"{running.name}?timeout_s=1")
    assert {outcome.task: outcome.result for outcome in outcomes} == {0: 0, 1: 1, 2: None, 3: 9}


def test_a_task_notices_that_its_client_is_gone(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    # Of one thread each: two tasks on one worker of two would take turns.
    with nodes(tmp_path, threads=1) as running:
        outcomes = run_tasks(wait_until_orphaned, [slow, tmp_path / "quick"], running.name)
        assert next(outcomes).task.name == "quick"
        while not slow.is_file():
            time.sleep(0.05)
        assert slow.read_text() == "begun"
        outcomes.close()  # type: ignore[attr-defined]
        while slow.read_text() != "abandoned":
            time.sleep(0.05)


def test_workers_of_other_versions_are_refused(running: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "versions", lambda: {"sdd-toolkit": "0.0.1", "numpy": "1.0"})
    with pytest.raises(ConfigError, match=r"has h5py .*, this process has None"):
        list(run_tasks(square, [1], running.name))


def test_workers_that_do_not_see_the_files_are_refused(running: Nodes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not see .*/elsewhere"):
        list(run_tasks(square, [1], running.name, sees=[tmp_path / "elsewhere"]))


def test_a_scheduler_without_workers_is_an_error_not_an_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "NO_WORKER_S", 3.0)
    with nodes(tmp_path, workers=0) as found, pytest.raises(InputError, match="has had no worker for 3 s"):
        list(run_tasks(square, [1], found.name))


def test_a_scheduler_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 4)
    with nodes(tmp_path, workers=1) as found:
        begun = tmp_path / "begun"

        def kill_it() -> None:
            while not begun.exists():
                time.sleep(0.1)
            assert found.scheduler is not None
            found.kill(found.scheduler)

        killer = threading.Thread(target=kill_it)
        killer.start()
        with pytest.raises(InputError, match=r"scheduler at .* is gone"):
            list(run_tasks(mark_and_sleep, [begun], found.name))
        killer.join()
