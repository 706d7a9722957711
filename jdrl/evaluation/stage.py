"""`sdd evaluate`: checkpoints' outputs, and their input, scored on one split of a data set.

Protocols, side by side:

* `unwarped`: against the sharp frame as it is packed, globally aligned;
* `aligned`: against the sharp frame warped by the flow stored with the data set onto the blurred frame. The flow was
  estimated once per pair, from the pair alone, so it favours no method;
* `official`, given PWC-Net: against the sharp frame warped to each output, as the published code scores.

Beside them stands the geometry drift of each output against its input (`jdrl.metrics.drift`).

Values are those of the data set's encoding: sRGB-encoded ones, as papers report them, or for linear16 linear light,
whose scores compare with no sRGB score. Only valid pixels count, except in `official`. Outputs are rounded to the data
set's bit depth first, as files of them would be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from jdrl.checkpoints.checkpoint import load_network, locate, read_header
from jdrl.data.crops import aligned
from jdrl.data.unaligned_pairs import is_registered, register_batch
from jdrl.device import device_name
from jdrl.evaluation.comparison import rank_scores
from jdrl.evaluation.files import best_shown, drift_scale_px, write_drifts, write_pictures, write_tables
from jdrl.evaluation.misalignment import Block, ProbePoint, blocks_of, probes_of, summarise
from jdrl.evaluation.page import write_page
from jdrl.evaluation.pictures import crop_window, largest_gain_window
from jdrl.evaluation.protocols import ALIGNED, OFFICIAL, UNWARPED, linear_light, official_pair
from jdrl.evaluation.results import Evaluation, ExampleRow, Model
from jdrl.evaluation.scores import Candidate, Metrics, Score, mean_of, score
from jdrl.flow.estimators import flow_estimator
from jdrl.flow.warping import in_bounds
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import tiling
from jdrl.metrics.colour import colour_fit
from jdrl.metrics.drift import Drift, drift
from jdrl.metrics.perceptual import dists_of, lpips_of
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Report
from sdd_toolkit.shards.reader import ShardReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from jdrl.flow.estimators import FlowEstimator
    from sdd_toolkit.execution.progress import Track

NO_OFFICIAL = "The protocol official is left out: it needs the weights of PWC-Net (--pwcnet FILE)."


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedModel:
    """A checkpoint at work: its network, and the tiles it works in."""

    model: Model
    folder: Path
    encoding: Encoding
    network: nn.Module
    tile_px: int
    overlap_px: int


def evaluate(
    checkpoint: Path | Sequence[Path],
    shards: Path,
    out: Path,
    config: EvaluateConfig,
    *,
    split: str = "test",
    network: str | None = None,
    misalignment: bool = False,
    official: FlowEstimator | None = None,
    track: Track = silent,
) -> Evaluation:
    """Scores checkpoints and writes evaluation.csv, .json and .html, further tables and pictures to `out`.

    Args:
        checkpoint: A checkpoint folder or a training run; or several, the others being compared to the first.
        shards: Folder with index.json.
        out: Folder for the results.
        config: The `[evaluate]` section.
        split: Which split to score on.
        network: See `load_network`.
        misalignment: Whether to plant misalignment too (`jdrl.evaluation.misalignment`).
        official: The estimator of the protocol `official`; None: PWC-Net, if `config` names its weights.
        track: Shows progress.

    Raises:
        InputError: The split does not exist or is empty.
        CheckpointError: A checkpoint or a file of weights cannot be used, or was trained on another encoding.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    device = torch.device(device_name(config.device))
    contestants = load_models([checkpoint] if isinstance(checkpoint, Path) else checkpoint, network, config, device)
    labels = [one.model.label for one in contestants]
    if official is None and config.pwcnet is not None:
        official = flow_estimator("pwcnet", config.pwcnet)
    metrics = metrics_of(config, device)
    scores: list[Score] = []
    shown: list[ExampleRow] = []
    probes: list[ProbePoint] = []
    blocks: list[Block] = []
    with ShardReader(shards, split=split) as reader:
        check_data_set(reader, contestants, shards, split)
        unaligned = frozenset(pair for pair in reader.pair_ids if not is_registered(reader, pair))
        encoding = reader.encoding
        with track("evaluate", len(reader.pair_ids)) as advance:
            for pair in reader.pair_ids:
                truth = whole_pair(reader, pair, estimate=pair in unaligned).to(device)
                outputs = [candidate(one, truth) for one in contestants]
                scores += scores_of(pair, truth, outputs, metrics, official)
                shown.append(choose_example(pair, truth, outputs, config.picture_crop, encoding))
                if misalignment:
                    probes += probes_of(pair, truth, outputs, config)
                    blocks += [block for one in outputs for block in blocks_of(pair, truth, one)]
                advance(note=pair)
    best = best_shown(shown, config.pictures)
    drifts = write_drifts(out, shown, labels)
    pictures = write_pictures(out, best)
    protocols = (UNWARPED, ALIGNED) if official is None else (UNWARPED, ALIGNED, OFFICIAL)
    kinds = [("input", ""), *(("deblurred", label) for label in labels)]
    evaluation = Evaluation(
        report=Report("evaluate", len(shown), len(shown), 0, {}, time.monotonic() - started),
        checkpoint=contestants[0].folder.name,
        step=contestants[0].model.step,
        split=split,
        encoding=str(encoding),
        domain="linear light" if encoding is Encoding.LINEAR16 else "sRGB",
        means=tuple(mean_of(scores, image, protocol, label) for protocol in protocols for image, label in kinds),
        images=tuple(scores),
        models=tuple(one.model for one in contestants),
        standings=rank_scores(scores, labels, draws=config.bootstrap, seed=config.seed),
        drifts=drifts,
        misalignment=summarise(probes, blocks) if misalignment else None,
        notes=notes(metrics, official=official is not None, unaligned=len(unaligned)),
    )
    tables = write_tables(out, evaluation)
    page = write_page(out, evaluation, best, drift_scale_px(shown))
    written = (*tables, *page, *pictures)
    return replace(evaluation, report=replace(evaluation.report, outputs=written))


def load_models(
    paths: Sequence[Path], network: str | None, config: EvaluateConfig, device: torch.device
) -> list[EvaluatedModel]:
    """The checkpoints, their networks on `device`.

    Raises:
        CheckpointError: One cannot be used.
    """
    folders = [locate(path) for path in paths]
    names = [read_header(folder).network for folder in folders]
    found: list[EvaluatedModel] = []
    for folder, name in zip(folders, names, strict=True):
        # Whoever names one network of several means the checkpoint that has it.
        loaded, header = load_network(folder, None if network in names and network != name else network)
        label = f"{folder.resolve().parent.name}/{folder.name}"
        twins = sum(one.model.label.partition(" #")[0] == label for one in found)
        model = Model(f"{label} #{twins + 1}" if twins else label, header.step, header.network)
        loaded.to(device)
        tile, overlap = tiling(loaded, config)
        found.append(EvaluatedModel(model, folder, header.encoding, loaded, tile, overlap))
    return found


def notes(metrics: Metrics, *, official: bool, unaligned: int) -> tuple[str, ...]:
    """What a reader must know of the numbers."""
    missing = " and ".join(name for name, metric in (("LPIPS", metrics.lpips), ("DISTS", metrics.dists)) if not metric)
    no_weights = f"Left out: {missing}, for want of weights (docs/evaluation.md)."
    estimated = f"{unaligned} pairs came without an alignment: for them aligned estimates it (docs/evaluation.md)."
    said = ((official, NO_OFFICIAL), (not missing, no_weights), (unaligned == 0, estimated))
    return tuple(note for needless, note in said if not needless)


def metrics_of(config: EvaluateConfig, device: torch.device) -> Metrics:
    """LPIPS and DISTS, where there are weights.

    Raises:
        CheckpointError: A file cannot be used.
    """
    lpips = dists = None
    if config.lpips_backbone is not None and config.lpips_weights is not None:
        lpips = lpips_of(config.lpips_backbone, config.lpips_weights).to(device)
    if config.dists_backbone is not None and config.dists_weights is not None:
        dists = dists_of(config.dists_backbone, config.dists_weights).to(device)
    return Metrics(lpips, dists)


def check_data_set(reader: ShardReader, contestants: Sequence[EvaluatedModel], shards: Path, split: str) -> None:
    """Whether the data set can judge the checkpoints.

    Raises:
        InputError: The split is empty.
        CheckpointError: A checkpoint was trained on another encoding.
    """
    if not reader.pair_ids:
        raise InputError(f"the split {split!r} of {shards} holds no pairs", hint="pack more scenes, or --split")
    for one in contestants:
        if reader.encoding != one.encoding:
            raise CheckpointError(
                f"{one.folder} was trained on {one.encoding} images, {shards} holds {reader.encoding}",
                hint="evaluate on a data set packed with the same encoding",
            )


def whole_pair(reader: ShardReader, pair: str, *, estimate: bool = False) -> Batch:
    """A whole pair as tensors, the sharp frame warped by the flow, stored or estimated, beside the plain one."""
    height, width = reader.shape(pair)
    whole = aligned(reader.read_window(pair, 0, 0, height, width))
    if not estimate:
        return whole
    # Scores count all that is there, not only where the estimate is sure of itself.
    found = register_batch(whole)
    return replace(found, valid=whole.valid * in_bounds(found.flow, -1.0))


def candidate(contestant: EvaluatedModel, truth: Batch) -> Candidate:
    """What a checkpoint makes of a pair, rounded to the levels of the data set, and how far it moved."""
    white, encoding = contestant.encoding.white, contestant.encoding
    restored = deblur(contestant.network, truth.blur[0], tile=contestant.tile_px, overlap=contestant.overlap_px)
    output = (restored[None].to(truth.blur.device) * white).round() / white
    return Candidate("deblurred", contestant.model.label, output, drift_of(output, truth, encoding))


def drift_of(image: Tensor, truth: Batch, encoding: Encoding) -> Drift:
    """How far `image` lies off the blurred frame, in linear light."""
    return drift(linear_light(image, encoding), linear_light(truth.blur, encoding), truth.valid)


def scores_of(
    pair: str, truth: Batch, outputs: Sequence[Candidate], metrics: Metrics, official: FlowEstimator | None
) -> list[Score]:
    """Input and outputs of one pair under every protocol."""
    candidates = (Candidate("input", "", truth.blur), *outputs)
    colours = colour_fit(truth.blur, truth.sharp_on_blur, truth.valid)
    targets = {UNWARPED: truth.sharp, ALIGNED: truth.sharp_on_blur}
    found = [
        score(pair, protocol, one, target, truth.valid, colours, metrics)
        for protocol, target in targets.items()
        for one in candidates
    ]
    if official is not None:
        for one in candidates:
            cropped, target = official_pair(one.image, truth.sharp, official)
            found.append(score(pair, OFFICIAL, replace(one, image=cropped), target, None, colours, metrics))
    return found


def choose_example(pair: str, truth: Batch, outputs: Sequence[Candidate], size: int, encoding: Encoding) -> ExampleRow:
    """Where the first checkpoint gained most, for all of them, and everybody's drift."""
    place = largest_gain_window(truth, outputs[0].image, size)
    return ExampleRow(
        pair,
        tuple(crop_window(pair, truth, one.image, size, encoding, place) for one in outputs),
        tuple(one.drift for one in outputs if one.drift is not None),
        drift_of(truth.sharp_on_blur, truth, encoding),
    )
