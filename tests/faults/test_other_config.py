"""A stage that is given another configuration than its data set says so and stops, unless told otherwise."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from sdd_toolkit.recorded_config import read_recorded
from sdd_toolkit.shards.index import read_index
from tests.faults import builds
from tests.support.command_line import sdd_in_process

STAGES = {
    "ingest": "ingest {set}/../raw --out {set}",
    "align": "align {set}/ingested.jsonl --out {set}",
    "filter": "filter {set}/aligned.jsonl --out {set}",
    "pack": "pack {set}/filtered.jsonl --out {set}/shards",
    "report": "report {set} --out {set}/report",
}
CARD = "card {set}/shards --manifest {set}/filtered.jsonl"
OTHER_VALUES = {
    "ingest": "gap_s = 29.0",
    "align": "min_textured_tiles = 5",
    "filter": "max_residual_px = 8.0",
    "pack": "pairs_per_shard = 3",
    "report": "max_pictures = 2",
    "card": 'version = "2.0.0"',
}


def words_of(stage: str, folder: Path) -> list[str]:
    return [word.format(set=folder) for word in {**STAGES, "card": CARD}[stage].split()]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_the_configuration_of_the_build_stops_before_it_writes(
    tiny: Path, out: Path, stage: str
) -> None:
    shutil.copytree(tiny / "whole", out)
    config = (tiny / "sdd.toml").read_text().replace("[report]", "[ingest]\ngap_s = 29\n[report]", 1)
    (out / "my.toml").write_text(config)
    sdd_in_process("build", out / "my.toml", "--source", tiny / "raw", "--out", out)
    before = builds.content(out)
    done = sdd_in_process(*words_of(stage, out), check=False)
    assert done.returncode == 2
    assert f"error: [{stage}] " in done.stderr
    assert "--change-config" in done.stderr
    assert builds.content(out) == before
    sdd_in_process(*words_of(stage, out), "--config", out / "my.toml")
    assert builds.content(out) == before


def test_stages_one_by_one_give_what_a_build_gives_or_say_that_they_will_not(tiny: Path, out: Path) -> None:
    """The configuration of the first stage is that of the set."""
    shutil.copytree(tiny / "raw", out / "raw")
    config = out / "my.toml"
    config.write_text((tiny / "sdd.toml").read_text().replace("[pack]", '[pack]\nencoding = "srgb16"', 1))
    folder = out / "set"
    for stage in ("ingest", "align", "filter"):
        sdd_in_process(*words_of(stage, folder), "--config", config)
    done = sdd_in_process(*words_of("pack", folder), check=False)
    assert done.returncode == 2
    assert "[pack] pairs_per_shard" in done.stderr or 'encoding = "srgb16"' in done.stderr
    assert not (folder / "shards/index.json").exists()
    sdd_in_process(*words_of("pack", folder), "--config", config)
    assert read_index(folder / "shards").encoding == "srgb16"


@pytest.mark.parametrize(("stage", "line"), OTHER_VALUES.items())
def test_it_goes_on_when_told_to_and_then_that_is_recorded(tiny: Path, out: Path, stage: str, line: str) -> None:
    shutil.copytree(tiny / "whole", out)
    words, before, other = words_of(stage, out), read_recorded(out), out / "other.toml"
    key, value = next(iter(tomllib.loads(line).items()))
    other.write_text(with_value((tiny / "sdd.toml").read_text(), stage, line))
    assert sdd_in_process(*words, "--config", other, check=False).returncode == 2
    assert read_recorded(out) == before
    sdd_in_process(*words, "--config", other, "--change-config")
    assert read_recorded(out)[stage] == {**before[stage], key: value}
    sdd_in_process(*words, "--config", other)
    assert sdd_in_process(*words, "--config", tiny / "sdd.toml", check=False).returncode == 2


def with_value(config: str, section: str, line: str) -> str:
    """A configuration with another value in a section."""
    head = f"[{section}]\n"
    text = re.sub(rf"(?m)^{line.split()[0]} = .*\n", "", config)
    return text.replace(head, head + line + "\n") if head in text else f"{text}{head}{line}\n"
