"""A build ends: with a closed output pipe, dead or stopped workers, repeated Ctrl-C, or a second build beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdd_toolkit.execution.executor import run_tasks
from tests.faults import builds
from tests.support.paths import ROOT

LIMIT_S = 120


def start_build(tiny: Path, out: Path, *more: str, **how: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cli", "build", str(tiny / "sdd.toml"), "--out", str(out), *more]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **how)  # type: ignore[call-overload,no-any-return]


def wait_until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds, for `LIMIT_S` at most."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers_of(pid: int) -> list[int]:
    """Workers of the process `pid`: spawned by it, or forked by its server."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    servers = {one for one, parent in parents.items() if parent == pid and b"forkserver" in commands.get(one, b"")}
    spawned = {one for one, parent in parents.items() if parent == pid and b"spawn_main" in commands.get(one, b"")}
    return [*spawned, *(one for one, parent in parents.items() if parent in servers)]


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_a_build_with_a_closed_output_pipe_ends_with_its_work_done(tiny: Path, out: Path, stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    how = {name: write if stream in (name, "both") else subprocess.DEVNULL for name in ("stdout", "stderr")}
    build = start_build(tiny, out, "--executor", "serial", **how)
    os.close(write)
    assert build.wait(LIMIT_S) in (0, 1)
    assert builds.visible_faults(out) == []
    assert builds.in_child(builds.build, tiny, out) == 0
    assert builds.content(out) == builds.content(tiny / "whole")


def test_ctrl_c_twice_ends_a_build_at_once_with_130_and_no_worker_stays(tiny: Path, out: Path) -> None:
    build = start_build(tiny, out, "--executor", "local:2", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: workers_of(build.pid))
    workers = workers_of(build.pid)
    os.killpg(build.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(build.pid, signal.SIGINT)
    _, errors = build.communicate(timeout=LIMIT_S)
    assert build.returncode == 130
    assert b"Traceback" not in errors
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert builds.in_child(builds.build, tiny, out) == 0
    assert builds.content(out) == builds.content(tiny / "whole")


INTERRUPTED = """
import click
from sdd_toolkit.cli.lazy_group import run_cli
@click.group()
def main(): pass
@main.command()
def go(): exec("raise KeyboardInterrupt")
run_cli(main)
"""


def test_an_interrupt_while_a_dataclass_is_defined_ends_with_130_as_well(tmp_path: Path) -> None:
    """`python -m` would end with SIGINT: dataclasses run `exec` on a string, and a build imports modules late."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    command, environment = [sys.executable, "-m", "interrupted", "go"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted: run the same command again to resume")


@pytest.mark.parametrize("number", range(2))
def test_a_build_whose_workers_are_killed_ends_and_loses_nothing(tiny: Path, out: Path, number: int) -> None:
    """A worker is killed as soon as one is there, another a while later; their tasks are done again."""
    build = start_build(tiny, out, "--executor", "local:2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for pause_s in (0.3 * number, 0.7, 1.1):
        wait_until(lambda: workers_of(build.pid) or build.poll() is not None)
        time.sleep(pause_s)
        for worker in workers_of(build.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
    assert build.wait(LIMIT_S) in (0, 2)
    assert builds.visible_faults(out) == []
    assert builds.in_child(builds.build, tiny, out) == 0
    assert builds.content(out) == builds.content(tiny / "whole")


def test_workers_and_lock_go_with_a_main_process_that_is_killed(tiny: Path, out: Path) -> None:
    build = start_build(tiny, out, "--executor", "local:2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(workers_of(build.pid)) == 2)
    workers = workers_of(build.pid)
    build.kill()
    build.wait(LIMIT_S)
    assert builds.in_child(builds.build, tiny, out) == 0
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert builds.content(out) == builds.content(tiny / "whole")


def test_of_two_builds_in_one_folder_the_second_is_refused(tiny: Path, out: Path) -> None:
    first = start_build(tiny, out, "--executor", "serial", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((out / ".sdd.lock.json").exists)
    os.kill(first.pid, signal.SIGSTOP)  # or it may have finished before the second looks
    second = start_build(tiny, out, "--executor", "serial", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = second.communicate(timeout=LIMIT_S)
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(LIMIT_S) == 0
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on ".encode() in errors
    assert builds.content(out) == builds.content(tiny / "whole")


def stop_when_idle(seconds: float) -> int:
    """Returns its process id at once; the worker is stopped a moment later, as by `kill -STOP`."""
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -STOP {os.getpid()}"])
    return os.getpid()


def test_a_worker_that_is_stopped_while_idle_does_not_hold_up_the_end() -> None:
    outcomes = run_tasks(stop_when_idle, [0.2], "local:1")
    worker = next(outcomes).result
    wait_until(lambda: " T " in Path(f"/proc/{worker}/stat").read_text())
    began = time.monotonic()
    assert list(outcomes) == []
    assert time.monotonic() - began < 10
    wait_until(lambda: not Path(f"/proc/{worker}").exists())
