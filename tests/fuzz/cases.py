"""Fuzzing targets: a reader, an intact file, and the damaged files made from it, which a forked child reads."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sdd_toolkit.errors import SddError
from tests.fuzz.mutation import as_text, damaged, distorted

CASE_LIMIT_S = 10
MEMORY_LIMIT_BYTES = 2 << 30


class Hang(BaseException):
    """A case took too long."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader under attack.

    Attributes:
        name: What is attacked.
        file: Name of the file it reads; may lie in a folder.
        seeds: Intact contents.
        read: Reads the file; its own errors are `SddError`s.
        structured: Whether every other case is distorted JSON (of one line) rather than damaged bytes.
        seal: What is done to a case before it is written, such as putting its checksum right.
        fixed: The content of every case; None where cases are made from the seeds.
    """

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    structured: bool = False
    seal: Callable[[bytes], bytes] = bytes
    fixed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of all cases of a target.

    Attributes:
        cases: How many were tried.
        refused: How many ended in an `SddError`.
        escaped: (case, what escaped) of all that ended otherwise than in an `SddError` or a result.
        peak_bytes: Most memory the process ever held.
        slowest_s: Time of the slowest case.
    """

    cases: int
    refused: int
    escaped: tuple[tuple[int, str], ...]
    peak_bytes: int
    slowest_s: float


def case_of(target: Target, number: int) -> bytes:
    """The content of one case; the same number is always the same case."""
    if target.fixed is not None:
        return target.seal(target.fixed)
    draw = random.Random(f"{target.name} {number}")
    seed = draw.choice(target.seeds)
    if not target.structured or draw.random() < 0.4:
        return target.seal(damaged(seed, draw))
    lines = [seed] if target.file.endswith(".json") else seed.split(b"\n")
    place = draw.choice([number for number, line in enumerate(lines) if line.strip()])
    lines[place] = as_text(distorted(json.loads(lines[place]), draw))
    return target.seal(b"\n".join(lines))


def attack(target: Target, numbers: range, folder: Path) -> None:
    """Tries cases by their numbers; leaves `at` (the case under way) and `outcome.json` in `folder`."""
    signal.signal(signal.SIGALRM, _hang)
    faulthandler.enable((folder / "crash").open("w"))
    limit_memory()
    path = folder / target.file
    path.parent.mkdir(parents=True, exist_ok=True)
    at = os.open(folder / "at", os.O_CREAT | os.O_WRONLY)
    refused, slowest_s, escaped = 0, 0.0, []
    for number in numbers:
        os.pwrite(at, f"{number:10d}".encode(), 0)
        path.write_bytes(case_of(target, number))
        started = time.monotonic()
        signal.alarm(CASE_LIMIT_S)
        try:
            target.read(path)
        except SddError:
            refused += 1
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            escaped.append((number, f"{type(error).__name__}: {str(error)[:200]} at {where.filename}:{where.lineno}"))
        finally:
            signal.alarm(0)
        slowest_s = max(slowest_s, time.monotonic() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (folder / "outcome.json").write_text(json.dumps([len(numbers), refused, escaped, peak, slowest_s]))


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {CASE_LIMIT_S} s")


def limit_memory() -> None:
    """From here on the process may grow by no more than the limit."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
