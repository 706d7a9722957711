"""Runs the steps of a benchmark, several at a time, in the order given; a finished step is never repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import SddError
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

STEPS = "steps"
_PACKAGES = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the toolkit.

    Attributes:
        words: After `sdd`; paths are relative to the folder of the benchmark.
        again: Words to add where `marker` exists already: that of an interrupted run.
        marker: Path relative to the folder.
    """

    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    marker: str = ""


@dataclass(frozen=True)
class Step:
    """One step of a benchmark: commands, then a function of the folder.

    Attributes:
        name: Unique; its first part, up to a slash, is the kind by which durations are compared.
        output: Its file or folder, relative to the folder of the benchmark; removed where the step has changed.
        needs: Steps that it needs.
        config: `sdd.toml` of its commands, written before they run; `{config}` in `words` is its path.
        commands: Commands of the toolkit.
        action: Called last, with the folder.
        inputs: Whatever else decides the result.
    """

    name: str
    output: str
    needs: tuple[Step, ...] = ()
    config: str = ""
    commands: tuple[Command, ...] = ()
    action: Callable[[Path], None] | None = None
    inputs: tuple[object, ...] = field(default=())

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the step, and with any step that it needs."""
        words = [list(command.words) for command in self.commands]
        needs = [step.fingerprint for step in self.needs]
        return fingerprint([self.name, self.output, needs, self.config, words, [str(item) for item in self.inputs]])

    @property
    def config_path(self) -> str:
        """Path of its `sdd.toml`, relative to the folder."""
        return f"{STEPS}/{self.name}.toml"

    def record_path(self, folder: Path) -> Path:
        """The file that says how far the step has come."""
        return folder / STEPS / f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class Record:
    """How far a step has come.

    Attributes:
        fingerprint: Of the step.
        finished: Whether it is done.
        seconds: Time that it took so far.
    """

    fingerprint: str
    finished: bool = False
    seconds: float = 0.0


class Processes:
    """Child processes that run commands of the toolkit, and that are stopped together."""

    def __init__(self, threads: int) -> None:
        self._environment = {**os.environ, "PYTHONPATH": _path_with(os.environ)}
        if threads:
            self._environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def execute(self, folder: Path, words: Sequence[str], log: Path) -> int:
        """Runs `sdd WORDS` in `folder`, its output appended to `log`; returns the exit code."""
        # Its standard output is a file, its session its own: Ctrl-C reaches it through `stop` alone, once.
        command = [sys.executable, "-m", "sdd_toolkit.bench.child", str(os.getpid()), *words]
        with log.open("ab") as stream:
            with self._lock:
                if self._stopped:
                    return -signal.SIGTERM
                process = subprocess.Popen(
                    command, cwd=folder, env=self._environment, stdout=stream, stderr=stream, start_new_session=True
                )
                self._running.add(process)
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code

    def stop(self) -> None:
        """Asks all children to save and end; no more are started."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def run_steps(
    folder: Path,
    steps: Sequence[Step],
    workers: int,
    execute: Callable[[Path, Sequence[str], Path], int],
    say: Callable[[str], None],
    on_done: Callable[[Step], None] = lambda step: None,
    on_stop: Callable[[], None] = lambda: None,
    guess_s: Mapping[str, float] | None = None,
) -> None:
    """Runs all steps that are not finished, `workers` at a time, the first ready one first.

    Args:
        folder: Of the benchmark.
        steps: In the order wanted; each after those that it needs.
        workers: Number of steps at a time.
        execute: (folder, words, log file) → exit code; see `Processes`.
        say: Prints a line.
        on_done: Called after every step.
        on_stop: Called on Ctrl-C and on an error, before waiting for the running steps.
        guess_s: Seconds of a step by its kind, until one of the kind is done.

    Raises:
        SddError: A step failed; the others that ran are finished or saved.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    pending = [step for step in steps if not is_finished(folder, step)]
    clock = _Clock(folder, steps, dict(guess_s or {}))
    finished = {step.name for step in steps} - {step.name for step in pending}
    say(f"{len(finished)} of {len(steps)} steps are done; {clock.left(pending, workers)}")
    running: dict[Future[float], Step] = {}
    with _sigterm_as_interrupt(), ThreadPoolExecutor(workers) as pool:
        try:
            while pending or running:
                ready = [step for step in pending if all(need.name in finished for need in step.needs)]
                for step in ready[: workers - len(running)]:
                    pending.remove(step)
                    running[pool.submit(run_step, folder, step, execute)] = step
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step = running.pop(future)
                    seconds = future.result()
                    finished.add(step.name)
                    left = clock.left([*pending, *running.values()], workers)
                    say(f"[{len(finished)}/{len(steps)}] {step.name}: {seconds:.0f} s; {left}")
                    on_done(step)
        except BaseException:
            on_stop()
            raise


def run_step(folder: Path, step: Step, execute: Callable[[Path, Sequence[str], Path], int]) -> float:
    """Runs one step and records it; returns its seconds.

    Raises:
        SddError: A command failed.
    """
    record, log = step.record_path(folder), folder / STEPS / f"{step.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    known = _read(record)
    if known is None or known.fingerprint != step.fingerprint:
        # What another plan, or a run without records, left there is not a beginning of this step.
        _remove(folder / step.output)
        log.unlink(missing_ok=True)
        known = Record(step.fingerprint)
    _write(record, known)
    if step.config:
        write_text(folder / step.config_path, step.config)
    started = time.monotonic()
    try:
        for command in step.commands:
            words = [word.replace("{config}", step.config_path) for word in command.words]
            if command.marker and (folder / command.marker).exists():
                words += command.again
            if code := execute(folder, words, log):
                raise SddError(
                    f"{step.name}: `sdd {' '.join(words[:2])} …` ended with {code}: {_last_line(log)}",
                    hint=f"all of its output is in {log}; the same command goes on from here",
                )
        if step.action is not None:
            step.action(folder)
    finally:
        known = replace(known, seconds=round(known.seconds + time.monotonic() - started, 1))
        _write(record, known)
    _write(record, replace(known, finished=True))
    return known.seconds


def is_finished(folder: Path, step: Step) -> bool:
    """Whether the step has been done as it is now, and its output is still there."""
    known = _read(step.record_path(folder))
    same = known is not None and known.finished and known.fingerprint == step.fingerprint
    return same and (folder / step.output).exists()


class _Clock:
    """Estimates the time left from the steps of the same kind that are done."""

    def __init__(self, folder: Path, steps: Sequence[Step], guess_s: dict[str, float]) -> None:
        self._folder, self._steps, self._guess_s = folder, steps, guess_s

    def left(self, pending: Sequence[Step], workers: int) -> str:
        """A phrase about the time that `pending` take."""
        if not pending:
            return "nothing left"
        known: dict[str, list[float]] = {}
        for step in self._steps:
            record = _read(step.record_path(self._folder))
            if record is not None and record.finished:
                known.setdefault(_kind(step), []).append(record.seconds)
        means = {kind: sum(values) / len(values) for kind, values in known.items()}
        total = sum(means.get(_kind(step), self._guess_s.get(_kind(step), 10.0)) for step in pending)
        return f"{len(pending)} left, about {max(1, round(total / workers / 60))} min"


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt("everything is saved; the same command goes on from here")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _kind(step: Step) -> str:
    return step.name.partition("/")[0]


def _path_with(environment: Mapping[str, str]) -> str:
    """PYTHONPATH by which a child in another folder finds this toolkit."""
    return os.pathsep.join([str(_PACKAGES), *filter(None, [environment.get("PYTHONPATH")])])


def _write(path: Path, record: Record) -> None:
    write_text(path, json.dumps(asdict(record)) + "\n")


def _read(path: Path) -> Record | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record(str(content["fingerprint"]), bool(content["finished"]), float(content["seconds"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["no output"])[-1]
