"""Worker processes on this machine: a pool made anew when a worker dies, and the task found that it died on.

Everything runs through `concurrent.futures.ProcessPoolExecutor`; a shared array tells which process is at which task.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution import fork_server

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

Task = TypeVar("Task")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 2
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
# A pool that broke before anything was begun says nothing about the tasks; so many in a row are the machine's fault.
_FRUITLESS_POOLS = 3
# Beyond what the workers' own alarms allow: for systems without them, and for a pool that lost its voice.
_PATIENCE_S = 120.0
_ALARM = getattr(signal, "SIGALRM", None)
# What a broken pool does to the workers that are still there; None: it is not known how they ended.
_ENDED_BY_POOL = (None, -signal.SIGTERM)
_begun: ctypes.Array[ctypes.c_long] | None = None
GRACE_S = 10
"""How long a worker may take to end once there is no work left."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """One finished task: its result, or None where the worker process died on it or was killed for taking too long."""

    task: Task
    result: Result | None
    timed_out: bool = False


def run_locally(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    pairs: Callable[[Task], int],
    workers: int,
    timeout_s: float,
) -> Iterator[Outcome[Task, Result]]:
    """See `executor.run_tasks`; `timeout_s` is that of one pair."""
    waiting, alone = deque(tasks), deque[Task]()
    fruitless = 0
    while waiting or alone:
        trial = bool(alone)
        queue = deque([alone.popleft()]) if trial else waiting
        # Where the server's workers do not even begin, those that need no server may.
        crew = Crew(1 if trial else workers, timeout_s, forking=not fruitless)
        flight = yield from _drain(crew, function, queue, pairs)
        killers, late, others = crew.blame(flight)
        yield from (Outcome(task, None, timed_out=True) for task in late)
        if trial:
            yield from (Outcome(task, None) for task in killers)
            alone.extendleft(reversed([*others, *queue]))
        else:
            alone.extend(killers)
            waiting.extendleft(reversed(others))
        fruitless = 0 if crew.landed or killers or late else fruitless + 1
        if fruitless == _FRUITLESS_POOLS:
            raise InputError(
                f"worker processes end before they begin{crew.how_they_ended()}",
                hint="is there memory for them? try fewer workers, or --executor serial",
            )


@dataclass(slots=True)
class Crew:
    """The worker processes of one pool, and which of them is at which task."""

    workers: int
    timeout_s: float
    forking: bool = True
    begun: ctypes.Array[ctypes.c_long] = field(init=False)
    strangers: frozenset[BaseProcess] = field(init=False)
    processes: set[BaseProcess] = field(default_factory=set)
    landed: int = 0
    overdue: bool = False

    def __post_init__(self) -> None:
        from multiprocessing import active_children, get_context

        # Shared with the workers: the process that has begun the task in each of the places in flight.
        self.begun = get_context("spawn").RawArray("l", self.workers * _IN_FLIGHT_PER_WORKER)
        self.strangers = frozenset(active_children())

    def muster(self) -> None:
        """Notes which processes the pool has started; once it is broken their exit codes tell why."""
        from multiprocessing import active_children

        if len(self.processes) < self.workers:
            self.processes.update(set(active_children()) - self.strangers)

    def kill(self) -> None:
        """Ends all of them at once."""
        self.muster()
        for process in self.processes:
            process.kill()

    def blame(self, flight: dict[int, Task]) -> tuple[list[Task], list[Task], list[Task]]:
        """Which tasks of a broken pool's `flight` its dead worker was at, which took too long, and the others.

        The pool ends its other workers with SIGTERM. If no worker ended otherwise, all that were at work are suspects.
        """
        ended = {process.pid: process.exitcode for process in self.processes}
        codes = {place: ended.get(self.begun[place]) for place in flight if self.begun[place]}
        late = [place for place, code in codes.items() if _ALARM is not None and code == -_ALARM]
        dead = [place for place, code in codes.items() if code not in _ENDED_BY_POOL and place not in late]
        if all(code in _ENDED_BY_POOL for code in ended.values()):
            dead = list(codes)
        if self.overdue and self.workers == 1:
            dead, late = [], [*dead, *late]
        others = [place for place in flight if place not in (*dead, *late)]
        killers, slow, innocent = ([flight[place] for place in places] for places in (dead, late, others))
        return killers, slow, innocent

    def how_they_ended(self) -> str:
        """Exit codes, for a message."""
        codes = sorted({process.exitcode for process in self.processes if process.exitcode is not None})
        return f" (exit codes {', '.join(map(str, codes))})" if codes else ""


def _drain(
    crew: Crew, function: Callable[[Task], Result], waiting: deque[Task], pairs: Callable[[Task], int]
) -> Generator[Outcome[Task, Result], None, dict[int, Task]]:
    """Outcomes until nothing waits or the pool broke; returns what was in flight then, by its place."""
    free = list(range(len(crew.begun)))
    lost: dict[int, Task] = {}
    with _opened(crew) as pool:
        flying: dict[Future[Result], tuple[int, Task]] = {}
        broken = False
        while flying or (waiting and not broken):
            while waiting and not broken and free:
                task, place = waiting.popleft(), free.pop()
                crew.begun[place] = 0
                try:
                    with _deaf_to_interrupts():
                        future = pool.submit(_begin, function, task, place, crew.timeout_s * pairs(task))
                    flying[future] = place, task
                except (BrokenExecutor, OSError, EOFError):
                    # Nothing of it was begun: the process for it could not be made.
                    waiting.appendleft(task)
                    free.append(place)
                    broken = True
                crew.muster()
            done = _awaited(crew, flying, pairs)
            for future in done:
                place, task = flying.pop(future)
                try:
                    outcome = Outcome(task, future.result())
                except BrokenExecutor:
                    lost[place] = task
                    broken = True
                else:
                    crew.landed += 1
                    free.append(place)
                    yield outcome
    return lost


def _awaited(
    crew: Crew, flying: dict[Future[Result], tuple[int, Task]], pairs: Callable[[Task], int]
) -> set[Future[Result]]:
    """Those that are done, at least one; a crew that should have been heard of long ago is killed, which breaks it."""
    if not flying:
        return set()
    longest_s = crew.timeout_s * max(pairs(task) for _, task in flying.values()) + _PATIENCE_S
    done = wait(flying, timeout=min(longest_s, 1e6), return_when=FIRST_COMPLETED).done
    while not done:
        crew.overdue = True
        crew.kill()
        done = wait(flying, timeout=1.0, return_when=FIRST_COMPLETED).done
    return done


def start_server(modules: Sequence[str] | None = None, *, forking: bool = True) -> BaseContext:
    """See `worker_server.context`; the server imports while this process goes on."""
    # Here, not above: a command that finds nothing to do need not load what makes processes.
    from multiprocessing import resource_tracker

    # First: when this starts, it lets SIGINT through again.
    resource_tracker.ensure_running()
    with _deaf_to_interrupts():
        return fork_server.context(forking=forking, modules=modules)


@contextmanager
def _opened(crew: Crew) -> Iterator[Executor]:
    from concurrent.futures import ProcessPoolExecutor

    context = start_server(forking=crew.forking)
    pool = ProcessPoolExecutor(crew.workers, context, initializer=_enlist, initargs=(crew.begun, dict(os.environ)))
    try:
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            # Ctrl-C, or nobody wants the results any more: a shard can take minutes, and its half is worth nothing.
            crew.kill()
        raise
    finally:
        crew.muster()
        pool.shutdown(wait=False, cancel_futures=True)
        _see_off(crew.processes)


def _see_off(workers: Collection[BaseProcess]) -> None:
    """Waits for workers that have nothing left to do; one that was stopped or hangs is killed instead."""
    end = time.monotonic() + GRACE_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


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


def _enlist(begun: ctypes.Array[ctypes.c_long], environment: Mapping[str, str]) -> None:
    """The environment is that of the main process now, not when it started the server."""
    global _begun
    _begun = begun
    os.environ.clear()
    os.environ.update(environment)
    prepare_worker()


def _begin(function: Callable[[Task], Result], task: Task, place: int, limit_s: float) -> Result:
    if _begun is not None:
        _begun[place] = os.getpid()
    with time_limit(limit_s):
        return function(task)


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """This process is killed if what it does takes longer, even if it hangs inside a library. Not on Windows."""
    if _ALARM is None:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def prepare_worker() -> None:
    """One thread of OpenCV and of LibRaw a worker; Ctrl-C is the main process's business, its death ends the worker."""
    import ctypes
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _ALARM is not None:
        signal.signal(_ALARM, signal.SIG_DFL)
    if sys.platform == "linux":
        # Without this the workers of a killed run would wait for ever, or write beside those of the next run.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        main = parent_process()
        server = sys.modules.get("sdd_toolkit.execution.fork_server_preload")
        if main is not None and os.getppid() not in (main.pid, getattr(server, "SERVER_PID", None)):
            # It died before it could be watched.
            os._exit(1)
        # From here on the server dies with the main process, and this worker with the server.
        fork_server.let_go()
    keep_memory()
    # LibRaw's, read when its library is loaded, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Work in small tiles is slower in several: they wait for each other more than they do."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


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
