"""`sdd evaluate`: scores the outputs of checkpoints, and their input, on one split of a data set.

Protocols, side by side:

* `unwarped`: against the sharp frame as it is packed, globally aligned;
* `aligned`: against the sharp frame warped onto the blurred frame by the flow stored with the data set. The flow was
  estimated once per pair, from the pair alone, so it favours no method;
* `official`, given PWC-Net: against the sharp frame warped to each output, as the published code scores.

The geometry drift of each output against its input (`jdrl.metrics.drift`) is reported beside the scores.

Values are those of the data set's encoding: sRGB-encoded ones, as papers report them, or linear light for linear16,
whose scores are not comparable with sRGB scores. Only valid pixels count, except in `official`. Outputs are first
rounded to the data set's bit depth, as files of them would be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from jdrl.checkpoints.checkpoint import load_network, locate, read_header, weights_file
from jdrl.data.aligned_crops import align_pair
from jdrl.data.unaligned_pairs import align_batch, is_registered
from jdrl.device import resolve_device
from jdrl.evaluation.comparison import rank_scores
from jdrl.evaluation.files import (
    best_examples,
    drift_scale_px,
    result_files,
    write_drifts,
    write_pictures,
    write_tables,
)
from jdrl.evaluation.misalignment import BlockLoss, ProbePoint, measure_blocks, score_planted, summarise
from jdrl.evaluation.page import write_page
from jdrl.evaluation.pictures import compare_crop, largest_gain_window
from jdrl.evaluation.protocols import ALIGNED, OFFICIAL, UNWARPED, linear_light, official_pair
from jdrl.evaluation.results import EvaluationResult, ExampleRow
from jdrl.evaluation.score_card import (
    CheckpointInfo,
    Conditions,
    PairFacts,
    ScoreCard,
    describe_comparison,
    make_card,
    metric_weights,
    pair_facts,
    read_card,
)
from jdrl.evaluation.scores import Candidate, PerceptualMetrics, Score, Target, mean_score, score_image
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.flow.warping import in_bounds_mask
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import choose_tiling
from jdrl.metrics.colour import fit_colours
from jdrl.metrics.drift import Drift, estimate_drift
from jdrl.metrics.perceptual import load_dists, load_lpips
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Report
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from sdd_toolkit.execution.progress import Track

NO_OFFICIAL = "The protocol official is left out: it needs the weights of PWC-Net (--pwcnet FILE)."


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The split, the network and the protocols of an evaluation.

    Attributes:
        split: Split of the data set.
        network: Name of the checkpoints' network, see `load_network`.
        misalignment: Whether to plant misalignment too (`jdrl.evaluation.misalignment`).
        official: Flow estimator of the protocol `official`; None: PWC-Net, if the configuration names its weights.
        against: Another evaluation.json: a note says whether its scores are comparable.
    """

    split: str = "test"
    network: str | None = None
    misalignment: bool = False
    official: FlowEstimator | None = None
    against: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedModel:
    """A loaded checkpoint: its network, and the size and overlap of its tiles."""

    info: CheckpointInfo
    folder: Path
    encoding: Encoding
    network: nn.Module
    tile_px: int
    overlap_px: int


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """The models and metrics of an evaluation, loaded before the first pair is read.

    Attributes:
        models: The checkpoints, in the order given.
        metrics: LPIPS and DISTS.
        official: Flow estimator of the protocol `official`, if it is scored.
        device: Of all networks.
    """

    models: list[EvaluatedModel]
    metrics: PerceptualMetrics
    official: FlowEstimator | None
    device: torch.device

    @property
    def labels(self) -> list[str]:
        """The labels of the models."""
        return [model.info.label for model in self.models]


@dataclass(slots=True)
class PairResults:
    """The results of all pairs.

    Attributes:
        encoding: Of the data set.
        unaligned: Ids of the pairs without a stored alignment.
        scores: Of every image under every protocol.
        examples: Pictures and drift of every pair.
        probes: Scores against planted misalignment.
        blocks: Losses of blocks.
        facts: Size, mask and hash of every pair.
    """

    encoding: Encoding
    unaligned: frozenset[str]
    scores: list[Score] = field(default_factory=list)
    examples: list[ExampleRow] = field(default_factory=list)
    probes: list[ProbePoint] = field(default_factory=list)
    blocks: list[BlockLoss] = field(default_factory=list)
    facts: list[PairFacts] = field(default_factory=list)


def evaluate(
    checkpoint: Path | Sequence[Path],
    shards: Path,
    out: Path,
    config: EvaluateConfig,
    options: EvaluationOptions | None = None,
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> EvaluationResult:
    """Scores checkpoints and writes evaluation.csv, .json and .html, further tables and pictures to `out`.

    Args:
        checkpoint: A checkpoint folder or a training run; or several, all compared with the first.
        shards: Folder with index.json.
        out: Folder for the results.
        config: The `[evaluate]` section.
        options: Split, network and protocols; None: the defaults.
        overwrite: Whether the files of another evaluation in `out` are replaced.
        track: Shows progress.

    Raises:
        InputError: The split does not exist or is empty, or `out` holds an evaluation; nothing was written.
        CheckpointError: A checkpoint or a file of weights cannot be used, or was trained on another encoding.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    check_targets(result_files(out), overwrite=overwrite)
    options = options or EvaluationOptions()
    other = None if options.against is None else read_card(options.against)
    scorer = load_scorer([checkpoint] if isinstance(checkpoint, Path) else checkpoint, config, options)
    results = score_data_set(scorer, shards, config, options, track)
    best = best_examples(results.examples, config.pictures)
    drifts = write_drifts(out, results.examples, scorer.labels)
    pictures = write_pictures(out, best)
    protocols = (UNWARPED, ALIGNED) if scorer.official is None else (UNWARPED, ALIGNED, OFFICIAL)
    images = [("input", ""), *(("deblurred", label) for label in scorer.labels)]
    scores, pairs = results.scores, len(results.examples)
    card = build_card(scorer, results, shards, config, protocols, options.split)
    compared = () if other is None else (describe_comparison(card, other, str(options.against)),)
    evaluation = EvaluationResult(
        report=Report("evaluate", pairs, pairs, 0, {}, time.monotonic() - started),
        checkpoint=scorer.models[0].folder.name,
        step=scorer.models[0].info.step,
        split=options.split,
        encoding=str(results.encoding),
        domain="linear light" if results.encoding is Encoding.LINEAR16 else "sRGB",
        means=tuple(mean_score(scores, image, protocol, label) for protocol in protocols for image, label in images),
        images=tuple(scores),
        models=tuple(model.info for model in scorer.models),
        standings=rank_scores(scores, scorer.labels, draws=config.bootstrap, seed=config.seed),
        drifts=drifts,
        misalignment=summarise(results.probes, results.blocks) if options.misalignment else None,
        notes=compared
        + build_notes(scorer.metrics, official=scorer.official is not None, unaligned=len(results.unaligned)),
        card=card,
    )
    tables = write_tables(out, evaluation)
    page = write_page(out, evaluation, best, drift_scale_px(results.examples))
    return replace(evaluation, report=replace(evaluation.report, outputs=(*tables, *page, *pictures)))


def build_card(
    scorer: Scorer, results: PairResults, shards: Path, config: EvaluateConfig, protocols: tuple[str, ...], split: str
) -> ScoreCard:
    """The score card of an evaluation."""
    conditions = Conditions(
        protocols=protocols,
        split=split,
        unaligned=len(results.unaligned),
        index_sha256=sha256_of(shards / "index.json"),
        models=tuple(model.info for model in scorer.models),
        metric_weights=metric_weights(config),
    )
    return make_card(results.facts, results.encoding, conditions)


def load_scorer(checkpoints: Sequence[Path], config: EvaluateConfig, options: EvaluationOptions) -> Scorer:
    """Loads checkpoints and metrics.

    Raises:
        InputError: `device = "cuda"` without a CUDA device.
        CheckpointError: A checkpoint or a file of weights cannot be used.
    """
    device = torch.device(resolve_device(config.device))
    models = load_models(checkpoints, options.network, config, device)
    official = options.official
    if official is None and config.pwcnet is not None:
        official = flow_estimator("pwcnet", config.pwcnet)
    return Scorer(models, load_perceptual_metrics(config, device), official, device)


def score_data_set(
    scorer: Scorer, shards: Path, config: EvaluateConfig, options: EvaluationOptions, track: Track
) -> PairResults:
    """Deblurs and scores every pair of the split.

    Raises:
        InputError: The split does not exist or is empty.
        CheckpointError: A checkpoint was trained on another encoding.
        IntegrityError: A shard is missing or damaged.
    """
    with ShardReader(shards, split=options.split) as reader:
        check_encoding(reader, scorer.models, shards, options.split)
        unaligned = frozenset(pair for pair in reader.pair_ids if not is_registered(reader, pair))
        results = PairResults(reader.encoding, unaligned)
        with track("evaluate", len(reader.pair_ids)) as advance:
            for pair in reader.pair_ids:
                truth = read_pair(reader, pair, estimate=pair in unaligned).to(scorer.device)
                outputs = [deblur_pair(model, truth) for model in scorer.models]
                results.facts.append(pair_facts(pair, truth, reader.encoding, stored_flow=pair not in unaligned))
                results.scores += score_pair(pair, truth, outputs, scorer.metrics, scorer.official)
                results.examples.append(choose_example(pair, truth, outputs, config.picture_crop, reader.encoding))
                if options.misalignment:
                    results.probes += score_planted(pair, truth, outputs, config)
                    results.blocks += [block for output in outputs for block in measure_blocks(pair, truth, output)]
                advance(note=pair)
    return results


def load_models(
    paths: Sequence[Path], network: str | None, config: EvaluateConfig, device: torch.device
) -> list[EvaluatedModel]:
    """Loads the networks of checkpoints onto `device`.

    Raises:
        CheckpointError: A checkpoint cannot be used.
    """
    folders = [locate(path) for path in paths]
    names = [read_header(folder).network for folder in folders]
    models: list[EvaluatedModel] = []
    for folder, name in zip(folders, names, strict=True):
        # With several checkpoints `network` refers to those that have it.
        loaded, header = load_network(folder, None if network in names and network != name else network)
        label = folder.stem if folder.is_file() else f"{folder.resolve().parent.name}/{folder.name}"
        same_label = sum(model.info.label.partition(" #")[0] == label for model in models)
        label = f"{label} #{same_label + 1}" if same_label else label
        info = CheckpointInfo(label, header.step, header.network, sha256_of(weights_file(folder)))
        loaded.to(device)
        tile, overlap = choose_tiling(loaded, config)
        models.append(EvaluatedModel(info, folder, header.encoding, loaded, tile, overlap))
    return models


def build_notes(metrics: PerceptualMetrics, *, official: bool, unaligned: int) -> tuple[str, ...]:
    """Notes on protocols and measures that are missing or estimated."""
    missing = " and ".join(name for name, metric in (("LPIPS", metrics.lpips), ("DISTS", metrics.dists)) if not metric)
    no_weights = f"Left out: {missing}, because their weights are not given (docs/evaluation.md)."
    estimated = f"{unaligned} pairs came without an alignment: for them aligned estimates it (docs/evaluation.md)."
    notes = ((not official, NO_OFFICIAL), (bool(missing), no_weights), (unaligned > 0, estimated))
    return tuple(note for applies, note in notes if applies)


def load_perceptual_metrics(config: EvaluateConfig, device: torch.device) -> PerceptualMetrics:
    """Loads LPIPS and DISTS, where the configuration names their weights.

    Raises:
        CheckpointError: A file cannot be used.
    """
    lpips = dists = None
    if config.lpips_backbone is not None and config.lpips_weights is not None:
        lpips = load_lpips(config.lpips_backbone, config.lpips_weights).to(device)
    if config.dists_backbone is not None and config.dists_weights is not None:
        dists = load_dists(config.dists_backbone, config.dists_weights).to(device)
    return PerceptualMetrics(lpips, dists)


def check_encoding(reader: ShardReader, models: Sequence[EvaluatedModel], shards: Path, split: str) -> None:
    """Checks that the data set has pairs, of the encoding that the checkpoints were trained on.

    Raises:
        InputError: The split is empty.
        CheckpointError: A checkpoint was trained on another encoding.
    """
    if not reader.pair_ids:
        raise InputError(f"the split {split!r} of {shards} holds no pairs", hint="pack more scenes, or --split")
    for model in models:
        if reader.encoding != model.encoding:
            raise CheckpointError(
                f"{model.folder} was trained on {model.encoding} images, {shards} holds {reader.encoding}",
                hint="evaluate on a data set packed with the same encoding",
            )


def read_pair(reader: ShardReader, pair: str, *, estimate: bool = False) -> Batch:
    """Reads a whole pair as tensors; the flow that warps its sharp frame is the stored one, or estimated."""
    height, width = reader.shape(pair)
    whole = align_pair(reader.read_window(pair, 0, 0, height, width))
    if not estimate:
        return whole
    # Scores count every pixel of the frame, not only those that the consistency mask trusts.
    aligned = align_batch(whole)
    return replace(aligned, valid=whole.valid * in_bounds_mask(aligned.flow, -1.0))


def deblur_pair(model: EvaluatedModel, truth: Batch) -> Candidate:
    """Deblurs a pair by one checkpoint, rounds to the levels of the data set and measures the drift."""
    white, encoding = model.encoding.white, model.encoding
    restored = deblur(model.network, truth.blur[0], tile=model.tile_px, overlap=model.overlap_px)
    output = (restored[None].to(truth.blur.device) * white).round() / white
    return Candidate("deblurred", model.info.label, output, measure_drift(output, truth, encoding))


def measure_drift(image: Tensor, truth: Batch, encoding: Encoding) -> Drift:
    """The drift of `image` against the blurred frame, in linear light."""
    return estimate_drift(linear_light(image, encoding), linear_light(truth.blur, encoding), truth.valid)


def score_pair(
    pair: str, truth: Batch, outputs: Sequence[Candidate], metrics: PerceptualMetrics, official: FlowEstimator | None
) -> list[Score]:
    """Scores input and outputs of one pair under every protocol."""
    candidates = (Candidate("input", "", truth.blur), *outputs)
    colours = fit_colours(truth.blur, truth.sharp_on_blur, truth.valid)
    targets = {UNWARPED: truth.sharp, ALIGNED: truth.sharp_on_blur}
    scores = [
        score_image(pair, protocol, candidate, Target(target, truth.valid, colours), metrics)
        for protocol, target in targets.items()
        for candidate in candidates
    ]
    if official is not None:
        for candidate in candidates:
            cropped, target = official_pair(candidate.image, truth.sharp, official)
            cropped_candidate = replace(candidate, image=cropped)
            scores.append(score_image(pair, OFFICIAL, cropped_candidate, Target(target, None, colours), metrics))
    return scores


def choose_example(pair: str, truth: Batch, outputs: Sequence[Candidate], size: int, encoding: Encoding) -> ExampleRow:
    """Cuts the window of the first checkpoint's largest gain out of every output; with the drift of each."""
    window = largest_gain_window(truth, outputs[0].image, size)
    return ExampleRow(
        pair,
        tuple(compare_crop(pair, truth, output.image, window, encoding) for output in outputs),
        tuple(output.drift for output in outputs if output.drift is not None),
        measure_drift(truth.sharp_on_blur, truth, encoding),
    )
