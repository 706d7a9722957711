"""Time and memory of a build, stage by stage, beside decoding alone and beside a typical research script.

`python benchmarks/build.py [--sizes 4096x2160 6000x4000] [--pairs 12] [--workers 1 2] [--photographs FOLDER]
[--raw FOLDER] [--seed 0]` shoots virtual pairs of each size, then runs every stage of `sdd build` on them with each
number of workers. In the same run: LibRaw's own decoding of the same files, and on the first four pairs the pipeline of
`benchmarks/rivals/lab.py` (SIFT and RANSAC on full frames, one warp, PNG of 16 bits), whose alignment is compared with
the truth beside ours. What a build costs once (loading what draws the report, for one) is shared among the pairs.

Every row runs in a fresh process with one thread a process, one worker being that process itself. Seconds start when
its modules are loaded; with more workers they include starting these and the server that forks them, once a row. The
row `the whole command` is `sdd build` as it is typed, from the start of Python to its end; there the workers start
once. The peak is that of the largest process, of which there are as many as workers.

With `--photographs` the camera shoots photographs laid side by side, which SIFT finds more in than in dead leaves; with
`--raw` the pairs are kept in a folder and shot only once. Their DNG files are uncompressed Bayer: unpacking others
takes longer, for LibRaw and for a build alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# A script's own folder comes first otherwise, and there a benchmark hides the package `alignment`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fresh_process import in_fresh_process, resident_mb
from sdd_toolkit.pipeline.dataset_folder import DatasetFolder

# Everything heavy is imported where it is used, as in `cli.py`: worker processes load this file, too.
LAB_PAIRS = 4
BYTES = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one row: wall and CPU seconds, peak resident memory of the largest process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def unpack_files(files: list[Path]) -> None:
    """The numbers of the sensor, nothing else."""
    import rawpy

    for path in files:
        with rawpy.imread(str(path)) as raw:
            raw.unpack()


def develop_files(files: list[Path]) -> None:
    """LibRaw's demosaicing (AHD, 16 bit) as `sdd pack` wants it."""
    import rawpy

    for path in files:
        with rawpy.imread(str(path)) as raw:
            raw.postprocess(
                demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD, output_bps=16, gamma=(1, 1), no_auto_bright=True
            )


def command(raw: Path, folder: Path, pairs: int, executor: str) -> Cost:
    """`sdd build` as it is typed: start of Python, imports and start of the workers included."""
    import json

    config = folder / "sdd.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[pack]\npairs_per_shard = {max(1, pairs // 4)}\npatch_size = 256\nmin_size_px = 64\n")
    measure = (
        "import json, resource, subprocess, sys, time; began = time.perf_counter(); subprocess.run(sys.argv[1:], "
        "check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); end = time.perf_counter(); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps([end - began, used.ru_utime + used.ru_stime, used.ru_maxrss]))"
    )
    build = [sys.executable, "-m", "cli", "build", config, "--source", raw, "--out", folder, "--executor", executor]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(  # in a process of its own, whose children are only these
        [sys.executable, "-c", measure, *build], check=True, cwd=root, capture_output=True
    )
    wall_s, cpu_s, peak = json.loads(done.stdout)
    return Cost(wall_s, cpu_s, peak * BYTES / 1e6)


def lab_pipeline(files: list[Path], out: Path) -> None:
    """The pipeline of `benchmarks/rivals/lab.py` on the pairs."""
    from benchmarks.rivals import lab

    lab.run(list(zip(files[0::2], files[1::2], strict=True)), out)


def stages(raw: Path, dataset: DatasetFolder, pairs: int, executor: str) -> dict[str, Callable[[], object]]:
    """The line of `sdd build`; several shards, so that packing has something to share out."""
    import alignment.registration.stage
    import capture.ingest.stage
    from alignment.config import AlignConfig
    from capture.config import IngestConfig
    from sdd_toolkit.audit import verify
    from sdd_toolkit.calibration import hot_pixel_map
    from sdd_toolkit.cards import stage as cards
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.packing import stage as pack
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.quality import stage as filter
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.report import stage as report

    packing = PackConfig(pairs_per_shard=max(1, pairs // 4), patch_size=256, min_size_px=64)
    how = {"executor": executor}
    return {
        "ingest": partial(capture.ingest.stage.ingest_photographs, [raw], dataset.folder, IngestConfig(), **how),
        "hotpixels": partial(hot_pixel_map.find_hot_pixels, dataset.ingested, dataset.folder, **how),
        "align": partial(
            alignment.registration.stage.align_pairs, dataset.ingested, dataset.folder, AlignConfig(), **how
        ),
        "filter": partial(filter.filter_pairs, dataset.aligned, dataset.folder, FilterConfig(), **how),
        "pack": partial(pack.pack_dataset, dataset.filtered, dataset.shards, packing, **how),
        "verify": partial(verify.verify_shards, dataset.shards, pixels=False, hashes=False),
        "card": partial(cards.write_card, dataset.shards, CardConfig(), manifest=dataset.filtered),
        "report": partial(report.write_report, dataset.folder, dataset.report, report.ReportConfig(), **how),
    }


def cost(work: Callable[[], object]) -> Cost:
    """Runs `work` here; meant for a process that does nothing else."""
    import cv2

    from sdd_toolkit.execution import fork_server

    cv2.setNumThreads(1)
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    work()
    wall = time.perf_counter() - wall
    fork_server.stop()  # what it and the workers cost is counted once it has ended
    cpu = sum(os.times()[:4]) - cpu
    return Cost(
        wall, cpu, max(resident_mb("VmHWM"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES / 1e6)
    )


def cost_alone(work: Callable[[], object]) -> Cost:
    """The cost of `work` in a fresh process."""
    return in_fresh_process(cost, work, method="spawn")


def print_row(name: str, costs: list[Cost], pairs: int) -> None:
    cells = (f"{one.wall_s / pairs:>10.3f}{one.cpu_s / pairs:>9.3f}{one.peak_mb:>9.0f}" for one in costs)
    print(f"{name:24s}" + "   ".join(cells), flush=True)


def sum_costs(costs: list[Cost]) -> Cost:
    return Cost(sum(one.wall_s for one in costs), sum(one.cpu_s for one in costs), max(one.peak_mb for one in costs))


def shoot_pairs(
    raw: Path, size: tuple[int, int], pairs: int, seed: int, photographs: Path | None, scratch: Path
) -> None:
    """Virtual pairs of dead leaves, or of the photographs of a folder laid side by side."""
    import capture.virtual.stage
    from capture.virtual.config import SimulateConfig
    from capture.virtual.sources import PhotographSource

    sources = []
    if photographs is not None:
        import cv2
        import numpy as np

        from benchmarks.alignment_sections.photographs import list_photographs, mosaic
        from sdd_toolkit.imaging.encoding import Encoding, encode

        for number in range(pairs):
            scene = encode(
                mosaic(list_photographs(photographs), number, (size[0] + 120, size[1] + 200)), Encoding.SRGB8
            )
            path = scratch / f"{size[1]}x{size[0]}-{number}.png"
            cv2.imwrite(str(path), np.ascontiguousarray(scene[..., ::-1]))
            sources.append(PhotographSource(path))
    camera = SimulateConfig(width=size[1], height=size[0], pixel_pitch_um=min(100.0, 36000 / size[1]))
    executor = "local:2" if pairs > 1 else "serial"
    capture.virtual.stage.simulate_pairs(
        raw, camera, capture.virtual.stage.Series(scenes=pairs, seed=seed, photographs=sources), executor=executor
    )


def corner_errors_px(homographies: dict[Path, Any]) -> list[float]:
    """Against the truth of each scene's folder; infinite where there is none or it is not finite."""
    import numpy as np

    from tests.support.planted_pairs import corner_error_px

    errors = []
    for folder, found in homographies.items():
        with np.load(folder / "truth.npz") as truth:
            usable = found is not None and np.all(np.isfinite(found))
            errors.append(
                corner_error_px(found, truth["homography"], truth["coc_px"].shape) if usable else float("inf")
            )
    return errors


def our_homographies(dataset: DatasetFolder) -> dict[Path, Any]:
    """The homography of every pair by the folder it was shot into."""
    from sdd_toolkit.pipeline import manifest

    content = manifest.read_manifest(dataset.filtered)
    return {
        content.locate(record.blur).parent: record.alignment.homography
        if record.alignment is not None and record.alignment.failure is None
        else None
        for record in content.records
    }


def measure_size(size: str, options: argparse.Namespace, folder: Path) -> None:
    """Shoots, builds and prints one size."""
    import numpy as np

    from sdd_toolkit.pipeline import manifest

    width, height = (int(part) for part in size.split("x"))
    raw = (options.raw or folder) / f"raw-{size}"
    shoot_pairs(raw, (height, width), options.pairs, options.seed, options.photographs, folder)
    files = sorted(raw.rglob("*.dng"))
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    print(f"{options.pairs} pairs of {size}, {size_mb:.0f} MB of DNG; everything per pair but the peak")
    print(f"{'':24s}" + "   ".join(f"{f'{count} worker' + 's' * (count > 1):>28s}" for count in options.workers))
    print(f"{'':24s}" + "   ".join(f"{'s':>10s}{'CPU s':>9s}{'peak MB':>9s}" for _ in options.workers))
    datasets = [DatasetFolder(folder / f"{size}-by-{count}") for count in options.workers]
    plans = [
        stages(raw, dataset, options.pairs, "serial" if count == 1 else f"local:{count}")
        for dataset, count in zip(datasets, options.workers, strict=True)
    ]
    rows = {}
    for name in plans[0]:
        rows[name] = [cost_alone(plan[name]) for plan in plans]
        print_row(name, rows[name], options.pairs)
    wholes = [sum_costs(list(column)) for column in zip(*rows.values(), strict=True)]
    print_row("all stages", wholes, options.pairs)
    commands = [
        command(raw, folder / f"{size}-command-{count}", options.pairs, "serial" if count == 1 else f"local:{count}")
        for count in options.workers
    ]
    print_row("the whole command", commands, options.pairs)
    print_row("LibRaw, unpacking", [cost_alone(partial(unpack_files, files))], options.pairs)
    decoding = cost_alone(partial(develop_files, files))
    print_row("LibRaw, developing", [decoding], options.pairs)
    few = files[: 2 * LAB_PAIRS]
    lab = cost_alone(partial(lab_pipeline, few, folder / f"{size}-lab"))
    print_row("laboratory's pipeline", [lab], len(few) // 2)
    print(f"{'build / developing':24s}{wholes[0].cpu_s / decoding.cpu_s:10.2f}  by CPU seconds, one worker")
    lab_ratio = lab.cpu_s / (len(few) // 2) / (wholes[0].cpu_s / options.pairs)
    print(f"{'laboratory / build':24s}{lab_ratio:10.2f}  by CPU seconds, one worker")
    for count, cost_of in zip(options.workers[1:], commands[1:], strict=True):
        print(f"{f'speed-up, {count} workers':24s}{commands[0].wall_s / cost_of.wall_s:10.2f}  of the whole command")
    theirs = {path.parent: np.load(folder / f"{size}-lab" / f"{n}.npy") for n, path in enumerate(few[0::2])}
    for name, found in (("corners, ours", our_homographies(datasets[0])), ("corners, laboratory", theirs)):
        print(f"{name:24s}{np.median(corner_errors_px(found)):10.3f}  px off the truth (RMS of a frame's, median)")
    records = manifest.read_manifest(datasets[0].filtered).records
    kept = sum(record.verdict is not None and record.verdict.keep for record in records)
    print(f"{kept} of {len(records)} pairs kept and packed\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--sizes", default=["4096x2160", "6000x4000"], nargs="+", help="WxH of the frames")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--photographs", type=Path, help="folder of sharp photographs to shoot")
    parser.add_argument("--raw", type=Path, help="folder that keeps the pairs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Inherited by every process below: one thread each, or workers could not be compared.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            measure_size(size, options, Path(folder))


if __name__ == "__main__":
    main()
