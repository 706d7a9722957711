"""The score card: what two evaluations must share for their scores to be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cli import cli
from jdrl.checkpoints import checkpoint
from jdrl.data.batch import Batch
from jdrl.evaluation.score_card import (
    CheckpointInfo,
    Conditions,
    PairFacts,
    ScoreCard,
    card_lines,
    describe_comparison,
    differences,
    make_card,
    pair_facts,
    read_card,
)
from jdrl.networks import build_network
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.encoding import Encoding

OPTIONS = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
FACTS = (PairFacts("a", "640x480", 0.9, "1" * 64), PairFacts("b", "640x480", 0.8, "2" * 64))
CONDITIONS = Conditions(
    ("unwarped", "aligned"), "test", 1, "3" * 64, (CheckpointInfo("run/step-1", 1, "nafnet", "4" * 64),), {}
)


def card(encoding: Encoding = Encoding.SRGB8, facts: tuple[PairFacts, ...] = FACTS, **changes: object) -> ScoreCard:
    return make_card(facts, encoding, replace(CONDITIONS, **changes))  # type: ignore[arg-type]


def test_a_card_says_what_the_scores_depend_on() -> None:
    text = "\n".join(f"{name} {line}" for name, line in card_lines(card()))
    for part in (
        "protocols unwarped, aligned",
        "2 of split test, 640x480 px, 8 bit",
        "sRGB curve",
        "valid pixels (85.0% valid); border cut: 0 px",
        "stored flow, 1 pairs; estimated by this evaluation, 1 pairs",
        "drift: version 3",
        "run/step-1: nafnet, step 1, 4444444444444444",
        "index.json 3333333333333333",
    ):
        assert part in text


def test_other_checkpoints_and_packing_are_comparable_anything_else_is_not() -> None:
    mine = card()
    same = card(models=(CheckpointInfo("other", 9, "unet", "5" * 64),), index_sha256="6" * 64)
    assert differences(mine, asdict(json_round_trip(same))) == ()
    for other, reason in (
        (card(Encoding.SRGB16), "bit_depth: 8 here, 16 there"),
        (card(Encoding.LINEAR16), "colour"),
        (card(protocols=("unwarped",)), "protocols"),
        (card(unaligned=0), "alignment"),
        (card(metric_weights={"lpips_weights": "7" * 64}), "measures"),
        (card(facts=FACTS[:1]), "pairs"),
        (card(facts=(FACTS[0], replace(FACTS[1], pixels_sha256="8" * 64))), "data_sha256"),
        (card(facts=(FACTS[0], replace(FACTS[1], size="320x240"))), "sizes"),
    ):
        reasons = differences(mine, asdict(json_round_trip(other)))
        assert any(reason in text for text in reasons), (reason, reasons)
        assert describe_comparison(mine, asdict(json_round_trip(other)), "x").startswith("Not comparable with x: ")


def json_round_trip(original: ScoreCard) -> ScoreCard:
    return ScoreCard(**json.loads(json.dumps(asdict(original))))


def test_each_pixel_the_mask_and_a_stored_flow_change_the_hash_of_the_data() -> None:
    image, ones, flow = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 1, 8, 8), torch.zeros(1, 2, 8, 8)
    batch = Batch(blur=image, wide_sharp=image, sharp_on_blur=image, valid=ones, flow=flow, wide_valid=ones)

    def facts(changed: Batch, *, stored_flow: bool = True) -> PairFacts:
        return pair_facts("a", changed, Encoding.SRGB8, stored_flow=stored_flow)

    def touched(tensor: torch.Tensor, value: float) -> torch.Tensor:
        copy = tensor.clone()
        copy[0, 0, 3, 4] = value
        return copy

    plain = facts(batch)
    assert (plain.size, plain.scored_share) == ("8x8", 1.0)
    assert plain.pixels_sha256 == facts(batch).pixels_sha256
    for changed in (
        replace(batch, blur=touched(image, 0.6)),
        replace(batch, wide_sharp=touched(image, 0.6)),
        replace(batch, valid=touched(ones, 0)),
        replace(batch, flow=touched(flow, 0.25)),
    ):
        assert facts(changed).pixels_sha256 != plain.pixels_sha256
    moved = replace(batch, flow=touched(flow, 0.25))
    assert facts(moved, stored_flow=False) == facts(batch, stored_flow=False)


def test_evaluate_prints_the_card_and_says_whether_another_evaluation_is_comparable(
    shards: Path, tmp_path: Path
) -> None:
    header = checkpoint.CheckpointHeader(1, "nafnet", OPTIONS, Encoding.SRGB8, "0" * 64, {})
    weights = build_network("nafnet", **OPTIONS).state_dict()
    folder = checkpoint.save_checkpoint(tmp_path / "run", header, weights, {})
    arguments = ["evaluate", str(tmp_path / "run"), str(shards), "--device", "cpu", "--out"]
    first = CliRunner().invoke(cli, [*arguments, str(tmp_path / "one")])
    assert first.exit_code == 0, first.output
    assert "Score card" in first.stdout
    held = json.loads((tmp_path / "one" / "evaluation.json").read_text())["card"]
    sha256 = hashlib.sha256((folder / "network.safetensors").read_bytes()).hexdigest()
    assert held["checkpoints"][0]["weights_sha256"] == sha256
    assert held["index_sha256"] == hashlib.sha256((shards / "index.json").read_bytes()).hexdigest()
    assert sha256[:16] in first.stdout
    assert held["data_sha256"][:16] in (tmp_path / "one" / "evaluation.html").read_text()
    again = CliRunner().invoke(cli, [*arguments, str(tmp_path / "two"), "--against", str(tmp_path / "one")])
    assert f"Comparable with {tmp_path / 'one'}" in again.stdout
    content = {"card": {**held, "bit_depth": 16}}
    (tmp_path / "other.json").write_text(json.dumps(content))
    third = CliRunner().invoke(cli, [*arguments, str(tmp_path / "three"), "--against", str(tmp_path / "other.json")])
    assert "Not comparable with" in third.stdout
    assert "bit_depth: 8 here, 16 there" in third.stdout


@pytest.mark.parametrize("content", ["", "[]", '{"means": []}', '{"card": 3}'])
def test_a_file_without_a_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="holds no score card"):
        read_card(tmp_path)
