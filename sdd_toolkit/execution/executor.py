"""Running independent tasks on this machine's cores or on a cluster, so that one bad task stops nothing.

Everything runs through the standard `concurrent.futures.Executor` interface. A stage hands over the *name* of
an executor, not the object, because a pool whose worker was killed is broken for good and must be made anew.

| name | what |
|---|---|
| `serial` | in this process, with one OpenCV thread |
| `local:N` | N worker processes, one OpenCV and LibRaw thread each |
| `dask://HOST:PORT` | a dask.distributed scheduler (extra `cluster`), see `sdd_toolkit.execution.dask_cluster` |

`?timeout_s=600` at the end of a name is how long a worker may work on one pair; it is killed then, and the pair counts
as timed out. The default is an hour.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sdd_toolkit.execution.process_pool import (
    Outcome,
    Result,
    Task,
    keep_memory,
    one_opencv_thread,
    run_locally,
    start_server,
)
from sdd_toolkit.execution.spec import parse_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


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
    where = parse_spec(executor)
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
        from sdd_toolkit.execution import dask_cluster

        yield from dask_cluster.run_tasks(function, tasks, where, pairs, sees)


def start_workers_early(executor: str, modules: Sequence[str]) -> None:
    """Has worker processes of this machine prepared while this process goes on, for a run that will have tasks.

    Args:
        executor: See the module's table.
        modules: What they will need.
    """
    where = parse_spec(executor)
    if where.kind == "local":
        start_server(modules)


def is_orphaned() -> bool:
    """Whether nobody waits any more for what this process works on: another run may be at it by now.

    A local worker dies with its main process; only one of a cluster can be left behind.
    """
    if not on_cluster():
        return False
    from sdd_toolkit.execution import dask_cluster

    return not dask_cluster.wanted()


def on_cluster() -> bool:
    """Whether this may be a cluster's worker: another one may have been given the same task."""
    return "distributed" in sys.modules
