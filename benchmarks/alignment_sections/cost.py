"""CPU seconds and peak memory of every aligner on one pair of 6 megapixels, in a fresh process each."""

from __future__ import annotations

import resource
import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import alignment
from benchmarks.alignment_sections import planted
from benchmarks.alignment_sections.aligners import NOTHING, installed_aligners
from benchmarks.alignment_sections.comparison import cpu_s, homography_or_none
from benchmarks.alignment_sections.measurement import Job, Measurement
from benchmarks.alignment_sections.options import Options
from benchmarks.fresh_process import in_fresh_process, resident_mb

RADIUS_PX = 8.0
CORNER_PX = 400
FLOW = "ours, with dense flow"


def jobs(options: Options) -> list[Job]:
    """All of it is one job."""
    return [partial(measure_costs, options)]


def measure_costs(options: Options) -> list[Measurement]:
    height, width = options.cost_size
    (case,) = planted.scene_cases(options.photographs, 0, options.cost_size, planted.SMALL, (RADIUS_PX,), options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.npy"
        np.save(path, np.stack([case.blur, case.sharp]))
        for method in (*(name for name in installed_aligners(rivals=options.rivals) if name != NOTHING), FLOW):
            costs = zip(("cpu_s", "peak_mb", "before_mb"), in_fresh_process(cost_of, path, method), strict=True)
            found = dict(costs)
            rows += [Measurement("cost", f"{width}x{height}", "pair", method, name, found[name]) for name in found]
    return rows


def cost_of(path: Path, method: str) -> tuple[float, float, float]:
    """CPU seconds; peak resident megabytes, and how many of them were there beforehand."""
    cv2.setNumThreads(1)
    blur, sharp = np.load(path)
    work = alignment.flow if method == FLOW else partial(homography_or_none, installed_aligners(rivals=True)[method])
    # Libraries are loaded and their tables made on a corner of the frames first.
    work(*(np.ascontiguousarray(frame[:CORNER_PX, :CORNER_PX]) for frame in (blur, sharp)))
    before_mb = resident_mb("VmRSS")
    start = cpu_s()
    work(blur, sharp)
    spent = cpu_s() - start
    programs_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return spent, max(resident_mb("VmHWM"), programs_mb), before_mb
