"""Parses the name of an executor: `serial`, `local:N`, `dask://HOST:PORT`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    pass


TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
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


def parse_spec(name: str) -> ExecutorSpec:
    """What `name` stands for.

    Raises:
        ConfigError: The name is none of `serial`, `local:N`, `dask://HOST:PORT`, or what follows `?` is no time-out.
    """
    place, asked, option = name.partition("?")
    timeout_s = _timeout_of(name, option) if asked else TIMEOUT_S
    if place == "serial" and not asked:
        return ExecutorSpec("serial", 1)
    kind, _, rest = place.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest) >= 1:
        return ExecutorSpec("local", int(rest), timeout_s=timeout_s)
    if kind == "dask" and rest.startswith("//") and ":" in rest[2:]:
        return ExecutorSpec("dask", 8, rest[2:], timeout_s)
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
    return parse_spec(name).workers


def default_name() -> str:
    """`local:N` with one worker a core this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"local:{cores or 1}"
