"""Packing a built set again takes over, chunk by chunk, every pair whose pixels would come out the same."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards as verify
from sdd_toolkit.errors import InputError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.records import PairRecord, Quality, Reason, Verdict
from sdd_toolkit.shards.folder import read_note
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.shards.superseded import SUPERSEDED_FOLDER, list_shards, move_aside
from sdd_toolkit.storage.files import sha256_of
from tests.support.small_dataset import alignment, contents, filtered_manifest

CONFIG = PackConfig(patch_size=128, pairs_per_shard=2)
QUALITY = Quality(3.0, 0.9, 0.0, 0.5, 0.1, 0.0, 0.0, 0.9, 0.9, 0.8)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes with two pairs, packed into `shards`, and the same with the first pair rejected into `fewer`."""
    folder = tmp_path_factory.mktemp("original") / "set"
    pack_dataset(filtered_manifest(folder), folder / "shards", CONFIG)
    honest = (folder / "filtered.jsonl").read_bytes()
    reject_first(folder)
    pack_dataset(folder / "filtered.jsonl", folder / "fewer", CONFIG)
    (folder / "filtered.jsonl").write_bytes(honest)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


def configured(**values: object) -> PackConfig:
    return PackConfig.model_validate({**CONFIG.model_dump(), **values})


def change(folder: Path, number: int = 0, **fields: object) -> PairRecord:
    path = folder / "filtered.jsonl"
    source = read_manifest(path)
    records = list(source.records)
    records[number] = replace(records[number], **fields)  # type: ignore[arg-type]
    write_manifest(path, replace(source, records=tuple(records)))
    return records[number]


def reject_first(folder: Path) -> None:
    change(folder, verdict=Verdict(keep=False, reason=Reason.CLIPPED))


def test_with_another_threshold_no_file_is_developed_and_the_shards_are_those_of_a_fresh_run(folder: Path) -> None:
    reject_first(folder)
    shutil.rmtree(folder / "raw")
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, executor="local:2")
    assert (report.total, report.done, report.copied, report.skipped, report.rejected) == (5, 3, 3, 2, {})
    assert contents(folder / "shards") == contents(folder / "fewer")
    verify(folder / "shards")


@pytest.mark.parametrize(
    "config",
    [
        configured(pairs_per_shard=4),
        configured(split={"test": ["scene-0000"]}),
        configured(split={"val": ["scene-0001"], "train": ["scene-0002"]}, pairs_per_shard=1),
        configured(patch_size=64),
        configured(train_overlap=0.3),
        configured(min_valid_fraction=0.5, min_size_px=200),
    ],
    ids=["pairs_per_shard", "split", "splits", "patch_size", "overlap", "min_valid_fraction"],
)
def test_what_does_not_touch_pixels_copies_every_pair(folder: Path, config: PackConfig) -> None:
    pack_dataset(folder / "filtered.jsonl", folder / "fresh", config)
    shutil.rmtree(folder / "raw")
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", config)
    assert report.copied == report.done == 6 - report.skipped
    assert contents(folder / "shards") == contents(folder / "fresh")


def test_a_pair_judged_and_measured_anew_keeps_its_pixels_and_gets_its_record(folder: Path) -> None:
    record = change(folder, quality=QUALITY, scene="scene-0000")
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.copied, report.skipped) == (2, 4)
    pack_dataset(folder / "filtered.jsonl", folder / "fresh", CONFIG)
    assert contents(folder / "shards") == contents(folder / "fresh")
    from sdd_toolkit.shards.reader import ShardReader

    with ShardReader(folder / "shards") as reader:
        assert reader.record(record.id).quality == QUALITY


@pytest.mark.parametrize(
    "config", [configured(encoding="srgb16"), configured(profile="portable"), configured(brightness="full")]
)
def test_what_touches_pixels_or_chunks_copies_none(folder: Path, config: PackConfig) -> None:
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", config).copied == 0
    verify(folder / "shards")


def test_only_the_pair_that_was_aligned_anew_is_developed(folder: Path) -> None:
    change(folder, alignment=alignment(gain=0.9))
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.done, report.copied, report.skipped) == (2, 1, 4)
    pack_dataset(folder / "filtered.jsonl", folder / "fresh", CONFIG)
    assert contents(folder / "shards") == contents(folder / "fresh")


def test_another_flow_in_the_same_file_develops_the_pair_anew(folder: Path) -> None:
    (folder / "flow").mkdir()
    flow = np.zeros((78, 105, 2), np.float16)
    np.savez(folder / "flow" / "a.npz", flow=flow)
    change(folder, alignment=alignment(flow_file="flow/a.npz"))
    pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    np.savez(folder / "flow" / "a.npz", flow=flow + 1)
    fresh = configured(pairs_per_shard=3)
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", fresh)
    assert (report.done, report.copied) == (4, 3)
    pack_dataset(folder / "filtered.jsonl", folder / "fresh", fresh)
    assert contents(folder / "shards") == contents(folder / "fresh")


def test_a_pair_that_is_too_small_now_is_listed_though_it_was_packed_before(folder: Path) -> None:
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", configured(min_size_px=290))
    assert (report.copied, report.rejected) == (6, {})
    change(folder, alignment=alignment(box=(0, 0, 280, 300)))
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).copied == 5
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", configured(min_size_px=290))
    assert (report.copied, report.rejected) == (5, {"too_small": 1})


def test_a_damaged_shard_is_no_source_and_the_log_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "shards" / "train-00000-of-00002.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    reject_first(folder)
    with caplog.at_level(logging.WARNING):
        report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.done, report.copied) == (3, 2)
    assert "train-00000-of-00002.h5: SHA-256 differs" in caplog.text
    assert contents(folder / "shards") == contents(folder / "fewer")


def test_overwrite_takes_nothing_over(folder: Path) -> None:
    reject_first(folder)
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, overwrite=True).copied == 0
    assert contents(folder / "shards") == contents(folder / "fewer")


def test_a_lens_focused_at_infinity_is_packed_and_taken_over(folder: Path) -> None:
    meta = read_manifest(folder / "filtered.jsonl").records[0].sharp_meta
    far = replace(meta, exposure=replace(meta.exposure, focus_m=math.inf))
    change(folder, sharp_meta=far)
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).copied == 1
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", configured(pairs_per_shard=3)).copied == 4


def test_between_two_sets_there_is_no_index_and_every_shard_is_at_hand(folder: Path) -> None:
    before = {sha256_of(path): path.name for path in (folder / "shards").glob("*.h5")}
    move_aside(folder / "shards", {})
    with pytest.raises(InputError, match="no readable"):
        read_index(folder / "shards")
    found = {shard.note.shard.sha256: shard.note.shard.name for shard in list_shards(folder / "shards")}
    assert found == before
    for path in (folder / "shards" / SUPERSEDED_FOLDER).glob("*.h5"):
        assert sha256_of(path) == path.stem
        assert read_note(path.with_name(path.name + ".json")) is not None


KILLED = """
import sys
from pathlib import Path
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.packing.config import PackConfig
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    config = PackConfig(patch_size=128, pairs_per_shard=int(sys.argv[2]))
    pack_dataset(folder / "filtered.jsonl", folder / "shards", config)
"""


def killed(folder: Path, pairs_per_shard: int, after_s: float) -> None:
    command = [sys.executable, "-c", KILLED, str(folder), str(pairs_per_shard)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(after_s)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()


def test_killed_at_any_moment_while_packing_again_no_pair_is_lost(folder: Path) -> None:
    reject_first(folder)
    started = time.monotonic()
    pack_dataset(folder / "filtered.jsonl", Path(shutil.copytree(folder / "shards", folder / "timed")), CONFIG)
    duration = time.monotonic() - started
    # No RAW file is left: whatever a kill lost could not be made again.
    shutil.rmtree(folder / "raw")
    states = set()
    for number, moment in enumerate(np.random.default_rng(3).uniform(0.0, 1.2, 8)):
        killed(folder, (2, 1, 3)[number % 3], moment * duration)
        states.add(tuple(sorted(str(path.relative_to(folder)) for path in (folder / "shards").rglob("*"))))
        if (folder / "shards" / "index.json").is_file():
            # An index that is there tells of nothing but what is there.
            found = {path.name: sha256_of(path) for path in (folder / "shards").glob("*.h5")}
            assert {shard.name: shard.sha256 for shard in read_index(folder / "shards").shards} == found
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.total, report.rejected) == (5, {})
    assert len(states) >= 3
    assert contents(folder / "shards") == contents(folder / "fewer")
