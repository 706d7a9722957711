"""A data set of virtual pairs as shot, made where the questions are asked, and the wait of steps for its crops."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_questions.scale import Place, Report, wait
from benchmarks.gpu_questions.steps import optimiser_step
from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import render_pair
from jdrl.config import TrainConfig
from jdrl.data.crops import build_loader
from jdrl.data.training_data import load_training_data
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.packing.patches import patches_of
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, ShardInfo
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of

SHARD = "train-00000-of-00001.h5"
ENCODING = Encoding.SRGB8
NOISE = 0.004
Codes = NDArray[np.uint8]


def data_question(place: Place, report: Report) -> None:
    """Renders virtual focus pairs, displaced by up to 8 px, in processes, and writes them into one shard."""
    count, width, height = place.scale.pairs
    start = time.perf_counter()
    render = partial(rendered, width, height)
    if place.scale.on_gpu:
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_take_one_thread) as pool:
            images = list(pool.map(render, range(count)))
    else:
        images = [render(index) for index in range(count)]
    spent = time.perf_counter() - start
    write_data_set(place, images)
    size_mb = (place.folder / "shards" / SHARD).stat().st_size / 1e6
    report({"pairs": count, "size": f"{width}x{height}", "rendering s": round(spent, 1), "MB": round(size_mb, 1)})


def _take_one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def rendered(width: int, height: int, index: int) -> tuple[Codes, Codes]:
    """The blurred and the sharp frame of a virtual pair, as shot, with a little noise."""
    camera = SimulateConfig(width=width, height=height, min_coc_px=1.0)
    pair = render_pair(camera, "focus", seed=0, index=index)
    draw = np.random.default_rng([0, index])
    noisy = (image + draw.normal(0, NOISE, image.shape) for image in (pair.blur_linear, pair.sharp_linear))
    blur, sharp = (encode(np.clip(image, 0, 1).astype(np.float32), ENCODING) for image in noisy)
    return blur.astype(np.uint8), sharp.astype(np.uint8)


def write_data_set(place: Place, images: list[tuple[Codes, Codes]]) -> None:
    """One shard of unaligned pairs, patches of the training crop's side."""
    folder, side = place.folder / "shards", place.scale.crop
    folder.mkdir(parents=True)
    pairs = []
    for number, (blur, sharp) in enumerate(images):
        nowhere, name = FileRef("none.dng", 0, ""), f"pair-{number:03d}"
        record = PairRecord(name, f"scene-{number:03d}", PairKind.FOCUS, nowhere, nowhere, FrameMeta(), FrameMeta())
        flow = np.zeros((*(-(-length // FLOW_FACTOR) for length in blur.shape[:2]), 2), np.float32)
        packed = PackedPair(name, blur, sharp, np.ones(blur.shape[:2], np.bool_), flow, record)
        pairs.append((packed, list(patches_of(packed, side, 0.5))))
    codec = Profile("fast").codec
    ids, patches = write_shard(folder / SHARD, ShardHeader("train", ENCODING, side, codec), pairs)
    shard = ShardInfo(SHARD, "train", ids, patches, (folder / SHARD).stat().st_size, sha256_of(folder / SHARD))
    scenes = {"train": tuple(packed.record.scene for packed, _ in pairs)}
    write_index(folder, Index("virtual", ENCODING, TRANSFER[ENCODING], side, codec, "", "", scenes, (shard,)))


def loader_question(place: Place, report: Report) -> None:
    """The wait of steps of the first network, in bf16, for batches read and copied by so many loader processes."""
    scale = place.scale
    for workers in scale.workers:
        for count in scale.batches:
            report({"workers": workers, "crops": count, **waiting(place, workers, count)})


def waiting(place: Place, workers: int, count: int) -> dict[str, float]:
    """Milliseconds a step waits for its batch and takes in all, after some steps that fill the queue."""
    scale, name = place.scale, next(iter(place.scale.networks))
    first, steps = (5, 20) if scale.on_gpu else (1, 1)
    config = TrainConfig(crop=scale.crop, batch=count, workers=workers, steps=first + steps, warm_up_flow="estimated")
    crops = load_training_data(place.shards, config).crops
    batches = iter(build_loader(crops, 0, config, pin_memory=scale.on_gpu))
    waited = started = 0.0
    step = None
    for number in range(config.steps):
        if number == first:
            wait(scale)
            waited, started = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches).to(torch.device(scale.device))
        waited += time.perf_counter() - asked
        if step is None:
            step = optimiser_step(name, scale, scale.precisions["bf16"], batch)
        step()
        wait(scale)
    whole = time.perf_counter() - started
    return {
        "waited ms": round(1e3 * waited / steps, 2),
        "step ms": round(1e3 * whole / steps, 2),
        "busy": round(1 - waited / whole, 3),
    }
