"""Runs tasks on a dask.distributed cluster; the loss of a worker or of the scheduler neither hangs nor goes unnoticed.

No other module imports dask. A worker runs one task at a time, with one OpenCV thread, whatever `--nthreads` says.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic

from sdd_toolkit.errors import ConfigError, InputError, MissingExtraError
from sdd_toolkit.execution.tasks import Outcome, Result, Task, TaskCall
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.spec import ExecutorSpec

CONNECT_S = 10
"""Time-out of the connection to a scheduler, and of fetching one result."""
NO_WORKER_S = 300.0
"""The longest wait for a scheduler that has no worker."""
_POLL_S = 2.0
_IN_FLIGHT_PER_WORKER = 2
# The bytes of a data set depend on these, besides the toolkit itself.
_LIBRARIES = ("numpy", "opencv-python-headless", "rawpy", "h5py", "hdf5plugin", "tifffile")
_one_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class RunningTask(Generic[Task, Result]):
    """A call on a worker of a cluster, with the conditions under which its result is the right one.

    Attributes:
        call: The function and its task.
        versions: Library versions of the main process; see `versions`.
        paths: Paths that the worker must see.
    """

    call: TaskCall[Task, Result]
    versions: dict[str, str]
    paths: tuple[Path, ...]

    def __call__(self) -> Result:
        """Runs the call.

        Raises:
            ConfigError: The worker has other versions or does not see a path.
        """
        _check_versions(self.versions)
        for path in self.paths:
            if not path.exists():
                raise ConfigError(
                    f"the worker on {_host_name()} does not see {path}",
                    hint="mount the same file system at the same path on every machine",
                )
        with _one_at_a_time:
            _use_one_opencv_thread()
            return self.call()


@cache
def versions() -> dict[str, str]:
    """Versions of the toolkit, Python and the libraries of this process that the bytes of a data set depend on."""
    import platform
    from importlib import metadata

    installed = {"sdd-toolkit": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def _check_versions(required: dict[str, str]) -> None:
    installed = versions()
    for name in sorted({*required, *installed}):
        if installed.get(name) != required.get(name):
            raise ConfigError(
                f"the worker on {_host_name()} has {name} {installed.get(name)}, this process has {required.get(name)}",
                hint="bytes would differ: install the same versions on every machine (pip install -c constraints.txt)",
            )


def _host_name() -> str:
    import socket

    return socket.gethostname()


@cache
def _use_one_opencv_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def is_needed() -> bool:
    """Whether the client still waits for the task of this thread; True outside a cluster's worker.

    A task cannot be stopped from outside. If its client is gone it must not publish its files: another run may be
    writing them.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return True
    state = worker.state.tasks.get(worker.get_current_task())
    return state is not None and state.state in ("executing", "long-running")


def run_tasks(
    calls: Iterable[TaskCall[Task, Result]], spec: ExecutorSpec, paths: Sequence[Path]
) -> Iterator[Outcome[Task, Result]]:
    """Runs the calls on a cluster and yields outcomes as they finish; see `executor.run_tasks`.

    The scheduler gives a task whose worker died to another worker, and gives it up after its `allowed-failures`; a task
    that was given up is tried once more, alone.

    Args:
        calls: A function and a task each.
        spec: Address of the scheduler.
        paths: Absolute paths that every worker must see.

    Raises:
        ConfigError: No scheduler answers, or a worker has other versions or does not see the same files.
        InputError: The scheduler is gone, or there is no worker for `NO_WORKER_S`.
        MissingExtraError: dask is not installed.
    """
    with _connected(spec.address) as cluster:
        waiting, given_up = deque(calls), deque[TaskCall[Task, Result]]()
        in_flight: dict[Any, TaskCall[Task, Result]] = {}
        is_last_try = False
        while waiting or given_up or in_flight:
            if given_up and not waiting and not in_flight:
                is_last_try = True
                waiting.append(given_up.popleft())
            while waiting and len(in_flight) < (1 if is_last_try else cluster.capacity()):
                call = waiting.popleft()
                running = RunningTask(call, versions(), tuple(paths))
                in_flight[cluster.client.submit(running, pure=False)] = call
            for future in cluster.finished(in_flight):
                try:
                    result = cluster.result_of(future)
                except _NotReady:
                    continue
                call = in_flight.pop(future)
                if not isinstance(result, _WorkerLost):
                    yield Outcome(call.task, result)
                elif is_last_try:
                    yield Outcome(call.task, None)
                else:
                    given_up.append(call)


class _WorkerLost:
    """In place of a result: its workers died more often than the scheduler allows, or the scheduler forgot the task."""


class _NotReady(Exception):  # noqa: N818 it is no error
    """The result cannot be fetched at the moment: its worker, or the scheduler, has just died."""


@dataclass(slots=True)
class Cluster:
    """A connection to a scheduler.

    Attributes:
        address: HOST:PORT of the scheduler.
        client: dask's client.
        workers: Number of workers at the last poll.
        polled_s: Time of the last poll, on the monotonic clock.
        last_worker_s: Time at which there was a worker, on the monotonic clock.
    """

    address: str
    client: Any
    workers: int = 0
    polled_s: float = -1e9
    last_worker_s: float = 0.0

    def capacity(self) -> int:
        """Number of tasks to have in flight."""
        return max(1, self.workers * _IN_FLIGHT_PER_WORKER)

    def poll(self, *, now: bool = False) -> None:
        """Checks every `_POLL_S` seconds, or now, that the scheduler answers and has workers.

        Raises:
            InputError: It does not answer, or has had no worker for too long.
        """
        clock_s = time.monotonic()
        if not now and clock_s - self.polled_s < _POLL_S:
            return
        self.polled_s = clock_s
        try:
            self.workers = len(self.client.sync(self.client.scheduler.ncores, workers=None))
        except Exception as error:  # dask raises many kinds here, and all of them mean this
            if self.client.status == "running" and not now:
                return
            raise InputError(
                f"the dask scheduler at {self.address} is gone",
                hint="start it and its workers again, then run the same again: what is finished is kept",
            ) from error
        if self.workers:
            self.last_worker_s = clock_s
        elif clock_s - self.last_worker_s > NO_WORKER_S:
            raise InputError(
                f"the dask scheduler at {self.address} has had no worker for {NO_WORKER_S:.0f} s",
                hint=f"start some: dask worker {self.address} --nthreads 1; then run the same again",
            )

    def finished(self, futures: Collection[Any]) -> list[Any]:
        """The futures that are no longer pending, after a short wait.

        Raises:
            InputError: See `poll`.
        """
        from distributed import wait

        # Cancelled ones raise here, all at once; their status tells which.
        with suppress(TimeoutError, CancelledError), self.client.as_current():
            wait(list(futures), timeout=_POLL_S, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
        self.poll()
        return [future for future in futures if future.status != "pending"]

    def result_of(self, future: Any) -> Any:
        """The result of a finished future, or `_WorkerLost`; an exception of the task is raised.

        Raises:
            _NotReady: The result cannot be fetched now; the scheduler has it computed again, or `poll` raises.
            InputError: The scheduler is gone.
            ConfigError: The toolkit is not installed on the worker.
        """
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        if future.status not in ("finished", "error"):
            # All of them when the connection breaks, and at times one that a dying worker ran.
            self.poll(now=True)
            return _WorkerLost()
        try:
            return future.result(timeout=CONNECT_S)
        except KilledWorker:
            return _WorkerLost()
        except (CancelledError, CommClosedError, TimeoutError) as error:
            self.poll(now=True)
            raise _NotReady from error
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("sdd_toolkit", "alignment", "capture", "cli"):
                raise
            raise ConfigError(
                f"a worker of {self.address} has no toolkit: {error}", hint="install it on every machine"
            ) from error


@contextmanager
def _connected(address: str) -> Iterator[Cluster]:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError.of("dask.distributed", "cluster") from error
    try:
        client: Any = Client(f"tcp://{address}", timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ConfigError(f"no dask scheduler answers at {address}", hint="start one: dask scheduler") from error
    try:
        cluster = Cluster(address, client, last_worker_s=time.monotonic())
        cluster.poll()
        yield cluster
    finally:
        # Tasks in flight are not waited for: once the client is gone the workers do not publish their results.
        with suppress(Exception):
            client.close(timeout=CONNECT_S)
