"""Aligners on defocused pairs: ours against what else there is, in one run.

`python benchmarks/alignment.py` prints a table for every section, on the pairs told below; `--out docs/benchmarks` also
writes the page, its pictures and every single number. `--only planted loops` runs these sections, `--ours` leaves the
rivals out; on a page what was not run keeps the numbers it had. `--quick` is the smallest run that touches everything.

  planted   photographs with a known small motion under a disc of each radius
  large     the same with 5 to 10 % zoom, up to 100 px shift and 2 degrees
  virtual   scenes of the virtual camera, blur that changes with depth; dense motion and occlusion, too
  loops     real focal stacks by loop consistency; real pairs by what is left over
  honesty   our own estimate of the error against the true one; what is refused
  cost      CPU seconds and memory of one pair of six megapixels

Everything but the costs is the same in every run with the same options. Sections whose photographs are missing are
left out, with a word about it.
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

from benchmarks.alignment_sections import cost, honesty, loops, measurement, page, photographs, planted, scenes
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
    "cost": cost.jobs,
}
OF_PHOTOGRAPHS = ("planted", "large", "honesty", "cost")


def parsed() -> argparse.Namespace:
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


def options_of(told: argparse.Namespace) -> Options:
    paths = photographs.files(told.photographs or told.data / "natural")
    stacks = [told.data / "focal_stacks" / name for name in STACKS if (told.data / "focal_stacks" / name).is_dir()]
    sharp = sorted((told.data / "defocus_pairs").glob("dpdd_*_sharp.png"))
    return Options(
        photographs=paths,
        stacks=stacks[:1] if told.quick else stacks,
        detours=1 if told.quick else None,
        pairs=[(path.with_name(path.name.replace("sharp", "blur")), path) for path in sharp][
            : 1 if told.quick else None
        ],
        images=min(2 if told.quick else told.images, len(paths)),
        size=(320, 400) if told.quick else told.size,
        radii_px=(0.0, 4.0) if told.quick else tuple(told.radii),
        scenes=1 if told.quick else told.scenes,
        scene_size=(320, 448) if told.quick else (1296, 1944),
        cost_size=(400, 480) if told.quick else (2000, 3000),
        rivals=not told.ours,
        seed=told.seed,
    )


def planned(told: argparse.Namespace, options: Options) -> list[tuple[str, Job]]:
    """Every job with its section's name; a word about sections that have nothing to work on."""
    plan = []
    for name in told.only:
        missing = "photographs" if name in OF_PHOTOGRAPHS and not options.photographs else ""
        found = [] if missing else SECTIONS[name](options)
        if not found:
            print(f"{name}: left out, no {missing or 'stacks or pairs'} found", file=sys.stderr)
        plan += [(name, job) for job in found]
    return plan


def carried_out(plan: list[tuple[str, Job]], workers: int) -> Iterator[list[Measurement]]:
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


def command_of(told: argparse.Namespace) -> str:
    """The line that makes the page again, photographs' folder unnamed."""
    words = [".venv/bin/python benchmarks/alignment.py"]
    words += ["--photographs DIR"] if told.photographs else []
    words += [f"--seed {told.seed}"] if told.seed else []
    return " ".join([*words, "--out docs/benchmarks"])


def main() -> None:
    told = parsed()
    options = options_of(told)
    for name, run in aligners().items():
        if run is None:
            print(f"{name}: not installed", file=sys.stderr)
    rows = [row for found in carried_out(planned(told, options), told.workers) for row in found]
    print(page.printed(rows))
    if told.out:
        told.out.mkdir(parents=True, exist_ok=True)
        measured = {(row.section, row.method) for row in rows}
        before = measurement.read(told.out / f"{page.NAME}.csv")
        kept = [row for row in before if (row.section, row.method) not in measured]
        every = sorted(kept + rows, key=lambda row: list(SECTIONS).index(row.section))
        measurement.write(told.out / f"{page.NAME}.csv", every)
        page.write(told.out, every, command_of(told))


if __name__ == "__main__":
    main()
