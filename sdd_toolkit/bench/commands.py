"""Command line of `sdd bench vsdd`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, json_option, lock_folders, out_option


@click.command("vsdd")
@out_option("Folder of the run: data sets, trainings, scores, and vsdd.csv, vsdd.md with its pictures.")
@click.option(
    "--profile",
    type=click.Choice(["cpu", "gpu", "smoke"]),
    default="cpu",
    show_default=True,
    help="cpu: about an hour on two cores; gpu: larger, three seeds; smoke: a minute, only to see that it runs.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the scenes.")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Trainings of each arm, instead of the profile's.")
@click.option("--photographs", type=IN_PATH, help="Folder of photographs to shoot instead of dead leaves.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Steps at a time (default: one a core).")
@json_option
def vsdd(
    out: Path,
    profile: str,
    seed: int,
    seeds: int | None,
    photographs: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Train on displaced virtual pairs in many ways, and score by the truth.

    Ctrl-C saves; the same command goes on, with any number of --workers, to the same numbers. See
    docs/benchmarks/vsdd.md.
    """
    from sdd_toolkit.bench import stage
    from sdd_toolkit.bench.plan import PROFILES, Plan

    lock_folders(out)
    chosen = PROFILES[profile]
    if seeds is not None:
        chosen = replace(chosen, seeds=tuple(range(seeds)))
    plan = Plan(chosen, seed, None if photographs is None else photographs.resolve())
    report = stage.run_vsdd(out.resolve(), plan, workers=workers, say=lambda line: click.echo(line, err=True))
    echo_report(report, as_json)
