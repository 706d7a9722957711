"""Command line of `sdd capture plan`, `sdd capture run` and `sdd capture cameras`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, OUT_PATH, echo_report, json_option, overwrite_option, run_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.tether.camera import Setting
    from capture.tether.journal import FocusState
    from capture.tether.operator import Operator
    from capture.tether.plan import ShootingPlan
    from capture.tether.session import SessionOutcome
    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.execution.progress import Track

_SHOW_MINUTES_FROM_S = 120
_DRIVER = click.Choice(["gphoto2", "virtual"])


@click.command()
@click.option("--out", type=OUT_PATH, help="File to write; without it the plan goes to stdout.")
@click.option("--scenes", type=click.IntRange(1, 9999), default=5, show_default=True, help="Number of scenes.")
@click.option(
    "--kind",
    type=click.Choice(["aperture", "focus"]),
    default="aperture",
    help="Setting that differs.",
)
@overwrite_option
def plan(out: Path | None, scenes: int, kind: str, overwrite: bool) -> None:
    """Write a commented shot list to edit."""
    from capture.tether.plan_template import render_template
    from sdd_toolkit.storage.files import write_text
    from sdd_toolkit.storage.targets import check_targets

    if out is None:
        click.echo(render_template(scenes, kind), nl=False)
        return
    check_targets([out], overwrite=overwrite)
    write_text(out, render_template(scenes, kind))
    click.echo(f"-> {out}")


@click.command("run")
@click.argument("plan", type=IN_PATH)
@click.option("--out", type=OUT_PATH, help="Folder of the session; instead of [session] out.")
@click.option("--camera", type=_DRIVER, help="Another driver than the plan's, without the plan's [camera.settings].")
@click.option("--port", help="Port of the camera, such as usb:001,005; instead of [camera] port.")
@click.option("--yes", is_flag=True, help="Ask nothing: accept frames with warnings, replace damaged ones.")
@click.option("--reshoot", multiple=True, metavar="SCENE", help="Shoot this scene again although it is finished.")
@click.option("--dry-run", is_flag=True, help="List the frames and the time they take; no camera is touched.")
@run_options("overwrite", "as_json")
def shoot(
    plan: Path,
    out: Path | None,
    camera: str | None,
    port: str | None,
    yes: bool,
    reshoot: tuple[str, ...],
    dry_run: bool,
    run: RunOptions,
) -> None:
    """Shoot a plan with a tethered camera, resuming."""
    from capture.tether import drivers, session

    shots = _read_plan(plan, camera, port)
    if dry_run:
        click.echo(_format_shots(shots, run.as_json))
        return
    folder = out or plan.parent / shots.session.out
    operator, track = _choose_operator(yes, shots)
    outcome = session.shoot_plan(
        shots, folder, lambda: drivers.connect(shots.camera), operator,
        reshoot=reshoot, overwrite=run.overwrite, track=track,
    )  # fmt: skip
    _print_outcome(outcome, run.as_json)


@click.command()
@click.option("--camera", type=_DRIVER, default="gphoto2", show_default=True, help="Driver that detects the cameras.")
@click.option("--port", help="Only the camera at this port.")
@click.option("--settings", is_flag=True, help="Print every setting with its value and its choices.")
@json_option
def cameras(camera: str, port: str | None, settings: bool, as_json: bool) -> None:
    """List connected cameras and, on request, their settings."""
    from capture.tether import drivers
    from capture.tether.plan_config import CameraTable

    detected = [entry for entry in drivers.detect_cameras(camera) if port in (None, entry.port)]
    values: tuple[Setting, ...] = ()
    if settings:
        connected = drivers.connect(CameraTable(driver="virtual" if camera == "virtual" else "gphoto2", port=port))
        values = connected.settings()
        connected.close()
    if as_json:
        click.echo(json.dumps({"cameras": [*map(asdict, detected)], "settings": [*map(asdict, values)]}))
        return
    for entry in detected:
        click.echo(f"{entry.model}  {entry.port}  ({entry.driver})")
    for setting in values:
        click.echo(_format_setting(setting))


class _TerminalOperator:
    """Asks the photographer at the terminal; see `capture.tether.operator.Operator`."""

    def wait_until_ready(self, scene: str, note: str) -> None:
        click.prompt(f"{scene}{f' ({note})' if note else ''}: press Enter to shoot", default="", show_default=False,
                     prompt_suffix=" ", err=True)  # fmt: skip

    def confirm_reshoot(self, scene: str, problems: Sequence[str]) -> bool:
        return click.confirm(f"{scene}: {'; '.join(problems)}. Repeat this scene?", default=False, err=True)

    def confirm_replacement(self, problems: Sequence[str]) -> bool:
        for problem in problems:
            click.echo(problem, err=True)
        return click.confirm("Shoot these frames again?", default=False, err=True)

    def confirm_refocused(self, scene: str, focus: FocusState) -> bool:
        where = "in the middle of a move" if focus.moving_to is not None else f"{focus.at} steps from its start"
        return click.confirm(
            f"{scene}: the lens was left {where}. Have you focused it anew (the scene then begins again)?",
            default=False,
            err=True,
        )

    def report(self, line: str) -> None:
        click.echo(line, err=True)


def _choose_operator(yes: bool, plan: ShootingPlan) -> tuple[Operator, Track]:
    """At a terminal without `--yes`: questions and plain lines; otherwise no questions, and a progress bar."""
    from capture.tether.operator import Unattended
    from sdd_toolkit.cli.progress_bar import terminal_progress
    from sdd_toolkit.execution.progress import silent

    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        return _TerminalOperator(), silent

    class UnattendedWithOutput(Unattended):
        def report(self, line: str) -> None:
            click.echo(line, err=True)

    return UnattendedWithOutput(consents=yes, pause_s=plan.session.scene_pause_s), terminal_progress


def _read_plan(path: Path, driver: str | None, port: str | None) -> ShootingPlan:
    """The plan, with the driver and the port of the command line."""
    from capture.tether.plan import read_plan
    from capture.tether.plan_config import CameraTable

    plan = read_plan(path)
    table = plan.camera
    if driver is not None and driver != table.driver:
        # The plan's settings have the names of the other driver's camera.
        table = CameraTable.model_validate({"driver": driver, "seed": table.seed})
    return replace(plan, camera=table.model_copy(update={"port": port}) if port else table)


def _format_shots(plan: ShootingPlan, as_json: bool) -> str:
    from capture.tether.plan import estimate_duration_s

    time_s = estimate_duration_s(plan)
    if as_json:
        return json.dumps({"shots": [asdict(shot) for shot in plan.shots], "expected_s": time_s})
    lines = [f"{shot.stem}  {shot.describe()}" for shot in plan.shots]
    about = f"{time_s:.0f} s" if time_s < _SHOW_MINUTES_FROM_S else f"{time_s / 60:.0f} min"
    return "\n".join([*lines, f"{len(lines)} frames, about {about} without the time to arrange the scenes"])


def _print_outcome(outcome: SessionOutcome, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**asdict(outcome.report), "warnings": outcome.warnings}))
        return
    echo_report(outcome.report, as_json=False)
    if outcome.report.skipped:
        click.echo(f"  {outcome.report.skipped} frames were finished before, their hashes are verified")
    for warning in outcome.warnings:
        click.echo(f"  ! {warning}")


def _format_setting(setting: Setting) -> str:
    path = f"{setting.folder}/{setting.name}" if setting.folder else setting.name
    lock = "  (read only)" if setting.read_only else ""
    span = "" if setting.span is None else "  {:g} ... {:g}, step {:g}".format(*setting.span)
    choices = "".join(f"\n    {choice}" for choice in setting.choices)
    return f"{path}  {setting.label} = {setting.value!r}{lock}{span}{choices}"
