"""A task as every executor handles it: the call that a worker gets, and the outcome that comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from sdd_toolkit.execution.worker_setup import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TaskCall(Generic[Task, Result]):
    """The call of `function` on one task, for `limit_s` seconds at most; both must be picklable."""

    function: Callable[[Task], Result]
    task: Task
    limit_s: float

    def __call__(self) -> Result:
        """The result of the function; the process is killed if it takes too long."""
        with time_limit(self.limit_s):
            return self.function(self.task)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Task, Result]):
    """One finished task, whichever executor ran it.

    Attributes:
        task: The task.
        result: What the function returned; None if the worker process died or was killed.
        timed_out: Whether the worker was killed because the task took too long.
        exit_code: Exit code of the local worker that died of the task, negative for a signal; None in all other cases.
    """

    task: Task
    result: Result | None
    timed_out: bool = False
    exit_code: int | None = None
