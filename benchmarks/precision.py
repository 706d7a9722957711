"""Time, memory and accuracy of `sdd align` by requested precision, file to record, beside SIFT on full frames.

`python benchmarks/precision.py [--sizes 4096x2160 6000x4000] [--pairs 3] [--precisions 0 0.0075 0.015 0.03]` shoots
virtual pairs and aligns them as the stage does, with each `[align] precise_px` (0: always the finest level), in a fresh
process each. CPU seconds a pair hold hashing and reading both files and writing the flow; corner errors are those
against the camera's own truth, in full-size pixels. The rival (`aligners.py`) gets the frames developed already.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# A script's own folder comes first otherwise, and there a benchmark hides the package `alignment`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

import capture.ingest.stage
import capture.virtual.stage
from alignment.config import AlignConfig
from alignment.registration.stage import align_pair
from benchmarks.alignment_sections.aligners import sift_magsac
from benchmarks.alignment_sections.comparison import cpu_s
from benchmarks.fresh_process import in_fresh_process, resident_mb
from capture.config import IngestConfig
from capture.virtual.config import SimulateConfig
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.pipeline import manifest, stage_runner
from sdd_toolkit.records import PairRecord
from tests.support.planted_pairs import corner_error_px

Row = tuple[float, float, list[float], list[float]]


def shoot_pairs(folder: Path, size: str, pairs: int, seed: int) -> Path:
    """Virtual pairs, ingested: the manifest."""
    width, height = (int(part) for part in size.split("x"))
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    capture.virtual.stage.simulate_pairs(folder / "raw", camera, capture.virtual.stage.Series(scenes=pairs, seed=seed))
    capture.ingest.stage.ingest_photographs([folder / "raw"], folder, IngestConfig())
    return folder / "ingested.jsonl"


def truth_of(root: Path, record: PairRecord) -> np.ndarray:
    with np.load((root / record.blur.path).with_name("truth.npz")) as truth:
        return truth["homography"]


def measure_ours(source: Path, precise_px: float) -> Row:
    """CPU seconds a pair, peak megabytes, true and own corner errors; every pair twice, the quicker time counts."""
    cv2.setNumThreads(1)
    pairs, config = manifest.read_manifest(source), AlignConfig(precise_px=precise_px)
    seconds, true, own = [], [], []
    for record in pairs.records:
        job = stage_runner.Job(record=record, root=pairs.root, folder=source.parent, config=config)
        spent = []
        for _ in range(2):
            start = cpu_s()
            found = align_pair(job).alignment
            spent.append(cpu_s() - start)
        seconds.append(min(spent))
        true.append(corner_error_px(found.homography, truth_of(pairs.root, record), found.size))
        own.append(np.nan if found.error_px is None else found.error_px)
    return float(np.mean(seconds)), resident_mb("VmHWM"), true, own


def measure_sift(source: Path) -> Row:
    """The same of SIFT and MAGSAC++."""
    cv2.setNumThreads(1)
    pairs = manifest.read_manifest(source)
    seconds, true = [], []
    for record in pairs.records:
        blur, sharp = (frames.read_full(pairs.root / ref.path) for ref in (record.blur, record.sharp))
        start = cpu_s()
        found = sift_magsac(blur, sharp)
        seconds.append(cpu_s() - start)
        size = (sharp.shape[0], sharp.shape[1])
        known = truth_of(pairs.root, record)
        true.append(np.inf if found is None else corner_error_px(found, known, size))
    return float(np.mean(seconds)), resident_mb("VmHWM"), true, []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["4096x2160", "6000x4000"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--precisions", type=float, nargs="+", default=[0.0, 0.0075, 0.015, 0.03])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'':24s}{'CPU s':>8s}{'peak MB':>9s}{'error, px':>11s}{'worst':>9s}{'own, px':>9s}")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            source = shoot_pairs(Path(folder), size, options.pairs, options.seed)
            rows = {f"{size}, {precise:g} px": partial(measure_ours, source, precise) for precise in options.precisions}
            for name, work in {**rows, f"{size}, SIFT": partial(measure_sift, source)}.items():
                spent, peak, true, own = in_fresh_process(work)
                own_text = f"{np.median(own):9.4f}" if own else ""
                print(f"{name:24s}{spent:8.3f}{peak:9.0f}{np.median(true):11.4f}{max(true):9.4f}{own_text}", flush=True)


if __name__ == "__main__":
    main()
