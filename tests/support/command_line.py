"""Running `sdd` with words as a user types them: in this process, in one of its own, or in one that is killed."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from unittest.mock import patch

from cli import cli
from sdd_toolkit.cli.lazy_group import run_cli
from tests.support.paths import ROOT


def sdd(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `sdd WORDS` in a process of its own, from the root of the checkout."""
    command = [sys.executable, "-m", "cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


def sdd_in_process(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `sdd WORDS` here, with the same output and exit code; for tests of what it does, not of the process."""
    command, out, err, code = ["sdd", *map(str, words)], io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), chdir(ROOT), patch.object(sys, "argv", command):
        try:
            run_cli(cli)
        except SystemExit as stop:
            code = int(stop.code or 0)
    assert code == 0 or not check, err.getvalue()
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def kill_runs(words: list[object], whole_s: float, seed: int, runs: int = 3) -> None:
    """Starts `sdd WORDS` again and again and kills its whole process group, once in each part of its duration.

    Args:
        words: The command, which resumes what an earlier run has left.
        whole_s: How long one undisturbed run takes.
        seed: Of the moments.
        runs: How many are killed.
    """
    draw = random.Random(seed)
    command = [sys.executable, "-m", "cli", *map(str, words)]
    for number in range(runs):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(draw.uniform(number, number + 1) / runs * whole_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
