"""Shards built in worker processes, whatever they are made from."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.building import PackedItem, ShardTask, assign_to_shards, build_shards
from sdd_toolkit.shards.index import FailedPair, ShardHeader
from tests.support.small_shards import random_pair


@dataclass(frozen=True)
class Item:
    id: str


class Task(ShardTask[Item]):
    """A shard of pairs, some of which do not let a worker live."""

    def pack(self, item: Item) -> PackedItem:
        if item.id.startswith("deadly") or (item.id.startswith("crowded") and len(self.items) > 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if item.id.startswith("endless"):
            time.sleep(600)
        return random_pair(item.id, 16, 16), ()


def shard_of(out: Path, name: str, *ids: str) -> Task:
    return Task(name, ShardHeader("train", Encoding.SRGB8, 16), "0", tuple(map(Item, ids)), out)


def test_pairs_are_cut_into_shards_that_tell_how_many_there_are() -> None:
    assert assign_to_shards("val", "abcde", 2) == [
        ("val-00000-of-00003.h5", ("a", "b")),
        ("val-00001-of-00003.h5", ("c", "d")),
        ("val-00002-of-00003.h5", ("e",)),
    ]
    assert assign_to_shards("test", "", 2) == []


def test_a_pair_that_kills_its_worker_is_left_out_and_every_other_is_packed(tmp_path: Path) -> None:
    tasks = [shard_of(tmp_path, "one", "a", "deadly", "b"), shard_of(tmp_path, "two", "c")]
    notes = {built.note.shard.name: built.note for built in build_shards(tasks, "local:2")}
    assert {name: (list(note.shard.pairs), note.failed) for name, note in notes.items()} == {
        "one": (["a", "b"], (FailedPair("deadly", Reason.WORKER_DIED),)),
        "two": (["c"], ()),
    }


def test_a_pair_that_takes_too_long_is_left_out_with_that_reason(tmp_path: Path) -> None:
    (built,) = build_shards([shard_of(tmp_path, "one", "a", "endless")], "local:1?timeout_s=1")
    assert built.note.shard.pairs == ("a",)
    assert built.note.failed == (FailedPair("endless", Reason.TIMED_OUT),)


def test_the_largest_shard_is_begun_first(tmp_path: Path) -> None:
    shards = {"small": "a", "large": "bcd", "middle": "ef"}
    tasks = [shard_of(tmp_path, name, *ids) for name, ids in shards.items()]
    assert [built.note.shard.name for built in build_shards(tasks, "serial")] == ["large", "middle", "small"]


def test_a_worker_that_dies_of_the_shard_itself_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the worker that writes one dies again and again"):
        list(build_shards([shard_of(tmp_path, "one", "a", "crowded")], "local:1"))
