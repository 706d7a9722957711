"""Parses the name of an executor: `serial`, `local:N`, `dask://HOST:PORT`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sdd_toolkit.errors import ConfigError

TIMEOUT_S = 3600.0
"""Default time limit of a worker on one pair, in seconds."""


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """The parsed name of an executor.

    Attributes:
        kind: `serial`, `local` or `dask`.
        workers: Number of workers; 8 for a cluster, whose number is not known yet.
        address: HOST:PORT of a scheduler, otherwise empty.
        timeout_s: Time limit of a worker on one pair.
    """

    kind: str
    workers: int
    address: str = ""
    timeout_s: float = TIMEOUT_S


def parse_spec(name: str) -> ExecutorSpec:
    """Parses the name of an executor.

    Raises:
        ConfigError: The name is none of `serial`, `local:N`, `dask://HOST:PORT`, or no time-out follows the `?`.

    Examples:
        >>> parse_spec("local:4?timeout_s=600")
        ExecutorSpec(kind='local', workers=4, address='', timeout_s=600.0)
    """
    executor, question_mark, option = name.partition("?")
    timeout_s = _parse_timeout(name, option) if question_mark else TIMEOUT_S
    if executor == "serial" and not question_mark:
        return ExecutorSpec("serial", 1)
    kind, _, rest = executor.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest) >= 1:
        return ExecutorSpec("local", int(rest), timeout_s=timeout_s)
    if kind == "dask" and rest.startswith("//") and ":" in rest[2:]:
        return ExecutorSpec("dask", 8, rest[2:], timeout_s)
    raise ConfigError(
        f"unknown executor {name!r}",
        hint="use serial, local:N or dask://HOST:PORT; the last two may end with ?timeout_s=SECONDS",
    )


def _parse_timeout(name: str, option: str) -> float:
    key, _, value = option.partition("=")
    if key != "timeout_s" or not value.replace(".", "", 1).isdecimal() or float(value) <= 0:
        raise ConfigError(f"executor {name!r}: {option!r} is no time-out", hint="e.g. local:4?timeout_s=600")
    return float(value)


def workers_of(name: str) -> int:
    """Number of workers of the executor `name`; 8 for a cluster.

    Raises:
        ConfigError: See `parse_spec`.
    """
    return parse_spec(name).workers


def default_name() -> str:
    """`local:N` with one worker for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"local:{cores or 1}"
