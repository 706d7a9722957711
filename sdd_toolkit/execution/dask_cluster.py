"""Running tasks on a dask.distributed cluster, so that no loss of a worker, or of the scheduler, hangs or goes unseen.

The only importer of dask. A worker does one task at a time, with one OpenCV thread, whatever `--nthreads` says.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sdd_toolkit.errors import ConfigError, InputError, MissingExtraError
from sdd_toolkit.execution.process_pool import Outcome, time_limit
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.spec import ExecutorSpec

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_S = 10
NO_WORKER_S = 300.0
_POLL_S = 2.0
_IN_FLIGHT_PER_WORKER = 2
# What the bytes of a data set depend on, besides the toolkit itself.
_LIBRARIES = ("numpy", "opencv-python-headless", "rawpy", "h5py", "hdf5plugin", "tifffile")
_turn = Lock()


@dataclass(frozen=True, slots=True)
class Errand(Generic[Task, Result]):
    """What a cluster's worker gets: the task, and what must be so for its result to be the right one."""

    function: Callable[[Task], Result]
    task: Task
    limit_s: float
    versions: dict[str, str]
    sees: tuple[Path, ...]

    def __call__(self) -> Result:
        """Does it, or refuses."""
        _check_versions(self.versions)
        for path in self.sees:
            if not path.exists():
                raise ConfigError(
                    f"the worker on {_host()} does not see {path}",
                    hint="mount the same file system at the same path on every machine",
                )
        with _turn:
            _prepare()
            with time_limit(self.limit_s):
                return self.function(self.task)


@cache
def versions() -> dict[str, str]:
    """The versions that the bytes of a data set depend on, of this process."""
    import platform
    from importlib import metadata

    found = {"sdd-toolkit": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _check_versions(wanted: dict[str, str]) -> None:
    mine = versions()
    for name in sorted({*wanted, *mine}):
        if mine.get(name) != wanted.get(name):
            raise ConfigError(
                f"the worker on {_host()} has {name} {mine.get(name)}, this process has {wanted.get(name)}",
                hint="bytes would differ: install the same versions on every machine (pip install -c constraints.txt)",
            )


def _host() -> str:
    import socket

    return socket.gethostname()


@cache
def _prepare() -> None:
    import cv2

    cv2.setNumThreads(1)


def wanted() -> bool:
    """Whether the task this thread works on is still waited for; True outside a cluster's worker.

    A task cannot be stopped from outside. One whose client went away must not publish what it wrote: another run may
    be at it.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return True
    found = worker.state.tasks.get(worker.get_current_task())
    return found is not None and found.state in ("executing", "long-running")


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    where: ExecutorSpec,
    pairs: Callable[[Task], int],
    sees: Sequence[Path],
) -> Iterator[Outcome[Task, Result]]:
    """As `executor.run_tasks`, on a cluster.

    The scheduler gives a task whose worker died to another worker, and gives it up when its `allowed-failures` are
    used up; what was given up is tried once more, alone.

    Raises:
        ConfigError: No scheduler answers, or a worker has other versions or does not see the same files.
        InputError: The scheduler is gone, or there is no worker for `NO_WORKER_S`.
        MissingExtraError: dask is not installed.
    """
    with _connected(where.address) as cluster:
        waiting, alone = deque(tasks), deque[Task]()
        flying: dict[Any, Task] = {}
        trial = False
        while waiting or alone or flying:
            if alone and not waiting and not flying:
                trial = True
                waiting.append(alone.popleft())
            while waiting and len(flying) < (1 if trial else cluster.room()):
                task = waiting.popleft()
                errand = Errand(function, task, where.timeout_s * pairs(task), versions(), tuple(sees))
                flying[cluster.client.submit(errand, pure=False)] = task
            for future in cluster.landed(flying):
                try:
                    result = cluster.outcome(future)
                except _Later:
                    continue
                task = flying.pop(future)
                if not isinstance(result, _Lost):
                    yield Outcome(task, result)
                elif trial:
                    yield Outcome(task, None)
                else:
                    alone.append(task)


class _Lost:
    """The worker died on it, more often than the scheduler allows, or the scheduler has forgotten it."""


class _Later(Exception):  # noqa: N818 it is no error
    """The result could not be fetched: its worker has just died, or the scheduler has."""


@dataclass(slots=True)
class Cluster:
    """A connection to a scheduler."""

    address: str
    client: Any
    workers: int = 0
    asked_s: float = -1e9
    last_worker_s: float = 0.0

    def room(self) -> int:
        """How many tasks to have in flight."""
        return max(1, self.workers * _IN_FLIGHT_PER_WORKER)

    def check(self, *, now: bool = False) -> None:
        """Sees from time to time, or now, whether there is a scheduler, and whether it has workers.

        Raises:
            InputError: There is none, or it has had no worker for too long.
        """
        clock_s = time.monotonic()
        if not now and clock_s - self.asked_s < _POLL_S:
            return
        self.asked_s = clock_s
        try:
            self.workers = len(self.client.sync(self.client.scheduler.ncores, workers=None))
        except Exception as error:  # dask raises many kinds here, and all of them mean this
            if self.client.status == "running" and not now:
                return
            raise self.gone() from error
        if self.workers:
            self.last_worker_s = clock_s
        elif clock_s - self.last_worker_s > NO_WORKER_S:
            raise InputError(
                f"the dask scheduler at {self.address} has had no worker for {NO_WORKER_S:.0f} s",
                hint=f"start some: dask worker {self.address} --nthreads 1; then run the same again",
            )

    def landed(self, flying: Collection[Any]) -> list[Any]:
        """Those that are no longer pending, after waiting for a moment.

        Raises:
            InputError: See `check`.
        """
        from distributed import wait

        # Cancelled ones raise here, all at once; their status tells which.
        with suppress(TimeoutError, CancelledError), self.client.as_current():
            wait(list(flying), timeout=_POLL_S, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
        self.check()
        return [future for future in flying if future.status != "pending"]

    def outcome(self, future: Any) -> Any:
        """The result, or `_Lost`; what the task raised is raised.

        Raises:
            _Later: The result cannot be fetched now; the scheduler will have it made again, or `check` will tell.
            InputError: The scheduler is gone.
        """
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        if future.status not in ("finished", "error"):
            # All of them when the connection breaks, and at times one that a dying worker was at.
            self.check(now=True)
            return _Lost()
        try:
            return future.result(timeout=CONNECT_S)
        except KilledWorker:
            return _Lost()
        except (CancelledError, CommClosedError, TimeoutError) as error:
            self.check(now=True)
            raise _Later from error
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("sdd_toolkit", "alignment", "capture", "cli"):
                raise
            raise ConfigError(
                f"a worker of {self.address} has no toolkit: {error}", hint="install it on every machine"
            ) from error

    def gone(self) -> InputError:
        """The error for a scheduler that does not answer any more."""
        return InputError(
            f"the dask scheduler at {self.address} is gone",
            hint="start it and its workers again, then run the same again: what is finished is kept",
        )


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
        cluster.check()
        yield cluster
    finally:
        # What is in flight is not waited for: when the client is gone the workers do not publish it.
        with suppress(Exception):
            client.close(timeout=CONNECT_S)
