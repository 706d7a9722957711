"""Running independent tasks on this machine's cores or on a cluster, so that one bad task stops nothing.

Everything runs through the standard `concurrent.futures.Executor` interface. A stage hands over the *name* of
an executor, not the object, because a pool whose worker was killed is broken for good and must be made anew.

| name | what |
|---|---|
| `serial` | in this process |
| `local:N` | N worker processes, one OpenCV and LibRaw thread each |
| `dask://HOST:PORT` | a dask.distributed scheduler (extra `cluster`) |
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sdd_toolkit.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future

Task = TypeVar("Task")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 2
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
DASK_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """One finished task: its result, or None where the worker process died on it."""

    task: Task
    result: Result | None


def workers_of(name: str) -> int:
    """How many workers the executor `name` stands for (a cluster counts as 8 in flight).

    Raises:
        ConfigError: The name is none of `serial`, `local:N`, `dask://HOST:PORT`.
    """
    if name == "serial":
        return 1
    kind, _, rest = name.partition(":")
    if kind == "local" and rest.isdigit() and int(rest) >= 1:
        return int(rest)
    if kind == "dask" and rest.startswith("//") and ":" in rest[2:]:
        return 8
    raise ConfigError(f"unknown executor {name!r}", hint="use serial, local:N or dask://HOST:PORT")


def default_name() -> str:
    """`local:N` with one worker a core this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"local:{cores or 1}"


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], executor: str
) -> Iterator[Outcome[Task, Result]]:
    """Runs `function` on every task and yields outcomes as they finish, in no fixed order.

    A worker that dies (killed, out of memory) breaks its pool: the tasks that were in flight are then run one
    at a time in fresh pools, so that only the culprit is lost, with `result=None`. An exception raised by
    `function` is a bug or a stage-wide problem and is raised here; expected failures belong in the result.

    Args:
        function: Picklable; must not keep state between tasks.
        tasks: Picklable.
        executor: See the module's table.

    Raises:
        ConfigError: The executor's name is unknown.
        MissingExtraError: dask is not installed.
    """
    workers = workers_of(executor)
    if executor == "serial":
        keep_memory()
        for task in tasks:
            yield Outcome(task, function(task))
        return
    waiting = deque(tasks)
    while waiting:
        suspects: list[Task] = []
        with _opened(executor) as pool:
            yield from _drain(pool, function, waiting, suspects, limit=workers * _IN_FLIGHT_PER_WORKER)
        for task in suspects:
            yield _alone(function, task, executor)


def _drain(
    pool: Executor,
    function: Callable[[Task], Result],
    waiting: deque[Task],
    suspects: list[Task],
    limit: int,
) -> Iterator[Outcome[Task, Result]]:
    flying: dict[Future[Result], Task] = {}
    broken = False
    while flying or (waiting and not broken):
        while waiting and not broken and len(flying) < limit:
            task = waiting.popleft()
            try:
                with _deaf_to_interrupts():
                    future = pool.submit(function, task)
                flying[future] = task
            except BrokenExecutor:
                waiting.appendleft(task)
                broken = True
        for future in wait(flying, return_when=FIRST_COMPLETED).done:
            task = flying.pop(future)
            try:
                yield Outcome(task, future.result())
            except BrokenExecutor:
                suspects.append(task)
                broken = True


def _alone(function: Callable[[Task], Result], task: Task, executor: str) -> Outcome[Task, Result]:
    with _opened("local:1" if executor.startswith("local") else executor) as pool:
        try:
            with _deaf_to_interrupts():
                future = pool.submit(function, task)
            return Outcome(task, future.result())
        except BrokenExecutor:
            return Outcome(task, None)


@contextmanager
def _opened(name: str) -> Iterator[Executor]:
    if name.startswith("dask:"):
        with _dask_client(name) as pool:
            yield pool
        return
    # Here, not above: a command that finds nothing to do need not load what makes processes.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children, get_context

    others = set(active_children())
    # spawn, not fork: OpenCV and torch threads of the parent do not survive a fork.
    pool = ProcessPoolExecutor(workers_of(name), mp_context=get_context("spawn"), initializer=prepare_worker)
    try:
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            # Ctrl-C, or nobody wants the results any more: a shard can take minutes, and its half is worth nothing.
            for worker in set(active_children()) - others:
                worker.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here inherit a blocked SIGINT: one would meet Ctrl-C with a traceback while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _dask_client(name: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError.of("dask.distributed", "cluster") from error
    address = "tcp:" + name.partition(":")[2]
    try:
        client: Any = Client(address, timeout=DASK_TIMEOUT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise ConfigError(f"no dask scheduler answers at {address}", hint="start one: dask scheduler") from error
    with client:
        yield client.get_executor(pure=False)


def prepare_worker() -> None:
    """One thread of OpenCV and of LibRaw a worker; Ctrl-C is the main process's business, its death ends the worker."""
    import ctypes
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Without this the workers of a killed run would wait for ever, or write beside those of the next run.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is not None and os.getppid() != parent.pid:
            # It died before it could be watched.
            os._exit(1)
    keep_memory()
    # LibRaw's, read when its library is loaded, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)


def keep_memory() -> None:
    """Lets this process keep what it freed: the arrays of frames come and go, and new pages cost as much as the work.

    By itself glibc hands every large array back to the system at once. Elsewhere this does nothing.
    """
    import ctypes

    if sys.platform != "linux":
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    set_option(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)
