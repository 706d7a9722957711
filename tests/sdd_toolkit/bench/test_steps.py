from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from jdrl.config import TrainConfig
from sdd_toolkit.bench.plan import ARMS, LEVELS, MAIN, PROFILES, Plan
from sdd_toolkit.bench.stage import check_photographs
from sdd_toolkit.bench.steps import plan_steps, to_toml
from sdd_toolkit.errors import InputError


def test_every_step_comes_after_those_that_it_needs_and_has_a_name_of_its_own() -> None:
    for profile in PROFILES.values():
        steps = plan_steps(Plan(profile))
        names = [step.name for step in steps]
        assert len(set(names)) == len(names)
        assert len({step.output for step in steps}) == len(names)
        for number, step in enumerate(steps):
            assert all(need.name in names[:number] for need in step.needs), step.name


def test_all_arms_have_one_budget_and_differ_only_in_data_and_loss() -> None:
    own = {"warm_up_fraction", "warm_up_flow", "flow", "mask", "warp", "reblur_basis", "reblur_weight"}
    own |= {
        "method",
        "deformation",
        "deformation_ramp_fraction",
        "registration",
        "reblur_light",
        "reblur_learning_rate",
    }
    configs = {
        step.name: tomllib.loads(step.config)["train"]
        for step in plan_steps(Plan(PROFILES["cpu"]))
        if step.name.startswith("train/")
    }
    budgets = {str({key: value for key, value in config.items() if key not in own}) for config in configs.values()}
    assert len(budgets) == 1
    assert len(configs) == len(PROFILES["cpu"].tasks)


def test_every_arm_is_a_valid_configuration_at_every_size() -> None:
    for profile in PROFILES.values():
        for arm in ARMS.values():
            TrainConfig.model_validate({**profile.train, **arm.train})


def test_every_level_has_the_main_arms_and_the_first_trainings_tell_most() -> None:
    tasks = PROFILES["cpu"].tasks
    for level in LEVELS.values():
        assert set(MAIN) <= {task.arm.name for task in tasks if task.level == level}
    assert [(task.arm.name, task.level.name) for task in tasks[:5]] == [
        (name, "displaced-08") for name in ("oracle", *MAIN)
    ]
    assert {task.arm.name for task in tasks} == set(ARMS)
    # One oracle serves all levels whose blurred frames are the same.
    assert sum(task.arm.name == "oracle" for task in tasks) == 2


def test_scenes_of_the_splits_are_apart() -> None:
    scenes = Plan(PROFILES["cpu"]).scenes
    ids = [scene for split in scenes.values() for scene in split]
    assert len(set(ids)) == len(ids) == 24
    assert scenes["test"][0] == "focus-scene-0010"
    assert {split: len(ids) for split, ids in scenes.items()} == {"train": 16, "val": 2, "test": 6}


def test_a_seed_or_a_profile_is_another_plan() -> None:
    def fingerprints(plan: Plan) -> list[str]:
        return [step.fingerprint for step in plan_steps(plan)]

    plan = Plan(PROFILES["smoke"])
    assert fingerprints(plan) == fingerprints(plan)
    assert not set(fingerprints(plan)) & set(fingerprints(replace(plan, seed=1)))
    longer = replace(plan.profile, train={**plan.profile.train, "steps": 4})
    changed = set(fingerprints(plan)) ^ set(fingerprints(replace(plan, profile=longer)))
    assert len(changed) == 2 * 8  # four trainings and their scores, not the data


def test_toml_is_what_toml_reads() -> None:
    section = {"a": 3e-3, "b": True, "c": [0, 2], "d": "x", "e": {"width": 16, "blocks": [1, 2]}}
    assert tomllib.loads(to_toml({"train": section, "pack.split": {"val": ["s"]}})) == {
        "train": section,
        "pack": {"split": {"val": ["s"]}},
    }


def test_too_few_photographs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="holds 1 photographs, profile smoke needs 3"):
        check_photographs(Plan(PROFILES["smoke"], photographs=tmp_path))
    with pytest.raises(InputError, match="is no folder"):
        check_photographs(Plan(PROFILES["smoke"], photographs=tmp_path / "none"))
