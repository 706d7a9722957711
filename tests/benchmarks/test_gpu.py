"""Every question on a GPU is asked at tiny size on the CPU, and one that fails leaves the others alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import QUESTIONS, TRAINING, limit_of, received
from benchmarks.gpu_questions.page import page
from benchmarks.gpu_questions.scale import CPU, Place, Row
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(CPU, tmp_path_factory.mktemp("gpu"), limit_s=60)


# One pass over all of them: the data set comes first, processes of their own are left to the command.
@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "processes"])
def test_a_question_is_answered_on_the_cpu(name: str, place: Place) -> None:
    torch.set_num_threads(1)
    rows: list[Row] = []
    QUESTIONS[name].ask(place, rows.append)
    assert rows
    times = [value for row in rows for column, value in row.items() if column.split()[-1] in ("ms", "s")]
    assert all(value >= 0 for value in times)


def test_a_question_that_fails_is_named_with_its_reason_and_the_next_one_is_asked(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path), "--only", "loader", "flow"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    failed, answered = (results["questions"][name] for name in ("loader", "flow"))
    assert failed["rows"] == []
    assert "no data set" in failed["error"]
    assert answered["error"] is None
    assert {row["flow"] for row in answered["rows"]} == {"pyramid", "dis", "pwcnet"}
    written = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert written == page(results)
    assert "no number below says anything about a GPU" in written
    assert "not finished: FileNotFoundError: no data set" in written


def test_a_question_keeps_its_rows_when_its_process_dies_or_its_time_is_over() -> None:
    receiver, sender = Pipe(duplex=False)
    sender.send({"ms": 1.0})
    assert received(receiver, time.monotonic() + 0.05) == ([{"ms": 1.0}], "it reached its limit of seconds")
    sender.send({"ms": 2.0})
    sender.close()
    assert received(receiver, time.monotonic() + 5) == ([{"ms": 2.0}], "its process died")


def test_questions_leave_the_training_its_minutes_and_end_with_the_whole_run() -> None:
    every = list(QUESTIONS)
    left_s = whole_s = 585.0
    for name in every[: every.index(TRAINING)]:
        limit_s = limit_of(name, left_s, whole_s, every)
        assert 1 <= limit_s <= QUESTIONS[name].limit_s
        left_s -= limit_s
    assert limit_of(TRAINING, left_s, whole_s, every) > 300
    assert limit_of("compile", 3.0, whole_s, every) == 3.0
