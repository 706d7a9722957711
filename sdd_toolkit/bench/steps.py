"""The steps of the benchmark VSDD: scenes, sets, trainings and scores, as commands of the toolkit with their files."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from sdd_toolkit.bench import scenes, scoring
from sdd_toolkit.bench.plan import KINDS, ORACLE
from sdd_toolkit.bench.runner import Command, Step
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sdd_toolkit.bench.plan import Level, Plan, Task

# Only geometry may tell the arms apart: no exposure error, no vignetting. Kernels of 7 px hold every blur.
_CAMERA = {"exposure_error_ev": 0.0, "vignetting": 0.0, "min_coc_px": 2.5, "max_coc_px": 6.0}
# Every pair is kept, whatever moved in it, so that all arms learn from the same scenes.
_ALIGN = {"max_parallax_px": 64.0, "max_error_px": 64.0, "min_textured_tiles": 4}
_FILTER = {
    "max_unexplained_fraction": 1.0,
    "max_residual_px": 64.0,
    "max_residual_p95_px": 64.0,
    "max_error_px": 64.0,
    "min_sharper_fraction": 0.0,
    "max_softer_fraction": 1.0,
    "min_sharpness_gain": 0.0,
}
_SERIAL = ("--executor", "serial")


def plan_steps(plan: Plan) -> list[Step]:
    """All steps of a run, each after those that it needs; the data of a level just before its first arm."""
    steps: dict[str, Step] = {}
    for task in plan.profile.tasks:
        shards = _data_steps(steps, plan, task)
        truth = _truth_step(steps, plan, task.level)
        for seed in plan.profile.seeds:
            train = _add(steps, _train_step(plan, task, seed, shards))
            _add(steps, _score_step(plan, task, seed, train, truth))
    return list(steps.values())


def score_path(task: Task, seed: int) -> str:
    """The table of one training's scores, relative to the folder of the benchmark."""
    return f"scores/{_name(task, seed)}/scores.csv"


def pictures_path(task: Task, seed: int) -> str:
    """The folder of its deblurred test pictures."""
    return f"scores/{_name(task, seed)}/deblurred"


def truth_pictures(plan: Plan, level: Level) -> str:
    """The folder of the test pictures of a level: blur/ and gt/."""
    return f"data/{plan.truth_level(level.family).name}/pictures/truth/test"


def displacement_path(level: Level) -> str:
    """The table of the measured displacements of a level."""
    return f"data/{level.name}/{scenes.DISPLACEMENTS}"


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections as TOML. JSON writes numbers, texts, truth values and lists as TOML does."""

    def value_of(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {value_of(item)}" for key, item in value.items()) + "}"
        return json.dumps(value)

    lines = []
    for name, section in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value_of(value)}" for key, value in section.items()), ""]
    return "\n".join(lines)


def _add(steps: dict[str, Step], step: Step) -> Step:
    """The step of that name, added if it is new."""
    return steps.setdefault(step.name, step)


def _name(task: Task, seed: int) -> str:
    return f"{task.level.name}/{task.arm.name}/seed-{seed}"


def _config(plan: Plan, level: Level, **sections: Mapping[str, Any]) -> str:
    width, height = plan.profile.size
    motion = {"mean_displacement_px": level.displacement_px, **dict(level.motion)}
    pack = {"patch_size": 2 * plan.profile.train["crop"], "min_size_px": 128}
    return to_toml({"simulate": {"width": width, "height": height, **_CAMERA, **motion}, "pack": pack, **sections})


def _raw_step(steps: dict[str, Step], plan: Plan, level: Level) -> Step:
    """The RAW pairs of a level; test scenes only where their truth is taken from."""
    train, val, test = plan.profile.scenes
    has_test = plan.truth_level(level.family) == level
    count = train + val + (test if has_test else 0)
    photographs = () if plan.photographs is None else ("--image", str(plan.photographs), "--depth", "layers")
    raw = f"data/{level.name}/raw"
    commands = [
        Command((
            *("capture", "simulate", "--kind", kind, "--scenes", str(count), "--seed", str(plan.seed + number)),
            *(*photographs, "--out", f"{raw}/{kind}", "--config", "{config}", *_SERIAL),
        ))
        for number, kind in enumerate(KINDS)
    ]  # fmt: skip
    ids = [scene for split in ("train", "val") for scene in plan.scenes[split]]

    def measure(folder: Path) -> None:
        scenes.write_displacements(folder / raw, folder / displacement_path(level), ids)

    config = _config(plan, level)
    files = photograph_hashes(plan)
    step = Step(f"scenes/{level.name}", raw, (), config, tuple(commands), measure, (__version__, *files))
    return _add(steps, step)


def photograph_hashes(plan: Plan) -> list[str]:
    """Names and sizes of the photographs, which decide the scenes."""
    if plan.photographs is None:
        return []
    return sorted(f"{path.name} {path.stat().st_size}" for path in plan.photographs.iterdir() if path.is_file())


def _pictures_step(steps: dict[str, Step], plan: Plan, level: Level, *, truth: bool) -> Step:
    """Developed pictures of a level and their shards."""
    raw = _raw_step(steps, plan, level)
    data = "truth" if truth else "shot"
    pictures, shards = f"data/{level.name}/pictures/{data}", f"data/{level.name}/{data}"
    splits = plan.scenes if truth else {split: plan.scenes[split] for split in ("train", "val")}

    def develop(folder: Path) -> None:
        scenes.write_pictures(folder / raw.output, folder / pictures, splits, truth=truth)

    developed = _add(steps, Step(f"develop/{level.name}/{data}", pictures, (raw,), action=develop))
    command = Command((
        *("import", pictures, "--layout", "sdd", "--out", shards, "--config", "{config}", *_SERIAL),
    ))  # fmt: skip
    return _add(steps, Step(f"import/{level.name}/{data}", shards, (developed,), _config(plan, level), (command,)))


def _truth_step(steps: dict[str, Step], plan: Plan, level: Level) -> Step:
    return _pictures_step(steps, plan, plan.truth_level(level.family), truth=True)


def _data_steps(steps: dict[str, Step], plan: Plan, task: Task) -> tuple[Step, str]:
    """The step that makes the shards of an arm, and their folder."""
    level, data = task.level, task.arm.data
    if data == "truth":
        step = _truth_step(steps, plan, level)
        return step, step.output
    if data == "shot":
        step = _pictures_step(steps, plan, level, truth=False)
        return step, step.output
    built = _built_step(steps, plan, level)
    shards = f"{built.output}/shards"
    if data == "built":
        return built, shards
    pictures, flat = f"data/{level.name}/pictures/global", f"data/{level.name}/global"
    commands = (
        Command(("export", shards, "--layout", "sdd", "--out", pictures, "--overwrite", *_SERIAL)),
        Command(("import", pictures, "--layout", "sdd", "--out", flat, "--config", "{config}", *_SERIAL)),
    )
    step = _add(steps, Step(f"import/{level.name}/global", flat, (built,), _config(plan, level), commands))
    return step, step.output


def _built_step(steps: dict[str, Step], plan: Plan, level: Level) -> Step:
    raw = _raw_step(steps, plan, level)
    split = {**{name: plan.scenes[name] for name in ("train", "val")}, "train_fraction": 0.0, "val_fraction": 0.0}
    sections: dict[str, Mapping[str, Any]] = {
        "ingest": {"pairing": "focus"},
        "align": _ALIGN,
        "filter": _FILTER,
        "pack.split": {**split, "test_fraction": 1.0},
    }
    out = f"data/{level.name}/built"
    command = Command(("build", "{config}", "--source", raw.output, "--out", out, *_SERIAL))
    return _add(steps, Step(f"build/{level.name}", out, (raw,), _config(plan, level, **sections), (command,)))


def _train_step(plan: Plan, task: Task, seed: int, data: tuple[Step, str]) -> Step:
    made, shards = data
    out = f"runs/{_name(task, seed)}"
    config = to_toml({"train": {**plan.profile.train, **task.arm.train}})
    command = Command(
        ("train", shards, "--out", out, "--config", "{config}", "--seed", str(seed)),
        again=("--resume",),
        marker=f"{out}/latest",
    )
    return Step(f"train/{_name(task, seed)}", out, (made,), config, (command,), inputs=(__version__,))


def _score_step(plan: Plan, task: Task, seed: int, train: Step, truth: Step) -> Step:
    """Scores of the last checkpoint on the test scenes, against the truth."""
    out = f"scores/{_name(task, seed)}"
    pictures, test = pictures_path(task, seed), truth_pictures(plan, task.level)
    photographs = [f"{test}/blur/{scene}.png" for scene in plan.scenes["test"]]
    device, whole = ("--device", str(plan.profile.train["device"])), ("--tile", "0", "--overlap", "0")
    # The frames are small: in one piece, and the search for the largest tile takes longer than all of them.
    config = to_toml({"evaluate": {"pictures": 0, "bootstrap": 100, "tile": 0, "overlap": 0}})
    commands = (
        Command((
            *("evaluate", train.output, truth.output, "--out", f"{out}/evaluation", "--overwrite"),
            *("--config", "{config}", *device),
        )),
        Command(("deblur", train.output, *photographs, "--out", pictures, "--overwrite", *whole, *device)),
    )  # fmt: skip
    write = partial(_write_scores, task=task, seed=seed, test=test, with_input=task.arm.name == ORACLE)
    return Step(f"score/{_name(task, seed)}", out, (train, truth), config, commands, write)


def _write_scores(folder: Path, *, task: Task, seed: int, test: str, with_input: bool) -> None:
    rows = scoring.read_scores(
        folder / f"scores/{_name(task, seed)}/evaluation/evaluation.csv",
        folder / test,
        folder / pictures_path(task, seed),
        scoring.Label(task.arm.name, task.level.name, seed),
        with_input=with_input,
    )
    scoring.write_rows(folder / score_path(task, seed), rows)
