"""The common ending of the stages that write shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.building import PackedItem, ShardTask
from sdd_toolkit.shards.index import FailedPair, Index, ShardHeader, read_index
from sdd_toolkit.shards.shard_set import WrittenShards, discard_set, index_of, publish_set, write_shards
from tests.support.small_dataset import contents
from tests.support.small_shards import random_pair

HEADER = ShardHeader("train", Encoding.SRGB8, 16)
NAMES = ("train-00000-of-00002.h5", "train-00001-of-00002.h5")


@dataclass(frozen=True)
class Item:
    id: str


class Task(ShardTask[Item]):
    """A shard of random pairs; those called `broken` cannot be packed."""

    def pack(self, item: Item) -> PackedItem:
        if item.id.startswith("broken"):
            return FailedPair(item.id, Reason.TOO_SMALL)
        return random_pair(item.id, 16, 16), ()


def plan(out: Path) -> list[Task]:
    return [
        Task(NAMES[0], HEADER, "1", (Item("a"), Item("broken")), out),
        Task(NAMES[1], HEADER, "2", (Item("b"),), out),
    ]


def write(out: Path, tasks: list[Task], *, overwrite: bool = False) -> WrittenShards:
    return write_shards(out, tasks, stage="test", executor="serial", overwrite=overwrite, track=silent)


def publish(out: Path, written: WrittenShards) -> Index:
    splits = {"train": ("scene",), "val": (), "test": ()}
    index = index_of(written, HEADER, name="x", config="0", splits=splits, configs={}, failed=written.failed)
    publish_set(out, index)
    return index


def test_a_set_is_written_noted_and_published(tmp_path: Path) -> None:
    written = write(tmp_path, plan(tmp_path))
    assert (written.pair_count, written.skipped, written.copied) == (2, 0, 0)
    assert list(contents(tmp_path)) == sorted(name + suffix for name in NAMES for suffix in ("", ".json"))
    index = publish(tmp_path, written)
    assert list(contents(tmp_path)) == ["index.json", *NAMES]
    assert read_index(tmp_path) == index
    assert index.plans == dict(zip(NAMES, "12", strict=True))
    assert index.failed == (FailedPair("broken", Reason.TOO_SMALL),)


def test_a_second_run_builds_only_the_shards_whose_fingerprint_changed(tmp_path: Path) -> None:
    publish(tmp_path, write(tmp_path, plan(tmp_path)))
    before = contents(tmp_path)
    assert write(tmp_path, plan(tmp_path)).skipped == 2
    first, second = plan(tmp_path)
    written = write(tmp_path, [first, replace(second, fingerprint="3")])
    assert written.skipped == 1
    assert written.fingerprints == {NAMES[0]: "1", NAMES[1]: "3"}
    publish(tmp_path, written)
    assert {name: contents(tmp_path)[name] for name in NAMES} == {name: before[name] for name in NAMES}


def test_overwriting_builds_every_shard_again(tmp_path: Path) -> None:
    publish(tmp_path, write(tmp_path, plan(tmp_path)))
    assert write(tmp_path, plan(tmp_path), overwrite=True).skipped == 0


def test_a_refusal_before_building_leaves_the_old_set_as_it_was(tmp_path: Path) -> None:
    publish(tmp_path, write(tmp_path, plan(tmp_path)))
    before = contents(tmp_path)

    def refuse(tasks: list[Task], notes: object) -> list[Task]:
        raise InputError("no", hint="none")

    with pytest.raises(InputError):
        write_shards(
            tmp_path,
            [replace(task, fingerprint="9") for task in plan(tmp_path)],
            stage="test",
            executor="serial",
            overwrite=False,
            track=silent,
            prepare=refuse,
        )
    assert contents(tmp_path) == before


def test_a_discarded_set_leaves_nothing(tmp_path: Path) -> None:
    publish(tmp_path, write(tmp_path, plan(tmp_path)))
    discard_set(tmp_path)
    assert contents(tmp_path) == {}
