"""How shards come to be, whatever they are made of."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace

import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.records import Reason
from sdd_toolkit.shards.building import assign_to_shards, build_shard
from sdd_toolkit.shards.index import FailedPair


@dataclass(frozen=True)
class Task:
    """A shard of pairs, some of which do not let a worker live."""

    name: str
    ids: tuple[str, ...]
    lost: tuple[FailedPair, ...] = ()

    def only(self, pair_id: str) -> Task:
        return replace(self, ids=(pair_id,))

    def without(self, lost: tuple[FailedPair, ...]) -> Task:
        return replace(self, lost=lost)


def touched(task: Task) -> list[str]:
    packed = [pair for pair in task.ids if pair not in {failure.id for failure in task.lost}]
    for pair in packed:
        if pair.startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        if pair.startswith("endless"):
            time.sleep(600)
    return packed


def build(task: Task) -> tuple[str, list[str], tuple[FailedPair, ...]]:
    return task.name, touched(task), task.lost


def packs(task: Task) -> bool:
    return bool(touched(task))


def dies(task: Task) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return task.name


def test_pairs_are_cut_into_shards_that_tell_how_many_there_are() -> None:
    assert assign_to_shards("val", "abcde", 2) == [
        ("val-00000-of-00003.h5", ("a", "b")),
        ("val-00001-of-00003.h5", ("c", "d")),
        ("val-00002-of-00003.h5", ("e",)),
    ]
    assert assign_to_shards("test", "", 2) == []


def test_a_pair_that_kills_its_worker_is_left_out_and_every_other_is_packed() -> None:
    tasks = [Task("one", ("a", "deadly", "b")), Task("two", ("c",))]
    found = {name: (packed, lost) for name, packed, lost in build_shard(build, packs, tasks, "local:2")}
    assert found == {
        "one": (["a", "b"], (FailedPair("deadly", Reason.WORKER_DIED),)),
        "two": (["c"], ()),
    }


def test_a_pair_that_takes_too_long_is_left_out_with_that_reason() -> None:
    ((_, packed, lost),) = build_shard(build, packs, [Task("one", ("a", "endless"))], "local:1?timeout_s=1")
    assert packed == ["a"]
    assert lost == (FailedPair("endless", Reason.TIMED_OUT),)


def test_the_largest_shard_is_begun_first() -> None:
    tasks = [Task("small", ("a",)), Task("large", ("b", "c", "d")), Task("middle", ("e", "f"))]
    assert [name for name, _, _ in build_shard(build, packs, tasks, "serial")] == ["large", "middle", "small"]


def test_a_worker_that_dies_of_the_shard_itself_is_an_error() -> None:
    with pytest.raises(InputError, match="the worker that writes one dies again and again"):
        list(build_shard(dies, packs, [Task("one", ("a",))], "local:1"))
