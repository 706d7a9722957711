"""The benchmark VSDD: trains every arm on displaced virtual pairs and scores it against the truth; resumes."""

from __future__ import annotations

import csv
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.bench import page
from sdd_toolkit.bench.figures import draw_strip, plot_psnr
from sdd_toolkit.bench.plan import ABLATION_LEVEL, INPUT, JDRL, KINDS, NAIVE, ORACLE
from sdd_toolkit.bench.runner import Processes, run_steps
from sdd_toolkit.bench.scenes import COLUMNS as DISPLACEMENT_COLUMNS
from sdd_toolkit.bench.scoring import ScoreRow, read_rows, write_rows
from sdd_toolkit.bench.steps import displacement_path, pictures_path, plan_steps, score_path, truth_pictures
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import write_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sdd_toolkit.bench.plan import Level, Plan
    from sdd_toolkit.bench.runner import Step

    Execute = Callable[[Path, Sequence[str], Path], int]


def run_vsdd(
    out: Path,
    plan: Plan,
    *,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    execute: Execute | None = None,
) -> Report:
    """Runs the benchmark in `out`, or what is left of it, and writes vsdd.csv, vsdd.md and two pictures.

    The numbers do not depend on `workers`, nor on interruptions: every step is a process of one thread.

    Args:
        out: Folder of the run.
        plan: Profile, seed and photographs.
        workers: Steps at a time; None: one a core, with the profile for GPUs one.
        say: Prints a line of progress.
        execute: Runs a command of the toolkit, see `runner.Processes`; None: in a process of its own.

    Raises:
        InputError: There are too few photographs.
        SddError: A step failed; its log is named.
        KeyboardInterrupt: Ctrl-C; what runs is saved first.
    """
    started = time.monotonic()
    check_photographs(plan)
    out.mkdir(parents=True, exist_ok=True)
    profile = plan.profile
    steps = plan_steps(plan)
    processes = Processes(profile.threads)
    if workers is None:
        workers = (os.cpu_count() or 1) if profile.threads else 1

    def on_done(step: Step) -> None:
        kind, _, level = step.name.partition("/")
        if kind == "score":
            write_tables(out, plan)
        if kind == "scenes":
            say(describe_displacement(out, next(each for each in plan.levels if each.name == level)))

    run_steps(
        out,
        steps,
        workers,
        execute or processes.execute,
        say,
        on_done=on_done,
        on_stop=processes.stop,
        guess_s={"train": profile.step_s},
    )
    return Report("bench vsdd", len(steps), len(steps), 0, {}, time.monotonic() - started, write_results(out, plan))


def write_results(out: Path, plan: Plan) -> tuple[str, ...]:
    """Writes vsdd.csv, vsdd.md and the pictures of a finished run; returns their paths."""
    write_bytes(out / page.PLOT, plot_psnr(write_tables(out, plan)))
    write_strip(out, plan)
    return tuple(str(out / name) for name in (page.CSV, page.PAGE, page.PLOT, page.STRIP))


def write_tables(out: Path, plan: Plan) -> list[ScoreRow]:
    """Writes vsdd.csv and vsdd.md from all scores that are there; returns the rows."""
    paths = [out / score_path(task, seed) for task in plan.profile.tasks for seed in plan.profile.seeds]
    rows = read_rows([path for path in paths if path.is_file()])
    write_rows(out / page.CSV, rows)
    write_text(out / page.PAGE, page.write_text(rows))
    return rows


def write_strip(out: Path, plan: Plan) -> None:
    """Writes the crops of one test scene: input, naive, JDRL, oracle, truth."""
    seed, scene = plan.profile.seeds[0], plan.scenes["test"][0]
    tasks = {task.arm.name: task for task in plan.profile.tasks if task.level == ABLATION_LEVEL}
    truth = out / truth_pictures(plan, ABLATION_LEVEL)
    paths = {INPUT: truth / "blur" / f"{scene}.png"}
    for arm, name in ((NAIVE, "naive"), (JDRL, "JDRL"), (ORACLE, "oracle")):
        if arm in tasks:
            paths[name] = out / pictures_path(tasks[arm], seed) / f"{scene}_deblurred.png"
    paths["truth"] = truth / "gt" / f"{scene}.png"
    write_image(
        out / page.STRIP, draw_strip({name: np.asarray(read_image(path), np.uint8) for name, path in paths.items()})
    )


def describe_displacement(out: Path, level: Level) -> str:
    """A line on what the truth says about the displacement of a level: means over its training and validation pairs."""
    with (out / displacement_path(level)).open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    mean, p95, hidden = (sum(float(line[name]) for line in lines) / len(lines) for name in DISPLACEMENT_COLUMNS[1:])
    return f"  {level.name}: measured {mean:.2f} px mean, {p95:.2f} px 95th percentile, {hidden:.1f} % hidden"


def check_photographs(plan: Plan) -> None:
    """Checks that there is a photograph for each scene of a kind: one photograph must not be in two splits.

    Raises:
        InputError: There are fewer, or no such folder.
    """
    if plan.photographs is None:
        return
    if not plan.photographs.is_dir():
        raise InputError(f"{plan.photographs} is no folder", hint="give the folder of the photographs")
    count = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in plan.photographs.iterdir())
    if count < (needed := len([scene for ids in plan.scenes.values() for scene in ids]) // len(KINDS)):
        raise InputError(
            f"{plan.photographs} holds {count} photographs, profile {plan.profile.name} needs {needed}",
            hint="add photographs, or choose a smaller --profile",
        )
