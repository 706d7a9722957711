"""The virtual camera's price: seconds and memory for a pair, with its files, in one run of the command each.

`python benchmarks/camera.py [--pairs 2] [--sizes 1296x864 4096x2160] [--workers 2]` prints wall-clock seconds and CPU
seconds a pair and the peak memory of the largest process. The time that Python takes to start is in them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("focus", "aperture")
ALONE = "alone"


def measure_command(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak megabytes of one run of `sdd capture simulate`."""
    command = [sys.executable, "-c", "from cli import cli; cli()", "capture", "simulate", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=Path(__file__).resolve().parent.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"sdd capture simulate {' '.join(arguments)} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=["1296x864", "4096x2160"])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.pairs} pairs on {options.workers} workers, and one pair alone on one worker")
    print(f"{'':24s}{'wall s/pair':>14s}{'CPU s/pair':>14s}{'peak MB':>10s}")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            for kind in KINDS:
                runs = ((kind, options.pairs, options.workers), (f"{kind} {ALONE}", 1, 1))
                for number, (name, pairs, workers) in enumerate(runs):
                    out = Path(folder) / f"{size}-{kind}-{number}"
                    wall, busy, peak = measure_command([
                        "--scenes", str(pairs), "--kind", kind, "--size", size, "--workers", str(workers),
                        "--out", str(out),
                    ])  # fmt: skip
                    label = f"{size} {name}"
                    print(f"{label:24s}{wall / pairs:14.2f}{busy / pairs:14.2f}{peak:10.0f}", flush=True)


if __name__ == "__main__":
    main()
