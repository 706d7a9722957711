"""Running independent tasks on this machine's cores or on a cluster, so that one bad task stops nothing.

Everything runs through the standard `concurrent.futures.Executor` interface. A stage hands over the *name* of
an executor, not the object, because a pool whose worker was killed is broken for good and must be made anew.

| name | what |
|---|---|
| `serial` | in this process, with one OpenCV thread |
| `local:N` | N worker processes, one OpenCV and LibRaw thread each |
| `dask://HOST:PORT` | a dask.distributed scheduler (extra `cluster`), see `sdd_toolkit.cluster` |

`?timeout_s=600` at the end of a name is how long a worker may work on one pair; it is killed then, and the pair counts
as timed out. The default is an hour.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.errors import ConfigError
from sdd_toolkit.local_workers import Outcome, Result, Task, keep_memory, one_opencv_thread, run_locally, start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TIMEOUT_S = 3600.0


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
    if not tasks:
        return
    if where.kind == "serial":
        keep_memory()
        with one_opencv_thread():
            for task in tasks:
                yield Outcome(task, function(task))
    elif where.kind == "local":
        yield from run_locally(function, tasks, pairs, where.workers, where.timeout_s)
    else:
        from sdd_toolkit import cluster

        yield from cluster.run_tasks(function, tasks, where, pairs, sees)


def make_ready(executor: str, modules: Sequence[str]) -> None:
    """Has worker processes of this machine prepared while this process goes on, for a run that will have tasks.

    Args:
        executor: See the module's table.
        modules: What they will need.
    """
    where = parse(executor)
    if where.kind == "local":
        start_server(modules)


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
