"""Runs independent tasks on this machine's cores or on a cluster; a bad task, or a dead worker, costs only that task.

A stage passes the *name* of an executor:

| name | meaning |
|---|---|
| `serial` | in this process, with one OpenCV thread |
| `local:N` | N worker processes, one OpenCV and LibRaw thread each |
| `dask://HOST:PORT` | a dask.distributed scheduler (extra `cluster`), see `sdd_toolkit.execution.dask_cluster` |

`?timeout_s=600` at the end of a name limits the seconds that a worker may take for one pair; it is then killed, and the
pair counts as timed out. The default is an hour.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sdd_toolkit.execution import landlock
from sdd_toolkit.execution.spec import parse_spec
from sdd_toolkit.execution.tasks import Outcome, Result, Task, TaskCall
from sdd_toolkit.execution.worker_setup import keep_memory, one_opencv_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sdd_toolkit.execution.landlock import FileAccess, Rules


def _one(task: object) -> int:
    return 1


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    executor: str,
    *,
    pairs: Callable[[Task], int] = _one,
    sees: Sequence[Path] = (),
    access: FileAccess | None = None,
) -> Iterator[Outcome[Task, Result]]:
    """Runs `function` on every task and yields outcomes as they finish, in no fixed order.

    A task whose worker dies (killed, out of memory) is tried once more, alone, and lost with `result=None` if that
    worker dies too; all other tasks go on. A task that takes too long is not tried again. An exception raised by
    `function` is a bug or a stage-wide problem and is raised here; expected failures belong in the result.

    Args:
        function: Picklable; must not keep state between tasks.
        tasks: Picklable.
        executor: See the module's table.
        pairs: Number of pairs of a task: it may take that many times the time-out.
        sees: Absolute paths that must exist for every worker, on whatever machine it runs.
        access: The files that workers of this machine may use; None for all. No effect with `serial` and `dask`.

    Raises:
        ConfigError: The executor's name is unknown, or a cluster's workers do not fit this process.
        InputError: No worker can be started, or the cluster went away.
        MissingExtraError: dask is not installed.
    """
    spec = parse_spec(executor)
    if not tasks:
        return
    calls = [TaskCall(function, task, spec.timeout_s * pairs(task)) for task in tasks]
    if spec.kind == "serial":
        keep_memory()
        with one_opencv_thread():
            for task in tasks:
                yield Outcome(task, function(task))
    elif spec.kind == "local":
        from sdd_toolkit.execution import process_pool

        yield from process_pool.run_locally(calls, spec.workers, _rules(function, tasks, access))
    else:
        from sdd_toolkit.execution import dask_cluster

        yield from dask_cluster.run_tasks(calls, spec, sees)


def _rules(function: Callable[..., object], tasks: Sequence[object], access: FileAccess | None) -> Rules | None:
    """The rules of workers that call `function`; they also import what it and its tasks are defined in."""
    if access is None:
        return None
    landlock.report_missing()
    landlock.create_folders(access)
    modules = {type(task).__module__ for task in tasks}
    while isinstance(function, partial):
        modules |= {type(value).__module__ for value in (*function.args, *function.keywords.values())}
        function = function.func
    return landlock.rules_of(access, {*modules, function.__module__})


def start_workers_early(executor: str, modules: Sequence[str]) -> None:
    """Starts the fork server of local workers while this process goes on, for a run that will have tasks.

    Args:
        executor: See the module's table.
        modules: Modules that the workers will need.
    """
    if sys.platform == "linux" and parse_spec(executor).kind == "local":
        from sdd_toolkit.execution import fork_server

        with suppress(OSError):
            fork_server.start(modules)


def is_orphaned() -> bool:
    """Whether the main process is gone: results are no longer needed, and another run may be writing the same files.

    A local worker dies with its main process; only a worker of a cluster can outlive it.
    """
    if not on_cluster():
        return False
    from sdd_toolkit.execution import dask_cluster

    return not dask_cluster.is_needed()


def on_cluster() -> bool:
    """Whether this process may be a worker of a cluster, where another worker may have been given the same task."""
    return "distributed" in sys.modules
