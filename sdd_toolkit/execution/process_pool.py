"""Worker processes on this machine: a `pebble.ProcessPool` whose dead workers cost only the tasks that they ran."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import context
from typing import TYPE_CHECKING, Any

import pebble

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution import fork_server
from sdd_toolkit.execution.tasks import Outcome, Result, Task, TaskCall
from sdd_toolkit.execution.worker_setup import ALARM, initialise_worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from multiprocessing.process import BaseProcess

    from sdd_toolkit.execution.landlock import Rules

_IN_FLIGHT_PER_WORKER = 2
# A pool that breaks before any task ends says nothing about the tasks; so many in a row are the machine's fault.
_FRUITLESS_POOLS = 3
_POLL_S = 1.0
_ALARM_MARGIN_S = 120.0
_CLEAN_EXIT = 256
# At the end of a pool two of its threads wait this long each.
pebble.CONSTS.sleep_unit = 0.02
# A worker that is killed while it receives or sends keeps the lock of the pipes; the others end after this long, and
# their tasks are done again.
pebble.CONSTS.channel_lock_timeout = 5


class _Worker(context.Process):
    """A worker process: forked on Linux, spawned elsewhere and where the fork server cannot start."""

    # Of processes that the worker itself starts; `fork` would not be safe.
    _start_method = "spawn"
    _was_found_dead = False

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 the name in multiprocessing
        if sys.platform == "linux":
            with suppress(OSError):
                fork_server.start()
                return context.ForkServerProcess._Popen(process)
        return context.SpawnProcess._Popen(process)

    def is_alive(self) -> bool:
        """A dead worker counts as alive once: pebble may not have read yet which task it began or finished."""
        was_found_dead, self._was_found_dead = self._was_found_dead, not super().is_alive()
        return not was_found_dead

    def terminate(self) -> None:
        """Kills it: a worker has nothing to tidy up, and a stopped one would not notice another signal."""
        self._was_found_dead = True
        self.kill()

    @property
    def exitcode(self) -> int | None:
        """Never 0: pebble takes it for a planned end and would wait forever for the task of that worker."""
        return _CLEAN_EXIT if super().exitcode == 0 else super().exitcode


class _Context(context.SpawnContext):
    """Starts the workers of one pool and remembers the latest."""

    def __init__(self, workers: int) -> None:
        self.started = deque[_Worker](maxlen=2 * workers)

    def Process(self, **options: Any) -> _Worker:  # type: ignore[override]  # noqa: N802 the name in multiprocessing
        self.started.append(_Worker(**options))
        return self.started[-1]


def run_locally(
    calls: Iterable[TaskCall[Task, Result]], workers: int, rules: Rules | None = None
) -> Iterator[Outcome[Task, Result]]:
    """Runs the calls in `workers` processes that may do what `rules` allow; see `executor.run_tasks`."""
    died = yield from _run_in_pools(calls, workers, rules)
    # Alone: if it was memory that ran out, the other tasks may have taken it.
    died = yield from _run_in_pools([call for call, _ in died], 1, rules)
    yield from (outcome for _, outcome in died)


def _run_in_pools(
    calls: Iterable[TaskCall[Task, Result]], workers: int, rules: Rules | None
) -> Generator[Outcome[Task, Result], None, list[tuple[TaskCall[Task, Result], Outcome[Task, Result]]]]:
    """Yields outcomes, with a new pool whenever one breaks; returns the calls whose worker died."""
    waiting, died, fruitless = deque(calls), [], 0
    while waiting:
        in_flight: dict[pebble.ProcessFuture[Result], TaskCall[Task, Result]] = {}
        fruitless += 1
        method = _Context(workers)
        with _open_pool(workers, method, rules) as pool:
            while pool.active and (waiting or in_flight):
                with suppress(RuntimeError):  # the pool is broken
                    while waiting and len(in_flight) < workers * _IN_FLIGHT_PER_WORKER:
                        future = pool.schedule(waiting[0], timeout=None if ALARM else waiting[0].limit_s)
                        in_flight[future] = waiting.popleft()
                for future in _wait_for_any(pool, in_flight):
                    fruitless = 0
                    call = in_flight.pop(future)
                    outcome = _outcome_of(call.task, future)
                    if outcome.exit_code is None:
                        yield outcome
                    else:
                        died.append((call, outcome))
        waiting.extendleft(reversed(in_flight.values()))
        if fruitless == _FRUITLESS_POOLS:
            codes = sorted({str(worker.exitcode) for worker in method.started})
            raise InputError(
                f"worker processes end before they begin (exit codes {', '.join(codes)})",
                hint="is there memory for them? try fewer workers, or --executor serial",
            )
    return died


def _wait_for_any(
    pool: pebble.ProcessPool, in_flight: dict[pebble.ProcessFuture[Result], TaskCall[Task, Result]]
) -> list[pebble.ProcessFuture[Result]]:
    """The finished ones, at least one unless the pool is broken; a pool that is silent for too long is stopped."""
    longest_s = max((call.limit_s for call in in_flight.values()), default=0) + _ALARM_MARGIN_S
    began_s = time.monotonic()
    while not wait(in_flight, _POLL_S, FIRST_COMPLETED).done and pool.active:
        if time.monotonic() - began_s > longest_s:
            pool.stop()
    return [future for future in in_flight if future.done() and not isinstance(future.exception(), BrokenProcessPool)]


def _outcome_of(task: Task, future: pebble.ProcessFuture[Result]) -> Outcome[Task, Result]:
    try:
        return Outcome(task, future.result())
    except pebble.ProcessExpired as error:
        if ALARM and error.exitcode == -ALARM:
            return Outcome(task, None, timed_out=True)
        return Outcome(task, None, exit_code=0 if error.exitcode == _CLEAN_EXIT else error.exitcode)
    except TimeoutError as error:
        if error.__cause__:  # raised by the function
            raise
        return Outcome(task, None, timed_out=True)


@contextmanager
def _open_pool(workers: int, method: _Context, rules: Rules | None) -> Iterator[pebble.ProcessPool]:
    """A pool that is started and stopped by a thread: Ctrl-C interrupts the main thread alone, and at any moment."""
    pool = pebble.ProcessPool(workers, 0, initialise_worker, (dict(os.environ), rules), method)
    with ThreadPoolExecutor(1) as keeper:
        try:
            with fork_server.sigint_blocked():  # in all that the thread starts, too
                started = keeper.submit(_start, pool)
            started.result()
            yield pool
        finally:
            keeper.submit(_stop, pool, method).result()


def _start(pool: pebble.ProcessPool) -> None:
    try:
        _ = pool.active
    except BrokenProcessPool:
        pool.stop()


def _stop(pool: pebble.ProcessPool, method: _Context) -> None:
    pool.stop()
    # First of all: a worker that begins with its pool gone would print a traceback.
    for worker in method.started:
        if worker.pid:
            worker.terminate()
    pool.join()
