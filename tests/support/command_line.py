"""Running `sdd` as a user does: a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT


def sdd(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done
