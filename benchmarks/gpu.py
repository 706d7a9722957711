"""Every question on a GPU in one command of at most ten minutes: operator, step, flow, loader, frames, training.

`python benchmarks/gpu.py [--out DIR] [--only NAME ...] [--minutes 10]` writes DIR/gpu.json and DIR/gpu.md. Every
question has a process and a limit of seconds of its own: one that fails, hangs or is killed keeps its rows and does not
stop the others. Results are written after each. Without a CUDA device the same runs at tiny size on the CPU, as a test.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# A script's own folder comes first otherwise, and there benchmarks/jdrl.py would hide the package `jdrl`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.gpu_questions.data import data_question, loader_question
from benchmarks.gpu_questions.page import page
from benchmarks.gpu_questions.processes import processes_question
from benchmarks.gpu_questions.scale import CPU, GPU, Place, Report, Row, Scale
from benchmarks.gpu_questions.steps import channels_last_question, compile_question, parts_question, step_question
from benchmarks.gpu_questions.tensors import (
    deformation_question,
    flow_question,
    inference_question,
    operator_question,
)
from benchmarks.gpu_questions.training import training_question

MARGIN_S = 15.0  # of the whole time, for starting, stopping and writing


@dataclass(frozen=True, slots=True)
class Question:
    """A function that reports rows, and the seconds that it may take on a GPU."""

    ask: Callable[[Place, Report], None]
    limit_s: float


TRAINING = "training"
QUESTIONS = {
    "data": Question(data_question, 60),
    "operator": Question(operator_question, 25),
    "step": Question(step_question, 60),
    "parts": Question(parts_question, 25),
    "flow": Question(flow_question, 25),
    "deformation": Question(deformation_question, 60),
    "channels_last": Question(channels_last_question, 30),
    "inference": Question(inference_question, 50),
    "processes": Question(processes_question, 40),
    "loader": Question(loader_question, 60),
    TRAINING: Question(training_question, 330),
    "compile": Question(compile_question, 120),
}
"""In the order of asking. Together they may take longer than the whole run: the last one gets what is left."""


def ask(name: str, place: Place, sender: Connection) -> None:
    """In a process group of its own: sends the rows of a question, then None, or the reason why there are no more."""
    os.setsid()
    try:
        QUESTIONS[name].ask(place, sender.send)
        sender.send(None)
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}"[:500])
        traceback.print_exc()


def answer(name: str, place: Place) -> dict[str, Any]:
    """The rows of a question, how long it took, and why it has no more rows."""
    context = get_context("forkserver")
    # Its children, forked, need not import anything.
    context.set_forkserver_preload(["__main__"])
    receiver, sender = context.Pipe(duplex=False)
    start = time.monotonic()
    process = context.Process(target=ask, args=(name, place, sender))
    process.start()
    sender.close()
    rows, error = received(receiver, start + place.limit_s)
    # Also the processes that the question started.
    stop(process.pid)
    process.join()
    about = " ".join((QUESTIONS[name].ask.__doc__ or "").split())
    spent = round(time.monotonic() - start, 1)
    return {"about": about, "rows": rows, "error": error, "seconds": spent, "limit_s": round(place.limit_s)}


def received(receiver: Connection, deadline: float) -> tuple[list[Row], str | None]:
    """Rows until the end, the deadline or the death of the process, and the reason of the latter two."""
    rows: list[Row] = []
    while receiver.poll(max(0.0, deadline - time.monotonic())):
        try:
            message = receiver.recv()
        except EOFError:
            return rows, "its process died"
        if not isinstance(message, dict):
            return rows, message
        rows.append(message)
    return rows, "it reached its limit of seconds"


def stop(group: int | None) -> None:
    with suppress(ProcessLookupError):
        if group is not None:
            os.killpg(group, signal.SIGKILL)


def write_results(out: Path, results: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(page(results), encoding="utf-8")


def limit_of(name: str, left_s: float, whole_s: float, chosen: list[str]) -> float:
    """A question's own limit, at most what is left; those before the training leave it its time."""
    reserved = 0.0
    if TRAINING in chosen and list(QUESTIONS).index(name) < list(QUESTIONS).index(TRAINING):
        reserved = min(QUESTIONS[TRAINING].limit_s, 0.6 * whole_s)
    return max(1.0, min(QUESTIONS[name].limit_s, left_s - reserved))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole run, at most")
    options = parser.parse_args()
    start = time.monotonic()
    on_gpu = torch.cuda.is_available()
    scale: Scale = GPU if on_gpu else CPU
    device = torch.cuda.get_device_name() if on_gpu else "no CUDA device: CPU, tiny sizes"
    results: dict[str, Any] = {"device": device, "on gpu": on_gpu, "torch": torch.__version__, "seconds": 0.0}
    results["questions"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in QUESTIONS if name in options.only):
            whole_s = 60 * options.minutes - MARGIN_S
            left_s = whole_s - (time.monotonic() - start)
            # A loaded CPU takes any time.
            limit_s = limit_of(name, left_s, whole_s, options.only) if on_gpu else max(1.0, left_s)
            place = Place(scale, Path(folder), limit_s)
            found = answer(name, place)
            results["questions"][name] = found
            results["seconds"] = time.monotonic() - start
            write_results(options.out, results)
            state = f"{len(found['rows'])} rows" if found["error"] is None else found["error"]
            print(f"{name:24s}{found['seconds']:9.1f} s   {state}", flush=True)


if __name__ == "__main__":
    main()
