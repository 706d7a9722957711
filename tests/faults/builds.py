"""Builds of a tiny virtual set in forked processes, so that a hundred of them can be killed in a minute.

The fork server has imported everything once; a child starts in milliseconds and runs the whole of `sdd build`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import cv2
import h5py
import numpy as np

import alignment.config
import alignment.registration.stage
from cli import build_dataset
from sdd_toolkit.cli.options import RunOptions
from sdd_toolkit.config import load_section
from sdd_toolkit.errors import SddError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.report import page
from sdd_toolkit.shards.index import ShardHeader, read_index
from sdd_toolkit.shards.schema import PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import replace_atomically, sha256_of, write_text
from sdd_toolkit.storage.folder_lock import folder_lock
from tests.faults.points import Points, disk_full, killed
from tests.support.command_line import sdd
from tests.support.small_build import content  # noqa: F401 as builds.content

# The server imports what a build needs: a child would spend more time on that than on the work.
PRELOADED = (
    "alignment.fusion.stage",
    "alignment.registration.stage",
    "capture.ingest.stage",
    "capture.inspection.inspect_files",
    "capture.inspection.survey",
    "capture.inspection.thumbnails",
    "capture.pairing.by_content",
    "capture.pairing.records",
    "filelock",
    "jinja2",
    "pandas",
    "sdd_toolkit.audit.verify",
    "sdd_toolkit.calibration.hot_pixel_map",
    "sdd_toolkit.cards.stage",
    "sdd_toolkit.packing.stage",
    "sdd_toolkit.quality.stage",
    "sdd_toolkit.report.page",
    "sdd_toolkit.report.pictures",
    "sdd_toolkit.report.stage",
)
UNPRIVILEGED_ID = 65534
Act = Callable[[str], None]
TINY = """
[simulate]
width = 320
height = 256
max_coc_px = 3.0
min_coc_px = 1.0
[align]
min_textured_tiles = 4
[filter]
min_texture_fraction = 0
min_sharp_acuity = 0
min_sharpness_gain = 0
min_sharper_fraction = 0
max_softer_fraction = 1
max_unexplained_fraction = 1
max_residual_px = 9
max_residual_p95_px = 99
max_error_px = 99
[pack]
pairs_per_shard = 2
patch_size = 64
min_size_px = 64
[report]
title = "Tiny"
max_pictures = 3
picture_width_px = 128
[build]
sources = ["raw"]
"""


@cache
def tiny_set(session: Path) -> Path:
    """Three tiny virtual pairs in `raw`, their `sdd.toml`, and in `whole` the data set of a build without a fault."""
    folder = session / "tiny"
    folder.mkdir()
    (folder / "sdd.toml").write_text(TINY)
    simulate = ["--scenes", 3, "--kind", "focus", "--seed", 3, "--config", folder / "sdd.toml"]
    sdd("capture", "simulate", *simulate, "--executor", "serial", "--out", folder / "raw")
    assert in_child(build_watched, folder, folder / "whole", None) == 0
    return folder


def forked() -> ForkServerContext:
    """The start method of the children; its server imports this module first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.builds", *PRELOADED])
    return context


def build(folder: Path, out: Path, overwrite: bool = False) -> None:
    """Runs all stages serially, in a child; its exit code is that of the command."""
    gc.freeze()
    cv2.setNumThreads(1)
    page.histogram_svg = partial(_draw_once, folder / "figures", page.histogram_svg)  # type: ignore[attr-defined]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with folder_lock(out), folder_lock(out / "shards"), folder_lock(out / "report"):
            run = RunOptions(executor="serial", overwrite=overwrite, track=silent)
            build_dataset(folder / "sdd.toml", (folder / "raw",), out, run)
    except SddError as error:
        (out.parent / f"{out.name}.error").write_text(f"{error.what}\n{error.hint}")
        os._exit(error.exit_code)
    except Exception:
        (out.parent / f"{out.name}.error").write_text(traceback.format_exc())
        os._exit(1)


def _draw_once(folder: Path, draw: Callable[..., str], histogram: object, **options: object) -> str:
    """Remembers figures in `folder`: drawing takes half the time of a build and changes nothing on the disk."""
    path = folder / hashlib.sha256(pickle.dumps((histogram, options))).hexdigest()
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        partial_path = path.with_suffix(f".{os.getpid()}")
        partial_path.write_text(draw(histogram, **options))
        partial_path.rename(path)
    return path.read_text()


def build_watched(folder: Path, out: Path, at: int | str | None, act: Act = killed, stays: bool = False) -> None:
    """A build with a fault at one point; without one its points go to `OUT.points`."""
    points = Points(out, at, act, stays=stays)
    points.watch()
    build(folder, out)
    sys.setprofile(None)
    out.with_name(out.name + ".points").write_text("\n".join(points.names))


def undisturbed(folder: Path, out: Path) -> int | None:
    """A build without a fault, in a process of its own."""
    return in_child(build, folder, out)


def in_child(function: Callable[..., None], *arguments: object, timeout_s: float = 300) -> int | None:
    """The exit code of a process that calls `function`: negative if it was killed, None if it hangs."""
    child = forked().Process(target=function, args=arguments)
    child.start()
    child.join(timeout_s)
    code = child.exitcode
    child.kill()
    return code


def visible_faults(out: Path) -> list[str]:
    """Half-written files under their final names, which a reader would meet now."""
    faults = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        try:
            if path.suffix == ".h5":
                with h5py.File(path, "r") as file:
                    assert len(file["pairs"]) > 0
                    assert len(file["patches/pair"]) == len(file["patches/top"])
            elif path.name == "index.json":
                for shard in read_index(path.parent).shards:
                    assert sha256_of(path.parent / shard.name) == shard.sha256
            elif path.name.endswith(".h5.json"):
                noted = json.loads(path.read_text())["shard"]
                assert sha256_of(path.with_suffix("")) == noted["sha256"]
            elif path.suffix == ".npz":
                with np.load(path) as arrays:
                    assert all(arrays[name].size for name in arrays.files)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl" and not path.name.startswith("."):
                manifest.read_manifest(path)
        except Exception as error:
            faults.append(f"{path.relative_to(out)}: {error!r}")
    return faults


def realign(folder: Path) -> None:
    """Aligns the ingested pairs of `FOLDER/set` again, however their sources have changed since."""
    out = folder / "set"
    try:
        config = load_section(alignment.config.AlignConfig, "align", folder / "sdd.toml")
        alignment.registration.stage.align_pairs(out / "ingested.jsonl", out, config, overwrite=True)
    except SddError as error:
        (folder / "set.error").write_text(f"{error.what}\n{error.hint}")
        os._exit(error.exit_code)


def write_unprivileged(folder: Path) -> None:
    """Takes the lock of a folder and writes there, without root's rights."""
    os.setgid(UNPRIVILEGED_ID)
    os.setuid(UNPRIVILEGED_ID)
    try:
        with folder_lock(folder):
            write_text(folder / "file", "mine")
    except SddError as error:
        os._exit(error.exit_code if error.what == f"cannot write {folder}: Permission denied" else 1)


def write_shard_watched(folder: Path, at: int | None, patches: int) -> None:
    """Writes one shard with a long table of patches on a disk that is full from write number `at` on."""
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 255, (2, 96, 128, 3)).astype(np.uint8)
    flow = np.zeros((24, 32, 2), np.float32)
    record = replace(manifest.read_manifest(folder / "aligned.jsonl").records[0], id="pair")
    pair = PackedPair("pair", codes[0], codes[1], np.ones((96, 128), np.bool_), flow, record)
    table = [Patch("pair", number % 32, number % 64, 0.5, 1.0) for number in range(patches)]
    path = folder / "shard" / "one.h5"
    points = Points(folder / "shard", at, disk_full, stays=True)
    points.watch()
    try:
        with replace_atomically(path) as partial:
            write_shard(partial, ShardHeader("train", Encoding.SRGB8, 64), [(pair, table)])
    except SddError as error:
        os._exit(error.exit_code if error.what.startswith("no space left while writing ") else 1)
    sys.setprofile(None)
    (folder / "shard.points").write_text("\n".join(points.names))
