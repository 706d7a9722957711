"""Fuzzes every reader guided by coverage, for ten minutes by default: `make fuzz`, `python -m tests.fuzz.campaign`.

Findings are written to `tests/fuzz/seeds/TARGET/`, where `test_seeds.py` tries them from then on; what was learned
about the readers is kept in `.fuzz/` and makes the next one begin where this one ends. Findings end in exit code 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from tests.faults import builds
from tests.fuzz.cases import CASE_LIMIT_S, MEMORY_LIMIT_BYTES
from tests.fuzz.conftest import small_dng
from tests.support.paths import ROOT

TARGETS = (
    *("TIFF directories", "EXIF and MakerNotes", "EXIF in JPEG", "EXIF in ISO media", "EXIF in RAF"),
    *("index", "sealed index", "manifest", "condition", "shard", "transform", "configuration", "table of pairs"),
)
SEEDS = ROOT / "tests/fuzz/seeds"
CORPUS = ROOT / ".fuzz"
_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_EDGES = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the search on one target.

    Attributes:
        name: The target.
        inputs: How many inputs were tried.
        edges: How many branches of the toolkit's code they reached.
        findings: What was found, a line each.
    """

    name: str
    inputs: int
    edges: int
    findings: tuple[str, ...]


def folder_of(name: str) -> str:
    """The name of a target as that of a folder."""
    return name.lower().replace(" ", "_")


def search(name: str, seconds: float, intact: Path, kept: Path, findings: Path) -> Outcome:
    """Searches one target; after a crash, a hang or too much memory it begins anew in the time that is left."""
    ends = time.monotonic() + seconds
    inputs, edges, found = 0, 0, []
    # Twice the limit of a case: the search runs instrumented, and beside other work.
    flags = [
        f"-timeout={2 * CASE_LIMIT_S}",
        f"-report_slow_units={2 * CASE_LIMIT_S}",
        f"-rss_limit_mb={MEMORY_LIMIT_BYTES >> 20}",
        "-print_final_stats=1",
    ]
    place = findings / folder_of(name)
    flags.append(f"-artifact_prefix={place}/")
    place.mkdir(parents=True, exist_ok=True)
    while (left := int(ends - time.monotonic())) > 0:
        arguments = [str(intact), name, str(place), str(kept / folder_of(name))]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.coverage_guided", *arguments, *flags, f"-max_total_time={left}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
        )
        inputs += sum(map(int, _INPUTS.findall(done.stderr)))
        edges = max([edges, *map(int, _EDGES.findall(done.stderr))])
        found += [line for line in done.stdout.splitlines() if line.startswith("finding: ")]
        if done.returncode == 0:
            break
        found.append(f"finding: the process ended with {done.returncode}: {done.stderr[-400:]}")
        if not inputs:
            break
    if not any(place.iterdir()):
        place.rmdir()
    return Outcome(name, inputs, edges, tuple(found))


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="Time of the whole campaign.")
@click.option("--target", "names", multiple=True, type=click.Choice(TARGETS), help="Only these targets.")
@click.option(
    "--findings", default=SEEDS, show_default=True, type=click.Path(path_type=Path), help="Folder of findings."
)
def main(minutes: float, names: tuple[str, ...], findings: Path) -> None:
    """Fuzzes the readers guided by coverage."""
    chosen = names or TARGETS
    jobs = max(1, min(len(chosen), os.cpu_count() or 1))
    seconds = max(1.0, minutes * 60 * jobs / len(chosen))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:
        builds.tiny_set(Path(scratch))
        small_dng(Path(scratch) / "small.dng")
        outcomes = list(pool.map(lambda name: search(name, seconds, Path(scratch), CORPUS, findings), chosen))
    for outcome in outcomes:
        counts = f"{outcome.inputs:9,} inputs  {outcome.edges:6,} branches  {len(outcome.findings)} findings"
        click.echo(f"{outcome.name:20} {counts}")
        for line in outcome.findings:
            click.echo(f"    {line}")
    if any(outcome.findings for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
