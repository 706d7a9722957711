from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards.codecs import CODECS
from sdd_toolkit.shards.index import ShardHeader
from sdd_toolkit.shards.schema import PackedPair, Patch, ReuseKeys, StoredPair
from sdd_toolkit.shards.stored_patches import read_pair, read_patches, read_reuse_keys
from sdd_toolkit.shards.writer import write_shard
from tests.support.small_shards import assert_equal, random_pair

KEYS = ReuseKeys("p" * 32, "q" * 16, "0123456789abcdef")


def written(path: Path, header: ShardHeader, pairs: Sequence[PackedPair | StoredPair]) -> bytes:
    write_shard(path, header, ((pair, [Patch(pair.id, 0, 4, 0.5, 1.0)]) for pair in pairs))
    return path.read_bytes()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=4),
    st.sampled_from(list(Encoding)),
    st.sampled_from(sorted(CODECS)),
)
def test_a_shard_of_copied_pairs_is_the_same_file_as_one_of_fresh_pairs(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], encoding: Encoding, codec: str
) -> None:
    folder = tmp_path_factory.mktemp("copying")
    header = ShardHeader("train", encoding, 32, codec)
    fresh = [
        replace(random_pair(f"pair-{number}", *size, encoding), reuse_keys=KEYS, box=(0, 4, 8, 12))
        for number, size in enumerate(sizes)
    ]
    written(folder / "first.h5", header, fresh)
    written(folder / "other.h5", replace(header, split="val"), fresh[::-1])
    copied = [
        StoredPair(pair.id, pair.record, folder / name, pair.id, KEYS.patching)
        for pair, name in zip(fresh, ["first.h5", "other.h5"] * 2, strict=False)
    ]
    assert written(folder / "copied.h5", header, copied) == written(folder / "fresh.h5", header, fresh)


def test_a_copied_pair_takes_its_new_name_and_record_and_keeps_the_rest(tmp_path: Path) -> None:
    header = ShardHeader("train", Encoding.SRGB8, 32)
    old = replace(random_pair("old", 300, 280), reuse_keys=KEYS, box=(0, 0, 280, 300))
    written(tmp_path / "a.h5", header, [old])
    record = replace(old.record, id="new", scene="elsewhere")
    written(tmp_path / "b.h5", header, [StoredPair("new", record, tmp_path / "a.h5", "old", "other")])
    found = read_pair(tmp_path / "b.h5", "new")
    assert_equal(found, replace(old, id="new", record=record))
    assert (found.box, found.reuse_keys) == (old.box, replace(KEYS, patching="other"))
    assert read_reuse_keys(tmp_path / "b.h5", ["new"]) == {"new": (found.reuse_keys, (300, 280))}


def test_a_pair_of_the_first_shards_has_no_marks_and_can_be_copied_all_the_same(tmp_path: Path) -> None:
    header = ShardHeader("train", Encoding.SRGB8, 32)
    old = random_pair("old", 30, 28)
    plain = written(tmp_path / "a.h5", header, [old])
    assert read_reuse_keys(tmp_path / "a.h5", ["old"]) == {}
    stored = StoredPair("old", old.record, tmp_path / "a.h5", "old", None)
    assert written(tmp_path / "b.h5", header, [stored]) == plain


def test_the_patches_of_one_pair_are_found_among_those_of_others(tmp_path: Path) -> None:
    pairs = [random_pair(name, 30, 28) for name in ("a", "b", "c")]
    rows = {"a": [Patch("a", 1, 2, 0.1, 1.0)], "b": [Patch("b", 3, 4, 0.2, 0.9), Patch("b", 5, 6, 0.3, 0.8)], "c": []}
    write_shard(tmp_path / "a.h5", ShardHeader("train", Encoding.SRGB8, 8), ((pair, rows[pair.id]) for pair in pairs))
    assert {name: list(read_patches(tmp_path / "a.h5", name)) for name in rows} == rows


def test_a_pair_with_other_filters_is_refused_and_its_shard_named(tmp_path: Path) -> None:
    header = ShardHeader("train", Encoding.SRGB8, 32)
    pair = random_pair("p", 30, 28)
    written(tmp_path / "a.h5", header, [pair])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["pairs/p/sharp"]
        file["pairs/p"].create_dataset("sharp", data=np.zeros((30, 28, 3), np.uint8), chunks=(8, 8, 3))
    with pytest.raises(IntegrityError, match=r"a\.h5: p: .*sharp"):
        written(tmp_path / "b.h5", header, [StoredPair("p", pair.record, tmp_path / "a.h5", "p", None)])


def test_a_pair_with_chunks_of_another_size_keeps_them(tmp_path: Path) -> None:
    header = ShardHeader("train", Encoding.SRGB8, 32, "none")
    pair = random_pair("p", 30, 28)
    written(tmp_path / "a.h5", header, [pair])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["pairs/p/sharp"]
        file["pairs/p"].create_dataset("sharp", data=pair.sharp, chunks=(8, 7, 3), fletcher32=True)
    written(tmp_path / "b.h5", header, [StoredPair("p", pair.record, tmp_path / "a.h5", "p", None)])
    assert_equal(read_pair(tmp_path / "b.h5", "p"), pair)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["pairs/p/sharp"].chunks == (8, 7, 3)
