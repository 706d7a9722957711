"""Aligners on defocused pairs: ours beside six others, in one run.

`python benchmarks/alignment.py` prints a table for every section, on the pairs listed below; `--out docs/benchmarks`
also writes the page, its pictures and every single number. `--only planted loops` runs these sections, `--ours` leaves
the rivals out; a page keeps the numbers of what was not run. `--quick` is the smallest run that touches everything.

  planted      photographs with a known small motion under a disc of each radius
  large        the same with 5 to 10 % zoom, up to 100 px shift and 2 degrees
  virtual      scenes of the virtual camera, blur that changes with depth; dense motion and occlusion, too
  loops        real focal stacks by loop consistency; real pairs by what is left over
  honesty      our own estimate of the error against the true one; what is refused
  calibration  our own estimate against the error, on loops of all focal stacks and on planted pairs
  cost         CPU seconds and memory of one pair of six megapixels

Everything but the costs is the same in every run with the same options. Sections whose photographs are missing are
left out and named on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# A script's own folder comes first otherwise, and there this very file would hide the package `alignment`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from benchmarks.alignment_sections import (
    calibration,
    cost,
    honesty,
    loops,
    measurement,
    page,
    photographs,
    planted,
    scenes,
)
from benchmarks.alignment_sections.aligners import aligners
from benchmarks.alignment_sections.measurement import Job, Measurement
from benchmarks.alignment_sections.options import Options

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
STACKS = ("room", "ring", "keyboard", "pcb")
SECTIONS = {
    "planted": planted.jobs,
    "large": planted.large_jobs,
    "virtual": scenes.jobs,
    "loops": loops.jobs,
    "honesty": honesty.jobs,
    "calibration": calibration.jobs,
    "cost": cost.jobs,
}
OF_PHOTOGRAPHS = ("planted", "large", "honesty", "cost")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder of sharp photographs; default: DATA/natural")
    parser.add_argument("--data", type=Path, default=DATA, help="holds natural/, focal_stacks/, defocus_pairs/")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--images", type=int, default=12, help="photographs, or scenes made of several")
    parser.add_argument("--size", type=size_of, default=(1184, 1896), help="WxH of the planted frames")
    parser.add_argument("--radii", type=float, nargs="+", default=[0, 4, 8, 16], help="disc radii in pixels")
    parser.add_argument("--scenes", type=int, default=4, help="virtual pairs of every kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--ours", action="store_true", help="without the rivals: a few minutes")
    parser.add_argument("--quick", action="store_true", help="two small photographs, one small scene of every kind")
    parser.add_argument("--out", type=Path, help="folder for the page, its pictures and the numbers")
    return parser.parse_args()


def options_of(arguments: argparse.Namespace) -> Options:
    paths = photographs.list_photographs(arguments.photographs or arguments.data / "natural")
    stacks = [
        arguments.data / "focal_stacks" / name for name in STACKS if (arguments.data / "focal_stacks" / name).is_dir()
    ]
    every = sorted(folder for folder in (arguments.data / "focal_stacks").glob("*") if folder.is_dir())
    sharp = sorted((arguments.data / "defocus_pairs").glob("dpdd_*_sharp.png"))
    return Options(
        photographs=paths,
        stacks=stacks[:1] if arguments.quick else stacks,
        every_stack=stacks[:1] if arguments.quick else every,
        detours=1 if arguments.quick else None,
        pairs=[(path.with_name(path.name.replace("sharp", "blur")), path) for path in sharp][
            : 1 if arguments.quick else None
        ],
        images=min(2 if arguments.quick else arguments.images, len(paths)),
        size=(320, 400) if arguments.quick else arguments.size,
        radii_px=(0.0, 4.0) if arguments.quick else tuple(arguments.radii),
        scenes=1 if arguments.quick else arguments.scenes,
        scene_size=(320, 448) if arguments.quick else (1296, 1944),
        cost_size=(400, 480) if arguments.quick else (2000, 3000),
        rivals=not arguments.ours,
        seed=arguments.seed,
    )


def plan_jobs(arguments: argparse.Namespace, options: Options) -> list[tuple[str, Job]]:
    """Every job with the name of its section; sections without data are named on stderr."""
    plan = []
    for name in arguments.only:
        missing = "photographs" if name in OF_PHOTOGRAPHS and not options.photographs else ""
        found = [] if missing else SECTIONS[name](options)
        if not found:
            print(f"{name}: left out, no {missing or 'stacks or pairs'} found", file=sys.stderr)
        plan += [(name, job) for job in found]
    return plan


def run_jobs(plan: list[tuple[str, Job]], workers: int) -> Iterator[list[Measurement]]:
    """The measurements of each job, in order; progress goes to stderr."""
    start = time.monotonic()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        for done, ((name, _), running) in enumerate([(step, pool.submit(step[1])) for step in plan], start=1):
            yield running.result()
            gone = (time.monotonic() - start) / 60
            left = gone / done * (len(plan) - done)
            print(
                f"{done}/{len(plan)} {name}: {gone:.1f} min gone, about {left:.0f} to go", file=sys.stderr, flush=True
            )


def size_of(text: str) -> tuple[int, int]:
    width, height = (int(part) for part in text.split("x"))
    return height, width


def command_of(arguments: argparse.Namespace) -> str:
    """The command that writes the page again, without the name of the folder of photographs."""
    words = [".venv/bin/python benchmarks/alignment.py"]
    words += ["--photographs DIR"] if arguments.photographs else []
    words += [f"--seed {arguments.seed}"] if arguments.seed else []
    return " ".join([*words, "--out docs/benchmarks"])


def main() -> None:
    arguments = parse_arguments()
    options = options_of(arguments)
    for name, run in aligners().items():
        if run is None:
            print(f"{name}: not installed", file=sys.stderr)
    rows = [row for found in run_jobs(plan_jobs(arguments, options), arguments.workers) for row in found]
    print(page.format_tables(rows))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        measured = {(row.section, row.method) for row in rows}
        before = measurement.read(arguments.out / f"{page.NAME}.csv")
        kept = [row for row in before if (row.section, row.method) not in measured]
        every = sorted(kept + rows, key=lambda row: list(SECTIONS).index(row.section))
        measurement.write(arguments.out / f"{page.NAME}.csv", every)
        page.write(arguments.out, every, command_of(arguments))


if __name__ == "__main__":
    main()
