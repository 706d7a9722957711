"""The score card: everything that a score depends on beside the method, so that two numbers can be compared, or not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jdrl.config import EvaluateConfig
    from jdrl.data.batch import Batch

MEASURES: Mapping[str, str] = {
    "PSNR": "peak 1, per image",
    "SSIM": "uniform 7x7; Gaussian 11x11",
    "drift": "version 3, robust to occlusion, at a quarter of the size",
    "blur radius": "disc from the aligned sharp to the blurred frame, blocks of 32 px",
}
"""Conventions that a change of the toolkit can change."""

MASKS: Mapping[str, str] = {
    "unwarped": "valid pixels",
    "aligned": "valid pixels",
    "official": "all pixels, cropped to multiples of 16",
}
CROPPED_BORDER_PX = 0
"""No border is cut off before scoring, unlike in many published tables."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One of the evaluated methods: a checkpoint, or the pictures that another method wrote.

    Attributes:
        label: RUN/step-…, or the name given to the pictures; unique among the methods.
        step: Optimiser steps of a checkpoint; None for pictures.
        network: Name of its network; empty for pictures.
        weights_sha256: Of the file of its weights; empty for pictures.
        pictures: Number of pictures; 0 for a checkpoint.
        pictures_sha256: Of their pixels as they are scored, in the order of the pairs.
    """

    label: str
    step: int | None = None
    network: str = ""
    weights_sha256: str = ""
    pictures: int = 0
    pictures_sha256: str = ""

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        if self.pictures:
            return f"{self.label}: {self.pictures} pictures, {self.pictures_sha256[:16]}"
        return f"{self.label}: {self.network}, step {self.step}, {self.weights_sha256[:16]}"


@dataclass(frozen=True, slots=True)
class PairFacts:
    """One scored pair.

    Attributes:
        pair: Its id.
        size: WIDTHxHEIGHT, pixels.
        scored_share: Share of valid pixels.
        pixels_sha256: SHA-256 of the codes of both frames, of the mask and of a stored flow.
    """

    pair: str
    size: str
    scored_share: float
    pixels_sha256: str


@dataclass(frozen=True, slots=True)
class ScoreCard:
    """What a score depends on. Two scores are comparable where all but `checkpoints` and `versions` is equal.

    Attributes:
        protocols: Those scored.
        masks: Which pixels each of them counts.
        scored_share: Mean share of valid pixels.
        border_px: Width that is cut off before scoring.
        alignment: Where the `aligned` target comes from.
        split: Of the data set.
        pairs: Ids, in order.
        sizes: Each size once, WIDTHxHEIGHT.
        bit_depth: Of the data set, to which outputs are rounded.
        colour: Channels, transfer curve and peak.
        measures: Conventions that differ between tools, with the hashes of weights.
        data_sha256: SHA-256 of the pixels and stored flows of all pairs, however they are packed.
        index_sha256: SHA-256 of index.json; a data set that is packed anew has another one.
        checkpoints: Every method: label, network, step and SHA-256 of the weights, or number and SHA-256 of pictures.
        versions: Of the toolkit and of torch.
    """

    protocols: tuple[str, ...]
    masks: dict[str, str]
    scored_share: float
    border_px: int
    alignment: str
    split: str
    pairs: tuple[str, ...]
    sizes: tuple[str, ...]
    bit_depth: int
    colour: str
    measures: dict[str, str]
    data_sha256: str
    index_sha256: str
    checkpoints: tuple[dict[str, Any], ...]
    versions: dict[str, str]


_FREE = ("checkpoints", "versions", "index_sha256", "split")


def pair_facts(pair: str, truth: Batch, encoding: Encoding, *, stored_flow: bool) -> PairFacts:
    """Size, mask and hash of a pair's pixels, and of its flow where that is stored with the pair."""
    digest = hashlib.sha256()
    for image in (truth.blur, truth.sharp):
        codes = (image.cpu().double() * encoding.white).round().to(torch.int32)
        digest.update(codes.numpy().tobytes())
    valid = truth.valid.cpu() > 0.5
    digest.update(valid.numpy().tobytes())
    if stored_flow:
        digest.update((truth.flow.cpu().double() * 64).round().to(torch.int32).numpy().tobytes())
    height, width = truth.blur.shape[-2:]
    return PairFacts(pair, f"{width}x{height}", round(float(valid.double().mean()), 6), digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a card holds beside the pairs.

    Attributes:
        protocols: Those scored.
        split: Of the data set.
        unaligned: Number of pairs whose alignment was estimated by the evaluation.
        index_sha256: SHA-256 of index.json.
        models: The methods.
        metric_weights: Hash of each file of weights of a metric or a flow.
    """

    protocols: tuple[str, ...]
    split: str
    unaligned: int
    index_sha256: str
    models: tuple[CheckpointInfo, ...]
    metric_weights: dict[str, str]


def make_card(facts: Sequence[PairFacts], encoding: Encoding, conditions: Conditions) -> ScoreCard:
    """The card of an evaluation."""
    digest = hashlib.sha256("".join(f"{fact.pair}\0{fact.pixels_sha256}\n" for fact in facts).encode())
    curve = "linear light" if encoding is Encoding.LINEAR16 else "sRGB curve"
    estimated = conditions.unaligned
    stored = f"stored flow, {len(facts) - estimated} pairs" if estimated < len(facts) else ""
    guessed = f"estimated by this evaluation, {estimated} pairs" if estimated else ""
    return ScoreCard(
        protocols=conditions.protocols,
        masks={protocol: MASKS[protocol] for protocol in conditions.protocols},
        scored_share=round(sum(fact.scored_share for fact in facts) / max(len(facts), 1), 6),
        border_px=CROPPED_BORDER_PX,
        alignment="; ".join(part for part in (stored, guessed) if part),
        split=conditions.split,
        pairs=tuple(fact.pair for fact in facts),
        sizes=tuple(sorted({fact.size for fact in facts})),
        bit_depth=encoding.white.bit_length(),
        colour=f"RGB, mean over channels, {curve}, sRGB primaries, peak 1",
        measures={**MEASURES, **conditions.metric_weights},
        data_sha256=digest.hexdigest(),
        index_sha256=conditions.index_sha256,
        checkpoints=tuple(asdict(model) for model in conditions.models),
        versions={"sdd-toolkit": __version__, "torch": torch.__version__.partition("+")[0]},
    )


def metric_weights(config: EvaluateConfig) -> dict[str, str]:
    """SHA-256 of the weights of PWC-Net, LPIPS and DISTS, as far as the configuration names them.

    Raises:
        CheckpointError: A file cannot be read.
    """
    names = ("pwcnet", "lpips_backbone", "lpips_weights", "dists_backbone", "dists_weights")
    files = {name: getattr(config, name) for name in names}
    try:
        return {name: sha256_of(path) for name, path in files.items() if path is not None}
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}", hint="check the paths of [evaluate]") from error


def describe_comparison(card: ScoreCard, other: Mapping[str, object], name: str) -> str:
    """A note on whether the scores of another evaluation can be compared with these."""
    reasons = differences(card, other)
    if not reasons:
        return f"Comparable with {name}: same pairs, pixels, masks, protocols and measures."
    return f"Not comparable with {name}: {'; '.join(reasons)}."


def differences(card: ScoreCard, other: Mapping[str, object]) -> tuple[str, ...]:
    """Why the scores of two cards are not comparable; empty where they are.

    Args:
        card: Of this evaluation.
        other: The `card` of another evaluation.json.
    """
    mine = json.loads(json.dumps(asdict(card)))
    names = [field.name for field in fields(ScoreCard) if field.name not in _FREE]
    return tuple(
        f"{name}: {_shorten(mine[name])} here, {_shorten(other.get(name))} there"
        for name in names
        if mine[name] != other.get(name)
    )


def read_card(path: Path) -> Mapping[str, object]:
    """The score card of an evaluation.json, or of the folder that holds it.

    Raises:
        InputError: There is none.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        card = content["card"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} holds no score card", hint="give an evaluation.json of this version, or its folder"
        ) from error
    if not isinstance(card, dict):
        raise InputError(f"{file} holds no score card", hint="give an evaluation.json of this version, or its folder")
    return card


def card_lines(card: ScoreCard) -> tuple[tuple[str, str], ...]:
    """The card as short lines for the terminal and the page: a heading and a text each."""
    masks = ", ".join(f"{protocol}: {mask}" for protocol, mask in card.masks.items())
    lines = [
        ("protocols", ", ".join(card.protocols)),
        ("images", f"{len(card.pairs)} of split {card.split}, {', '.join(card.sizes)} px, {card.bit_depth} bit"),
        ("colour", card.colour),
        ("pixels", f"{masks} ({card.scored_share:.1%} valid); border cut: {card.border_px} px"),
        ("alignment", card.alignment),
        ("measures", "; ".join(f"{name}: {text}" for name, text in card.measures.items())),
        ("data", f"pixels {card.data_sha256[:16]}, index.json {card.index_sha256[:16]}"),
    ]
    infos = [CheckpointInfo(**row) for row in card.checkpoints]
    lines += [("outputs" if info.pictures else "checkpoint", info.description) for info in infos]
    lines.append(("versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())))
    return tuple(lines)


def _shorten(value: object, limit: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
