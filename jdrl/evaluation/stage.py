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

from jdrl.data.unaligned_pairs import is_registered
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
from jdrl.evaluation.methods import EvaluatedModel, check_encoding, load_models
from jdrl.evaluation.misalignment import BlockLoss, ProbePoint, measure_blocks, score_planted, summarise
from jdrl.evaluation.outputs import OutputFolder, load_outputs
from jdrl.evaluation.page import write_page
from jdrl.evaluation.pairs import choose_example, read_pair, restore_pair, score_pair
from jdrl.evaluation.protocols import ALIGNED, OFFICIAL, UNWARPED
from jdrl.evaluation.radius_scores import (
    HarmScore,
    RadiusScore,
    bin_blocks,
    score_by_radius,
    score_harm,
    summarise_radii,
)
from jdrl.evaluation.results import EvaluationResult, ExampleRow
from jdrl.evaluation.score_card import (
    Conditions,
    PairFacts,
    ScoreCard,
    describe_comparison,
    make_card,
    metric_weights,
    pair_facts,
    read_card,
)
from jdrl.evaluation.scores import PerceptualMetrics, Score, mean_score
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.metrics.colour import fit_colours
from jdrl.metrics.perceptual import load_dists, load_lpips
from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Report
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch
    from jdrl.evaluation.methods import Method
    from jdrl.evaluation.scores import Candidate
    from sdd_toolkit.execution.progress import Track

UNALIGNED = (
    "pairs came without an alignment. Read aligned, which estimates it; its level is too high (0.9 to 1.2 dB in a test "
    "with known truth), its order right. Do not rank by unwarped: it compares displaced frames, and in that test a "
    "network that displaces, worse than its input, came first (docs/evaluation.md)."
)
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
        outputs: Pictures that other methods wrote, scored beside the checkpoints or without any.
    """

    split: str = "test"
    network: str | None = None
    misalignment: bool = False
    official: FlowEstimator | None = None
    against: Path | None = None
    outputs: tuple[OutputFolder, ...] = ()


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
        """The labels of the checkpoints."""
        return [model.info.label for model in self.models]


@dataclass(slots=True)
class PairResults:
    """The results of all pairs.

    Attributes:
        encoding: Of the data set.
        unaligned: Ids of the pairs without a stored alignment.
        methods: All that was scored: the checkpoints, then the pictures of others, in the order given.
        scores: Of every image under every protocol.
        examples: Pictures and drift of every pair.
        probes: Scores against planted misalignment.
        blocks: Losses of blocks.
        facts: Size, mask and hash of every pair.
        radii: Scores by the blur of the input.
        harm: Differences from the input where that is in focus.
    """

    encoding: Encoding
    unaligned: frozenset[str]
    methods: tuple[Method, ...]
    scores: list[Score] = field(default_factory=list)
    examples: list[ExampleRow] = field(default_factory=list)
    probes: list[ProbePoint] = field(default_factory=list)
    blocks: list[BlockLoss] = field(default_factory=list)
    facts: list[PairFacts] = field(default_factory=list)
    radii: list[RadiusScore] = field(default_factory=list)
    harm: list[HarmScore] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The labels of the methods."""
        return [method.info.label for method in self.methods]


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
        checkpoint: A checkpoint folder or a training run; or several; or none, where `options` names outputs. All
            methods are compared with the first.
        shards: Folder with index.json.
        out: Folder for the results.
        config: The `[evaluate]` section.
        options: Split, network and protocols; None: the defaults.
        overwrite: Whether the files of another evaluation in `out` are replaced.
        track: Shows progress.

    Raises:
        InputError: The split does not exist or is empty, `out` holds an evaluation, there is nothing to score, or the
            pictures of a method do not fit the pairs; nothing was written.
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
    pictures = write_pictures(out, best)
    protocols = (UNWARPED, ALIGNED, *(() if scorer.official is None else (OFFICIAL,)))
    scores, pairs, models = results.scores, len(results.examples), tuple(method.info for method in results.methods)
    card = build_card(results, shards, config, protocols, options.split)
    compared = () if other is None else (describe_comparison(card, other, str(options.against)),)
    evaluation = EvaluationResult(
        report=Report("evaluate", pairs, pairs, 0, {}, time.monotonic() - started),
        checkpoint=scorer.models[0].folder.name if scorer.models else models[0].label,
        step=models[0].step,
        split=options.split,
        encoding=str(results.encoding),
        domain="linear light" if results.encoding is Encoding.LINEAR16 else "sRGB",
        means=mean_scores(scores, results.labels, protocols),
        images=tuple(scores),
        models=models,
        standings=rank_scores(scores, results.labels, draws=config.bootstrap, seed=config.seed),
        drifts=write_drifts(out, results.examples, results.labels),
        misalignment=summarise(results.probes, results.blocks) if options.misalignment else None,
        notes=compared + notes_of(scorer, results),
        card=card,
        radii=summarise_radii(results.radii, results.harm, draws=config.bootstrap, seed=config.seed),
    )
    page = write_page(out, evaluation, best, drift_scale_px(results.examples))
    outputs = (*write_tables(out, evaluation), *page, *pictures)
    return replace(evaluation, report=replace(evaluation.report, outputs=outputs))


def mean_scores(scores: Sequence[Score], labels: Sequence[str], protocols: Sequence[str]) -> tuple[Score, ...]:
    """The mean over the pairs of the input and of each method, protocol by protocol."""
    images = [("input", ""), *(("deblurred", label) for label in labels)]
    return tuple(mean_score(scores, image, protocol, label) for protocol in protocols for image, label in images)


def build_card(
    results: PairResults, shards: Path, config: EvaluateConfig, protocols: tuple[str, ...], split: str
) -> ScoreCard:
    """The score card of an evaluation."""
    conditions = Conditions(
        protocols=protocols,
        split=split,
        unaligned=len(results.unaligned),
        index_sha256=sha256_of(shards / "index.json"),
        models=tuple(method.info for method in results.methods),
        metric_weights=metric_weights(config),
    )
    return make_card(results.facts, results.encoding, conditions)


def load_scorer(checkpoints: Sequence[Path], config: EvaluateConfig, options: EvaluationOptions) -> Scorer:
    """Loads checkpoints and metrics.

    Raises:
        InputError: `device = "cuda"` without a CUDA device, or there is nothing to score.
        CheckpointError: A checkpoint or a file of weights cannot be used.
    """
    if not checkpoints and not options.outputs:
        raise InputError("nothing to score", hint="give a checkpoint, or --outputs NAME=FOLDER")
    device = torch.device(resolve_device(config.device))
    models = load_models(checkpoints, options.network, config, device)
    official = options.official
    if official is None and config.pwcnet is not None:
        official = flow_estimator("pwcnet", config.pwcnet)
    return Scorer(models, load_perceptual_metrics(config, device), official, device)


def score_data_set(
    scorer: Scorer, shards: Path, config: EvaluateConfig, options: EvaluationOptions, track: Track
) -> PairResults:
    """Restores and scores every pair of the split.

    Raises:
        InputError: The split does not exist or is empty, or the pictures of a method do not fit the pairs.
        CheckpointError: A checkpoint was trained on another encoding.
        IntegrityError: A shard is missing or damaged.
    """
    with ShardReader(shards, split=options.split) as reader:
        check_encoding(reader, scorer.models, shards, options.split)
        methods: tuple[Method, ...] = (*scorer.models, *load_outputs(options.outputs, reader, scorer.labels))
        unaligned = frozenset(pair for pair in reader.pair_ids if not is_registered(reader, pair))
        results = PairResults(reader.encoding, unaligned, methods)
        with track("evaluate", len(reader.pair_ids)) as advance:
            for pair in reader.pair_ids:
                truth = read_pair(reader, pair, estimate=pair in unaligned).to(scorer.device)
                outputs = [restore_pair(method, pair, truth, reader.encoding) for method in methods]
                results.facts.append(pair_facts(pair, truth, reader.encoding, stored_flow=pair not in unaligned))
                add_scores(results, pair, truth, outputs, scorer)
                results.examples.append(choose_example(pair, truth, outputs, config.picture_crop, reader.encoding))
                if options.misalignment:
                    results.probes += score_planted(pair, truth, outputs, config)
                    results.blocks += [block for output in outputs for block in measure_blocks(pair, truth, output)]
                advance(note=pair)
    return results


def add_scores(results: PairResults, pair: str, truth: Batch, outputs: Sequence[Candidate], scorer: Scorer) -> None:
    """Scores the outputs of one pair: whole frames, by blur, and where the input is in focus."""
    colours = fit_colours(truth.blur, truth.sharp_on_blur, truth.valid)
    bins = bin_blocks(truth, results.encoding)
    results.scores += score_pair(pair, truth, outputs, scorer.metrics, scorer.official)
    results.radii += score_by_radius(pair, truth, outputs, colours, bins)
    results.harm += score_harm(pair, truth, outputs, bins)


def notes_of(scorer: Scorer, results: PairResults) -> tuple[str, ...]:
    """Notes on the evaluation, and on the pictures of each method."""
    own = build_notes(scorer.metrics, official=scorer.official is not None, unaligned=len(results.unaligned))
    return (*own, *(note for method in results.methods for note in method.notes))


def build_notes(metrics: PerceptualMetrics, *, official: bool, unaligned: int) -> tuple[str, ...]:
    """Notes on protocols and measures that are missing or estimated."""
    missing = " and ".join(name for name, metric in (("LPIPS", metrics.lpips), ("DISTS", metrics.dists)) if not metric)
    no_weights = f"Left out: {missing}, because their weights are not given (docs/evaluation.md)."
    notes = ((not official, NO_OFFICIAL), (bool(missing), no_weights), (unaligned > 0, f"{unaligned} {UNALIGNED}"))
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
