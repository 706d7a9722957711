"""A real dask scheduler and its workers, as processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import ROOT

_DASK = str(Path(sys.executable).with_name("dask"))


@dataclass
class Nodes:
    """Attributes: address: HOST:PORT of the scheduler; workers: a nanny each, which starts the worker again."""

    folder: Path
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"dask://{self.address}"

    def add_worker(self, *options: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        number = len(self.workers)
        place = ["--local-directory", str(self.folder / f"worker-{number}"), "--no-dashboard"]
        worker = _started(
            ["worker", f"tcp://{self.address}", *place, *options], self.folder / f"worker-{number}.log", cwd
        )
        self.workers.append(worker)
        return worker

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The process and its children, as a power cut would."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _started(command: list[str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    }
    with log.open("wb") as stream:
        return subprocess.Popen(
            [_DASK, *command], cwd=cwd, stdout=stream, stderr=stream, start_new_session=True, env=environment
        )


@contextmanager
def nodes(folder: Path, workers: int = 2, threads: int = 2) -> Iterator[Nodes]:
    """A scheduler on a free port and so many workers of so many threads; all killed in the end."""
    from distributed import Client

    file = folder / "scheduler.json"
    found = Nodes(folder)
    command = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    found.scheduler = _started(command, folder / "scheduler.log", folder)
    try:
        for _ in range(600):
            if file.is_file() and file.read_text().endswith("}"):
                break
            time.sleep(0.1)
        found.address = json.loads(file.read_text())["address"].removeprefix("tcp://")
        for _ in range(workers):
            found.add_worker("--nthreads", str(threads))
        if workers:
            with Client(f"tcp://{found.address}", set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
        yield found
    finally:
        for process in (*found.workers, found.scheduler):
            if process.poll() is None:
                found.kill(process)
