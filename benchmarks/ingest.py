"""Time and memory of `sdd ingest`: the first run, a second one without changes, and one after one file changed.

`python benchmarks/ingest.py [--files 2000] [--sizes 324x216 1296x864] [--workers 2] [--repeats 3] [--seed 0]` shoots a
few virtual pairs into a temporary folder and multiplies them to as many distinct RAW files; everything stays in the
page cache.

Every run is a fresh `sdd` process and its seconds are those of the whole process. The peak is the largest sum of
resident memory over the process and its workers (looked at every 20 ms, pages they share counted in each).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SHOT_SCENES = 8
LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process and its workers."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def multiply_scenes(shot: Path, folder: Path, files: int) -> None:
    """`files` distinct RAW files in folders of two, made of the scenes in `shot` by bytes appended after the image."""
    scenes = sorted(path for path in shot.iterdir() if path.is_dir())
    for number in range(files // 2):
        place = folder / f"scene-{number + 1:05d}"
        place.mkdir(parents=True)
        for name in ("blur.dng", "sharp.dng"):
            content = (scenes[number % len(scenes)] / name).read_bytes()
            (place / name).write_bytes(content + number.to_bytes(8, "little"))


def measure_ingest(raw: Path, out: Path, workers: int) -> Cost:
    """`sdd ingest` in a process of its own."""
    command = [sys.executable, "-m", "cli", "ingest", str(raw), "--out", str(out), "--executor", f"local:{workers}"]
    before, started, peak = os.times(), time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            time.sleep(LOOK_EVERY_S)
    wall, after = time.perf_counter() - started, os.times()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu, peak)


def resident_mb(pid: int) -> float:
    """Of a process and all below it; 0 where the system does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 + sum(resident_mb(int(child)) for child in children)


def print_row(name: str, costs: list[Cost], files: int, first_s: float) -> float:
    """One row, of medians; returns the seconds."""
    wall, cpu, peak = (
        statistics.median(getattr(cost, key) for cost in costs) for key in ("wall_s", "cpu_s", "peak_mb")
    )
    ratio = (first_s or wall) / wall
    print(f"{name:24s}{wall:>9.2f}{cpu:>9.2f}{files / wall:>10.0f}{ratio:>9.1f}{peak:>9.0f}", flush=True)
    return wall


def measure_runs(raw: Path, folder: Path, files: int, workers: int, repeats: int) -> None:
    first, again, touched = [], [], []
    for number in range(repeats):
        out = folder / f"out-{number}"
        first.append(measure_ingest(raw, out, workers))
        again.append(measure_ingest(raw, out, workers))
        os.utime(next(raw.rglob("*.dng")))
        touched.append(measure_ingest(raw, out, workers))
    first_s = print_row("first run", first, files, 0.0)
    print_row("nothing changed", again, files, first_s)
    print_row("one file touched", touched, files, first_s)


def main() -> None:
    import capture.virtual.stage
    from capture.virtual.config import SimulateConfig

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--sizes", nargs="+", default=["324x216", "1296x864"], help="WxH of the frames")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'':24s}{'s':>9s}{'CPU s':>9s}{'files/s':>10s}{'times':>9s}{'peak MB':>9s}")
    for size in options.sizes:
        width, height = (int(part) for part in size.split("x"))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
            scenes = min(SHOT_SCENES, max(1, options.files // 2))
            capture.virtual.stage.simulate_pairs(
                folder / "shot", camera, capture.virtual.stage.Series(scenes=scenes, seed=options.seed)
            )
            multiply_scenes(folder / "shot", folder / "raw", options.files)
            size_mb = sum(path.stat().st_size for path in (folder / "raw").rglob("*.dng")) / 1e6
            print(f"{options.files} files of {size}, {size_mb:.0f} MB, {options.workers} workers")
            measure_runs(folder / "raw", folder, options.files, options.workers, options.repeats)


if __name__ == "__main__":
    main()
