"""Running `sdd` with words as a user types them: in this process, which is quick, or in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys
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
