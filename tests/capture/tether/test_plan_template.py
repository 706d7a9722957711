from __future__ import annotations

import tomllib

import pytest

from capture.tether.plan import parse_plan
from capture.tether.plan_template import render_template
from tests.support.paths import ROOT


@pytest.mark.parametrize(("kind", "scenes"), [("aperture", 5), ("focus", 1), ("aperture", 9999)])
def test_the_plan_that_is_written_can_be_shot(kind: str, scenes: int) -> None:
    plan = parse_plan(tomllib.loads(render_template(scenes, kind)), "plan")
    assert len(plan.shots) == 2 * scenes
    assert {shot.kind for shot in plan.shots} == {kind}


def test_the_example_is_what_the_command_writes() -> None:
    assert (ROOT / "examples/plan.toml").read_text() == render_template(5, "aperture")


def test_every_line_that_is_commented_out_is_a_valid_key_too() -> None:
    lines = [
        line.removeprefix("# ") if " = " in line or "[[" in line else line
        for line in render_template(2, "focus").split("\n")
    ]
    plan = parse_plan(tomllib.loads("\n".join(lines)), "plan")
    assert plan.camera.settings["autofocus"] == "Off"
    assert plan.notes == {"bookshelf": "tripod low, focus on the third spine"}
