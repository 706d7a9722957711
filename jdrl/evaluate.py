"""`sdd evaluate`: PSNR, SSIM and MAE of a checkpoint's output, and of its input, on one split of a data set.

Two protocols, side by side:

* `unwarped`: against the sharp frame as it is packed, globally aligned;
* `aligned`: against the sharp frame warped by the flow stored with the data set onto the blurred frame. The flow was
  estimated once per pair, from the pair alone, so it favours no method.

Values are those of the data set's encoding: sRGB-encoded ones, as papers report them, or for linear16 linear light,
whose scores compare with no sRGB score. Only valid pixels count. Outputs are rounded to the data set's bit depth
first, as files of them would be.
"""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.checkpoint import load_network, locate
from jdrl.data import aligned
from jdrl.device import device_name
from jdrl.infer import deblur
from jdrl.metrics import mae, psnr, ssim
from jdrl.pictures import Comparison, cut_out, draw_comparison, row_picture
from jdrl.tiles import tiling
from sdd_toolkit.develop import Encoding
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.files import write_text
from sdd_toolkit.images import write_image
from sdd_toolkit.progress import silent
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.types import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from jdrl.config import EvaluateConfig
    from jdrl.data import Batch
    from sdd_toolkit.progress import Track

IMAGES = ("input", "deblurred")
PROTOCOLS = ("unwarped", "aligned")
_SSIM_WINDOW_PX = 11


@dataclass(frozen=True, slots=True)
class Score:
    """One image under one protocol.

    Attributes:
        pair: The pair's id; `mean` for the mean over all pairs.
        image: `input` (the blurred frame) or `deblurred`.
        protocol: `unwarped` or `aligned`.
        psnr_db: Peak signal-to-noise ratio.
        ssim: Structural similarity, 7x7 uniform window (scikit-image's default, the official code's).
        ssim_gaussian: The same with the Gaussian 11x11 window of the SSIM paper.
        mae: Mean absolute error, 0 … 1.
    """

    pair: str
    image: str
    protocol: str
    psnr_db: float | None
    ssim: float | None
    ssim_gaussian: float | None
    mae: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was scored: one mean per image kind and protocol, and every single score.

    Attributes:
        report: Counts, time and outputs.
        checkpoint: Name of the checkpoint.
        step: Its optimiser steps.
        split: Which split was scored.
        encoding: Of the data set.
        domain: Of the values that were scored: `sRGB` or `linear light`.
        means: Over all pairs.
        images: Pair by pair.
    """

    report: Report
    checkpoint: str
    step: int
    split: str
    encoding: str
    domain: str
    means: tuple[Score, ...]
    images: tuple[Score, ...]


def run(
    checkpoint: Path,
    shards: Path,
    out: Path,
    config: EvaluateConfig,
    *,
    split: str = "test",
    network: str | None = None,
    track: Track = silent,
) -> Evaluation:
    """Scores a checkpoint and writes evaluation.csv, evaluation.json and before/after pictures to `out`.

    Args:
        checkpoint: A checkpoint folder or a training run.
        shards: Folder with index.json.
        out: Folder for the results.
        config: The `[evaluate]` section.
        split: Which split to score on.
        network: See `load_network`.
        track: Shows progress.

    Raises:
        InputError: The split does not exist or is empty.
        CheckpointError: The checkpoint cannot be used, or was trained on another encoding.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    folder = locate(checkpoint)
    loaded, header = load_network(folder, network)
    loaded.to(device_name(config.device))
    tile, overlap = tiling(loaded, config)
    scores: list[Score] = []
    shown: list[Comparison] = []
    with ShardReader(shards, split=split) as reader:
        if not reader.pair_ids:
            raise InputError(f"the split {split!r} of {shards} holds no pairs", hint="pack more scenes, or --split")
        if reader.encoding != header.encoding:
            raise CheckpointError(
                f"{folder} was trained on {header.encoding} images, {shards} holds {reader.encoding}",
                hint="evaluate on a data set packed with the same encoding",
            )
        with track("evaluate", len(reader.pair_ids)) as advance:
            for pair in reader.pair_ids:
                truth = whole_pair(reader, pair)
                deblurred = deblurred_frame(loaded, truth.blur, reader.encoding.white, tile, overlap)
                scores += scores_of(pair, truth, deblurred)
                shown.append(cut_out(pair, truth, deblurred, config.picture_crop, reader.encoding))
                advance(note=pair)
    pictures = write_pictures(out, shown, config.pictures)
    tables = (str(out / "evaluation.csv"), str(out / "evaluation.json"))
    report = Report(
        stage="evaluate",
        total=len(shown),
        done=len(shown),
        skipped=0,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(*tables, *pictures),
    )
    means = tuple(mean_of(scores, image, protocol) for protocol in PROTOCOLS for image in IMAGES)
    domain = "linear light" if header.encoding is Encoding.LINEAR16 else "sRGB"
    evaluation = Evaluation(report, folder.name, header.step, split, str(header.encoding), domain, means, tuple(scores))
    write_tables(out, evaluation)
    return evaluation


def whole_pair(reader: ShardReader, pair: str) -> Batch:
    """A whole pair as tensors, the sharp frame warped by the stored flow beside the plain one."""
    height, width = reader.shape(pair)
    return aligned(reader.read_window(pair, 0, 0, height, width))


def deblurred_frame(network: nn.Module, blur: Tensor, white: int, tile: int, overlap: int) -> Tensor:
    """(1, 3, H, W) output for one frame, rounded to `white` + 1 levels."""
    restored = deblur(network, blur[0], tile=tile, overlap=overlap)
    return (restored[None] * white).round() / white


def scores_of(pair: str, truth: Batch, deblurred: Tensor) -> list[Score]:
    """Input and output of one pair under both protocols."""
    targets = {"unwarped": truth.sharp, "aligned": truth.sharp_on_blur}
    images = {"input": truth.blur, "deblurred": deblurred}
    return [
        score(pair, name, protocol, images[name], targets[protocol], truth.valid)
        for protocol in PROTOCOLS
        for name in IMAGES
    ]


def score(pair: str, name: str, protocol: str, image: Tensor, target: Tensor, valid: Tensor) -> Score:
    """One image (1, 3, H, W) against its target on valid pixels; None where nothing can be measured."""
    large = min(image.shape[-2:]) >= _SSIM_WINDOW_PX
    return Score(
        pair=pair,
        image=name,
        protocol=protocol,
        psnr_db=finite(psnr(image, target, valid)),
        ssim=finite(ssim(image, target, valid, window="uniform7")) if large else None,
        ssim_gaussian=finite(ssim(image, target, valid, window="gaussian11")) if large else None,
        mae=finite(mae(image, target, valid)),
    )


def finite(value: Tensor) -> float | None:
    """The single number of a tensor; None for NaN and infinity, which JSON does not know."""
    return float(value) if bool(torch.isfinite(value).all()) else None


def mean_of(scores: Sequence[Score], image: str, protocol: str) -> Score:
    """The mean over pairs; what could not be measured is left out."""

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    chosen = [score for score in scores if (score.image, score.protocol) == (image, protocol)]
    return Score(
        pair="mean",
        image=image,
        protocol=protocol,
        psnr_db=mean([score.psnr_db for score in chosen]),
        ssim=mean([score.ssim for score in chosen]),
        ssim_gaussian=mean([score.ssim_gaussian for score in chosen]),
        mae=mean([score.mae for score in chosen]),
    )


def write_tables(out: Path, evaluation: Evaluation) -> None:
    """evaluation.csv (one row a score, means last) and evaluation.json."""
    lines = io.StringIO()
    names = list(Score.__dataclass_fields__)
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(names)
    for line in (*evaluation.images, *evaluation.means):
        rows.writerow(["" if value is None else value for value in asdict(line).values()])
    write_text(out / "evaluation.csv", lines.getvalue())
    content = asdict(evaluation)
    del content["report"]
    write_text(out / "evaluation.json", json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_pictures(out: Path, shown: Sequence[Comparison], count: int) -> tuple[str, ...]:
    """before_after.png of the clearest cut-outs, and one plain picture (input | deblurred | truth) each."""
    best = sorted(shown, key=lambda comparison: (-comparison.gain_db, comparison.pair))[:count]
    if not best:
        return ()
    together = out / "before_after.png"
    draw_comparison(best, together)
    paths = []
    for place, comparison in enumerate(best, 1):
        paths.append(out / "pictures" / f"{place:02d}.png")
        write_image(paths[-1], row_picture(comparison))
    return (str(together), *(str(path) for path in paths))
