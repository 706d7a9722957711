"""What a build costs, stage by stage, beside the least it could cost: LibRaw's own decoding of the same files.

`python benchmarks/build.py [--pairs 6] [--size 1296x864] [--workers 1 2] [--seed 0]` shoots virtual pairs once into a
temporary folder, then runs every stage of `sdd build` on them with each number of workers.

Every row runs in a fresh process, one worker being that process itself. Seconds start when its modules are loaded; with
more workers they include starting these, once a stage. The peak is that of the largest process, of which there are as
many as workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

# A script's own folder comes first otherwise, and there a benchmark hides the room `alignment`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sdd_toolkit.build import Dataset

# Everything heavy is imported where it is used, as in `cli.py`: worker processes load this file, too.
BYTES = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one row: wall and CPU seconds, peak resident memory of the largest process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def unpacked(files: list[Path]) -> None:
    """The numbers of the sensor, nothing else."""
    import rawpy

    for path in files:
        with rawpy.imread(str(path)) as raw:
            raw.unpack()


def developed(files: list[Path]) -> None:
    """LibRaw's demosaicing (AHD, 16 bit) as `sdd pack` wants it."""
    import rawpy

    for path in files:
        with rawpy.imread(str(path)) as raw:
            raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD, output_bps=16, gamma=(1, 1), no_auto_bright=True
            )


def stages(raw: Path, dataset: Dataset, pairs: int, executor: str) -> dict[str, Callable[[], object]]:
    """The line of `sdd build`; several shards, so that packing has something to share out."""
    import alignment.stage
    import capture.ingest
    from alignment.config import AlignConfig
    from capture.config import IngestConfig
    from sdd_toolkit import cards, filter, pack, report, verify
    from sdd_toolkit.pack_config import PackConfig
    from sdd_toolkit.select import FilterConfig

    packing = PackConfig(pairs_per_shard=max(1, pairs // 4), patch_size=256, min_size_px=64)
    how = {"executor": executor}
    return {
        "ingest": partial(capture.ingest.run, [raw], dataset.folder, IngestConfig(), **how),
        "align": partial(alignment.stage.run, dataset.ingested, dataset.folder, AlignConfig(), **how),
        "filter": partial(filter.run, dataset.aligned, dataset.folder, FilterConfig(), **how),
        "pack": partial(pack.run, dataset.filtered, dataset.shards, packing, **how),
        "verify": partial(verify.run, dataset.shards),
        "card": partial(cards.run, dataset.shards, cards.CardConfig(), manifest=dataset.filtered),
        "report": partial(report.run, dataset.folder, dataset.report, report.ReportConfig(), **how),
    }


def cost(work: Callable[[], object]) -> Cost:
    """Runs `work` here; meant for a process that does nothing else."""
    import cv2

    cv2.setNumThreads(1)
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    work()
    wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
    return Cost(wall, cpu, max(own_peak_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES / 1e6))


def own_peak_mb() -> float:
    """Of this process; on Linux ru_maxrss also counts what the parent held when it started this one."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES / 1e6
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def alone(work: Callable[[], object]) -> Cost:
    """The cost of `work` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(cost, work).result()


def printed(name: str, costs: list[Cost], pairs: int) -> None:
    cells = (f"{one.wall_s / pairs:>10.3f}{one.cpu_s / pairs:>9.3f}{one.peak_mb:>9.0f}" for one in costs)
    print(f"{name:24s}" + "   ".join(cells), flush=True)


def whole(costs: list[Cost]) -> Cost:
    return Cost(sum(one.wall_s for one in costs), sum(one.cpu_s for one in costs), max(one.peak_mb for one in costs))


def main() -> None:
    import capture.virtual.stage
    from capture.virtual.config import SimulateConfig
    from sdd_toolkit import manifest

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--size", default="1296x864", help="WxH of the frames")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
        capture.virtual.stage.run(
            raw, camera, scenes=options.pairs, seed=options.seed, executor="local:2" if options.pairs > 1 else "serial"
        )
        files = sorted(raw.rglob("*.dng"))
        size_mb = sum(path.stat().st_size for path in files) / 1e6
        print(f"{options.pairs} pairs of {width}x{height}, {size_mb:.0f} MB of DNG; everything per pair but the peak")
        print(f"{'':24s}" + "   ".join(f"{f'{count} worker' + 's' * (count > 1):>28s}" for count in options.workers))
        print(f"{'':24s}" + "   ".join(f"{'s':>10s}{'CPU s':>9s}{'peak MB':>9s}" for _ in options.workers))
        datasets = [Dataset(Path(folder) / f"built-by-{count}") for count in options.workers]
        plans = [
            stages(raw, dataset, options.pairs, "serial" if count == 1 else f"local:{count}")
            for dataset, count in zip(datasets, options.workers, strict=True)
        ]
        rows = {}
        for name in plans[0]:
            rows[name] = [alone(plan[name]) for plan in plans]
            printed(name, rows[name], options.pairs)
        printed("all stages", [whole(list(column)) for column in zip(*rows.values(), strict=True)], options.pairs)
        printed("LibRaw, unpacking", [alone(partial(unpacked, files))], options.pairs)
        printed("LibRaw, developing", [alone(partial(developed, files))], options.pairs)
        records = manifest.read(datasets[0].filtered).records
        kept = sum(record.verdict is not None and record.verdict.keep for record in records)
        print(f"{kept} of {len(records)} pairs kept and packed")


if __name__ == "__main__":
    main()
