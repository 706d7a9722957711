"""Running independent tasks on this machine's cores or on a cluster, so that one bad task stops nothing.

Everything runs through the standard `concurrent.futures.Executor` interface. A stage hands over the *name* of
an executor, not the object, because a pool whose worker was killed is broken for good and must be made anew.

| name | what |
|---|---|
| `serial` | in this process |
| `local:N` | N worker processes, one OpenCV thread each |
| `dask://HOST:PORT` | a dask.distributed scheduler (extra `cluster`), see `sdd_toolkit.cluster` |

`?timeout_s=600` at the end of a name is how long a worker may work on one pair; it is killed then, and the pair counts
as timed out. The default is an hour.
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

from sdd_toolkit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Collection, Generator, Iterator, Sequence
    from concurrent.futures import Executor, Future
    from multiprocessing.process import BaseProcess
    from pathlib import Path

Task = TypeVar("Task")
Result = TypeVar("Result")

TIMEOUT_S = 3600.0
_IN_FLIGHT_PER_WORKER = 2
_PR_SET_PDEATHSIG = 1
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


@dataclass(frozen=True, slots=True)
class Where:
    """What the name of an executor says.

    Attributes:
        kind: `serial`, `local` or `dask`.
        workers: How many; a cluster counts as 8 until it is asked.
        address: HOST:PORT of a scheduler, otherwise empty.
        timeout_s: How long a worker may work on one pair.
    """

    kind: str
    workers: int
    address: str = ""
    timeout_s: float = TIMEOUT_S


def parse(name: str) -> Where:
    """What `name` stands for.

    Raises:
        ConfigError: The name is none of `serial`, `local:N`, `dask://HOST:PORT`, or what follows `?` is no time-out.
    """
    place, asked, option = name.partition("?")
    timeout_s = _timeout_of(name, option) if asked else TIMEOUT_S
    if place == "serial" and not asked:
        return Where("serial", 1)
    kind, _, rest = place.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest) >= 1:
        return Where("local", int(rest), timeout_s=timeout_s)
    if kind == "dask" and rest.startswith("//") and ":" in rest[2:]:
        return Where("dask", 8, rest[2:], timeout_s)
    raise ConfigError(
        f"unknown executor {name!r}",
        hint="use serial, local:N or dask://HOST:PORT; the last two may end with ?timeout_s=SECONDS",
    )


def _timeout_of(name: str, option: str) -> float:
    key, _, value = option.partition("=")
    if key != "timeout_s" or not value.replace(".", "", 1).isdecimal() or float(value) <= 0:
        raise ConfigError(f"executor {name!r}: {option!r} is no time-out", hint="e.g. local:4?timeout_s=600")
    return float(value)


def workers_of(name: str) -> int:
    """How many workers the executor `name` stands for (a cluster counts as 8).

    Raises:
        ConfigError: See `parse`.
    """
    return parse(name).workers


def default_name() -> str:
    """`local:N` with one worker a core this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"local:{cores or 1}"


def _one(task: object) -> int:
    return 1


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    executor: str,
    *,
    pairs: Callable[[Task], int] = _one,
    sees: Sequence[Path] = (),
) -> Iterator[Outcome[Task, Result]]:
    """Runs `function` on every task and yields outcomes as they finish, in no fixed order.

    A worker that dies (killed, out of memory) breaks its pool. What it was working on is tried once more, alone in a
    fresh pool, and lost with `result=None` if that kills its worker too; everything else in flight goes on. A task
    that takes too long is not tried again. An exception raised by `function` is a bug or a stage-wide problem and is
    raised here; expected failures belong in the result.

    Args:
        function: Picklable; must not keep state between tasks.
        tasks: Picklable.
        executor: See the module's table.
        pairs: How many pairs a task works on: it may take that many times the time-out.
        sees: Absolute paths that must exist for every worker, on whatever machine it runs.

    Raises:
        ConfigError: The executor's name is unknown, or a cluster's workers do not fit this process.
        InputError: No worker can be started, or the cluster went away.
        MissingExtraError: dask is not installed.
    """
    where = parse(executor)
    if where.kind == "serial":
        for task in tasks:
            yield Outcome(task, function(task))
    elif where.kind == "local":
        yield from _locally(function, tasks, where, pairs)
    elif tasks:
        from sdd_toolkit import cluster

        yield from cluster.run_tasks(function, tasks, where, pairs, sees)


def _locally(
    function: Callable[[Task], Result], tasks: Sequence[Task], where: Where, pairs: Callable[[Task], int]
) -> Iterator[Outcome[Task, Result]]:
    waiting, alone = deque(tasks), deque[Task]()
    fruitless = 0
    while waiting or alone:
        trial = bool(alone)
        queue = deque([alone.popleft()]) if trial else waiting
        crew = Crew(1 if trial else where.workers, where.timeout_s)
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
                except (BrokenExecutor, OSError):
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


@contextmanager
def _opened(crew: Crew) -> Iterator[Executor]:
    # Here, not above: a command that finds nothing to do need not load what makes processes.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # spawn, not fork: OpenCV and torch threads of the parent do not survive a fork.
    spawning = get_context("spawn")
    pool = ProcessPoolExecutor(crew.workers, spawning, initializer=_enlist, initargs=(crew.begun,))
    try:
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            # Ctrl-C, or nobody wants the results any more: a shard can take minutes, and its half is worth nothing.
            crew.kill()
        raise
    finally:
        workers = set(active_children()) - others
        pool.shutdown(wait=False, cancel_futures=True)
        _see_off(workers)


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


def _enlist(begun: ctypes.Array[ctypes.c_long]) -> None:
    global _begun
    _begun = begun
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


def abandoned() -> bool:
    """Whether nobody waits any more for what this process works on: another run may be at it by now.

    A local worker dies with its main process; only one of a cluster can be left behind.
    """
    if not on_cluster():
        return False
    from sdd_toolkit import cluster

    return not cluster.wanted()


def on_cluster() -> bool:
    """Whether this may be a cluster's worker: another one may have been given the same task."""
    return "distributed" in sys.modules


def prepare_worker() -> None:
    """One OpenCV thread a worker process; Ctrl-C is the main process's business, and its death ends the worker."""
    import ctypes
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _ALARM is not None:
        signal.signal(_ALARM, signal.SIG_DFL)
    if sys.platform == "linux":
        # Without this the workers of a killed run would wait for ever, or write beside those of the next run.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is not None and os.getppid() != parent.pid:
            # It died before it could be watched.
            os._exit(1)
    import cv2

    cv2.setNumThreads(1)
