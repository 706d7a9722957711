from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sdd_toolkit.bench.runner import Command, Processes, Step, is_finished, run_steps
from sdd_toolkit.errors import SddError
from tests.support.paths import ROOT


def write_step(name: str, *needs: Step, words: tuple[str, ...] = (), text: str = "done") -> Step:
    def action(folder: Path) -> None:
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")

    commands = (Command(words),) if words else ()
    return Step(f"write/{name}", f"{name}.txt", needs, "x = 1", commands, action, (text,))


class Recorder:
    """Executes nothing, and remembers what it was asked to."""

    def __init__(self, code: int = 0) -> None:
        self.calls: list[list[str]] = []
        self._code = code

    def __call__(self, folder: Path, words: Sequence[str], log: Path) -> int:
        self.calls.append(list(words))
        log.write_text("loading\nerror: no such file\nhint: none\n", encoding="utf-8")
        return self._code


def run(folder: Path, steps: Sequence[Step], execute: Recorder, workers: int = 1) -> list[str]:
    lines: list[str] = []
    run_steps(folder, steps, workers, execute, lines.append)
    return lines


def test_steps_run_in_order_once_and_only_again_where_they_changed(tmp_path: Path) -> None:
    first = write_step("first", words=("import", "a"))
    second = write_step("second", first, words=("train", "{config}"))
    execute = Recorder()
    lines = run(tmp_path, [first, second], execute)
    assert execute.calls == [["import", "a"], ["train", "steps/write/second.toml"]]
    assert (tmp_path / "steps/write/second.toml").read_text(encoding="utf-8") == "x = 1"
    assert lines[0].startswith("0 of 2 steps are done; 2 left, about")
    assert lines[-1].startswith("[2/2] write/second:")
    assert run(tmp_path, [first, second], execute)[0].startswith("2 of 2")
    assert len(execute.calls) == 2
    # A change of the first one is a change of what needs it.
    changed = write_step("first", words=("import", "b"))
    run(tmp_path, [changed, write_step("second", changed, words=("train", "{config}"))], execute)
    assert execute.calls[2:] == [["import", "b"], ["train", "steps/write/second.toml"]]


def test_a_step_without_its_output_is_done_again(tmp_path: Path) -> None:
    step = write_step("first")
    run(tmp_path, [step], Recorder())
    assert is_finished(tmp_path, step)
    (tmp_path / "first.txt").unlink()
    assert not is_finished(tmp_path, step)
    run(tmp_path, [step], Recorder())
    assert is_finished(tmp_path, step)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_waits_for_what_it_needs_whatever_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    order: list[str] = []
    lock = threading.Lock()

    def step(name: str, *needs: Step) -> Step:
        def action(folder: Path) -> None:
            time.sleep(0.01)
            with lock:
                order.append(name)
            (folder / name).touch()

        return Step(name, name, needs, action=action)

    a = step("a")
    b = step("b", a)
    c = step("c")
    d = step("d", b, c)
    run(tmp_path, [a, b, c, d], Recorder(), workers)
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("a") < order.index("b") < order.index("d")
    assert order[-1] == "d"


def test_an_error_names_the_step_its_last_words_and_its_log(tmp_path: Path) -> None:
    step = write_step("first", words=("build", "x"))
    with pytest.raises(SddError, match=r"write/first: `sdd build x …` ended with 3: error: no such file") as caught:
        run(tmp_path, [step], Recorder(3))
    assert str(tmp_path / "steps/write/first.log") in caught.value.hint
    assert not is_finished(tmp_path, step)


def test_an_interrupted_command_gets_the_words_that_resume_it_and_what_another_plan_left_is_removed(
    tmp_path: Path,
) -> None:
    def step(seed: str) -> Step:
        return Step("train/a", "run", commands=(Command(("train", seed), ("--resume",), "run/latest"),))

    (tmp_path / "run").mkdir()
    (tmp_path / "run/latest").touch()
    execute = Recorder(1)
    with pytest.raises(SddError):
        run(tmp_path, [step("1")], execute)
    assert execute.calls == [["train", "1"]]
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/latest").touch()
    with pytest.raises(SddError):
        run(tmp_path, [step("1")], execute)
    assert execute.calls[-1] == ["train", "1", "--resume"]


def test_commands_run_in_processes_that_stop_together(tmp_path: Path) -> None:
    processes = Processes(threads=1)
    assert processes.execute(tmp_path, ["--version"], tmp_path / "log") == 0
    assert "sdd, version" in (tmp_path / "log").read_text(encoding="utf-8")
    processes.stop()
    assert processes.execute(tmp_path, ["--version"], tmp_path / "log") < 0


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    # The parent prints the child's process id and is killed; the child, which would sleep for a minute, must go too.
    child = (
        "import runpy, sys; sys.modules['sdd_toolkit.__main__'] = None;"
        "from sdd_toolkit.bench import child; child._POLL_S = 0.05;"
        "import threading, os, time;"
        "threading.Thread(target=child.end_with_parent, args=(int(sys.argv[1]),), daemon=True).start(); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, os, time;"
        "p = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, child], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    number = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while _is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    alive = _is_alive(number)
    if alive:
        os.kill(number, signal.SIGKILL)
    assert not alive


def _is_alive(number: int) -> bool:
    stat = Path(f"/proc/{number}/stat")
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
