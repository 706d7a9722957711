"""One pair of an evaluation: read, restored by every method, scored, and pictured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jdrl.data.aligned_crops import align_pair
from jdrl.data.unaligned_pairs import align_batch
from jdrl.evaluation.pictures import compare_crop, largest_gain_window
from jdrl.evaluation.protocols import ALIGNED, OFFICIAL, UNWARPED, linear_light, official_pair
from jdrl.evaluation.results import ExampleRow
from jdrl.evaluation.scores import Candidate, PerceptualMetrics, Score, Target, score_image
from jdrl.flow.warping import in_bounds_mask
from jdrl.metrics.colour import fit_colours
from jdrl.metrics.drift import Drift, estimate_drift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jdrl.data.batch import Batch
    from jdrl.evaluation.methods import Method
    from jdrl.flow.estimators import FlowEstimator
    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.shards.reader import ShardReader


def read_pair(reader: ShardReader, pair: str, *, estimate: bool = False) -> Batch:
    """Reads a whole pair as tensors; the flow that warps its sharp frame is the stored one, or estimated."""
    height, width = reader.shape(pair)
    whole = align_pair(reader.read_window(pair, 0, 0, height, width))
    if not estimate:
        return whole
    # Scores count every pixel of the frame, not only those that the consistency mask trusts.
    aligned = align_batch(whole)
    return replace(aligned, valid=whole.valid * in_bounds_mask(aligned.flow, -1.0))


def restore_pair(method: Method, pair: str, truth: Batch, encoding: Encoding) -> Candidate:
    """The output of a method for a pair, and its drift."""
    output = method.restore(pair, truth)
    return Candidate("deblurred", method.info.label, output, measure_drift(output, truth, encoding))


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
