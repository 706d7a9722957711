from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.imaging.geometry import enlarge_flow
from sdd_toolkit.shards.codecs import CODECS
from sdd_toolkit.shards.index import read_index, write_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import Patch, group_name
from sdd_toolkit.shards.writer import write_shard
from tests.support.small_shards import SHARD, assert_equal, random_pair, write_folder


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(list(Encoding)),
    st.sampled_from(sorted(CODECS)),
)
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, encoding: Encoding, codec: str
) -> None:
    pair = random_pair("p", height, width, encoding)
    folder = write_folder(tmp_path_factory.mktemp("shards"), [pair], encoding, codec)
    with ShardReader(folder) as reader:
        assert reader.encoding is encoding
        assert reader.shape("p") == (height, width)
        assert_equal(reader.read("p"), pair)


@pytest.mark.parametrize("name", ["a/b", "Größe", "..", ".", "100%", "x y"])
def test_any_id_survives(tmp_path: Path, name: str) -> None:
    with ShardReader(write_folder(tmp_path, [random_pair(name, 8, 8), random_pair("other", 8, 8)])) as reader:
        assert reader.pair_ids == (name, "other")
        assert reader.read(name).record.id == name


def test_ids_of_dots_and_slashes_keep_apart_groups() -> None:
    assert group_name("a/b") == "pairs/a%2Fb"
    assert group_name("a%2Fb") == "pairs/a%252Fb"
    assert group_name("..") == "pairs/%2E%2E"


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    pairs = [random_pair("b", 60, 70), random_pair("a", 300, 270)]
    first = (write_folder(tmp_path / "first", pairs) / SHARD).read_bytes()
    assert (write_folder(tmp_path / "second", pairs) / SHARD).read_bytes() == first


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_window_is_a_slice_of_the_whole_and_so_is_its_flow(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 280))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tall, wide = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    folder = write_folder(tmp_path_factory.mktemp("shards"), [random_pair("p", height, width)])
    with ShardReader(folder) as reader:
        window, whole = reader.read_window("p", top, left, tall, wide), reader.read("p")
    rows, columns = slice(top, top + tall), slice(left, left + wide)
    flow = enlarge_flow(whole.flow, 4, (0, 0, height, width))
    expected = replace(
        whole,
        blur=whole.blur[rows, columns],
        sharp=whole.sharp[rows, columns],
        valid=whole.valid[rows, columns],
        flow=flow[rows, columns],
    )
    assert_equal(window, expected)


@pytest.mark.parametrize("window", [(-1, 0, 4, 4), (0, 0, 9, 4), (0, 5, 4, 4), (0, 0, 0, 4)])
def test_a_window_outside_the_frame_is_a_programmers_mistake(tmp_path: Path, window: tuple[int, ...]) -> None:
    with (
        ShardReader(write_folder(tmp_path, [random_pair("p", 8, 8)])) as reader,
        pytest.raises(ValueError, match="leaves"),
    ):
        reader.read_window("p", *window)


def test_the_folder_may_be_given_as_text(tmp_path: Path) -> None:
    with ShardReader(str(write_folder(tmp_path, [random_pair("p", 8, 8)]))) as reader:
        assert reader.pair_ids == ("p",)


def test_a_reader_with_open_files_can_be_pickled(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path, [random_pair("p", 8, 8)]))
    expected = reader.read("p")
    assert_equal(pickle.loads(pickle.dumps(reader)).read("p"), expected)


def test_a_reader_with_open_files_survives_a_fork(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path, [random_pair("p", 64, 64)]))
    expected = reader.read("p")
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader.read("p").blur, expected.blur) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_equal(reader.read("p"), expected)


def test_copies_of_a_reader_read_in_threads_of_their_own(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path, [random_pair("a", 300, 200), random_pair("b", 200, 300)]))
    expected = {name: reader.read(name).blur for name in reader.pair_ids}

    def all_equal(mine: ShardReader) -> bool:
        return all(np.array_equal(mine.read(name).blur, expected[name]) for _ in range(5) for name in expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(all_equal, [copy(reader) for _ in range(4)]))


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_images_alone_are_those_of_the_window(tmp_path: Path, codec: str) -> None:
    pair = random_pair("p", 300, 290)
    with ShardReader(write_folder(tmp_path, [pair], codec=codec)) as reader:
        for top, left, height, width in ((0, 0, 300, 290), (17, 5, 200, 201), (299, 289, 1, 1), (100, 0, 60, 290)):
            blur, sharp = reader.read_images("p", top, left, height, width)
            rows, columns = slice(top, top + height), slice(left, left + width)
            np.testing.assert_array_equal(blur, pair.blur[rows, columns])
            np.testing.assert_array_equal(sharp, pair.sharp[rows, columns])
        with pytest.raises(ValueError, match="leaves"):
            reader.read_images("p", 1, 0, 300, 290)


def test_a_reader_keeps_no_more_than_32_files_open(tmp_path: Path) -> None:
    index = read_index(write_folder(tmp_path, [random_pair("p", 8, 8)]))
    (shard,) = index.shards
    names = [f"train-{number:05d}-of-00040.h5" for number in range(40)]
    for number, name in enumerate(names):
        write_shard(tmp_path / name, index.header("train"), [(random_pair(f"p{number}", 8, 8), [])])
    listed = (
        replace(shard, name=name, pairs=(f"p{number}",), bytes=(tmp_path / name).stat().st_size)
        for number, name in enumerate(names)
    )
    write_index(tmp_path, replace(index, shards=tuple(listed)))
    before = len(os.listdir("/proc/self/fd"))
    with ShardReader(tmp_path) as reader:
        for name in (*reader.pair_ids, *reader.pair_ids):
            assert reader.read(name).record.id == name
        # HDF5's own and that of the memory map.
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * 32


def test_the_codec_of_the_first_shards_is_still_read(tmp_path: Path) -> None:
    pair = random_pair("p", 100, 90)
    path = write_folder(tmp_path, [pair], codec="gzip") / SHARD
    with h5py.File(path, "r+") as file:
        file.attrs["codec"] = "bitshuffle-lz4"
        del file["pairs/p/blur"]
        file.create_dataset("pairs/p/blur", data=pair.blur, fletcher32=True, **hdf5plugin.Bitshuffle(cname="lz4"))
    index = read_index(tmp_path)
    shard = replace(index.shards[0], bytes=path.stat().st_size)
    write_index(tmp_path, replace(index, codec="bitshuffle-lz4", shards=(shard,)))
    assert_equal(ShardReader(tmp_path).read("p"), pair)


def test_an_unknown_codec_is_refused_in_the_index_and_in_a_shard(tmp_path: Path) -> None:
    path = write_folder(tmp_path, [random_pair("p", 20, 20)]) / SHARD
    index = read_index(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["codec"] = "zip"
    write_index(tmp_path, replace(index, shards=(replace(index.shards[0], bytes=path.stat().st_size),)))
    with pytest.raises(InputError, match="unknown codec 'zip'"):
        ShardReader(tmp_path).read("p")
    write_index(tmp_path, replace(index, codec="zap"))
    with pytest.raises(InputError, match="unknown codec 'zap'"):
        ShardReader(tmp_path)


def test_a_closed_reader_opens_again(tmp_path: Path) -> None:
    with ShardReader(write_folder(tmp_path, [random_pair("p", 8, 8)])) as reader:
        reader.read("p")
    assert reader.read("p").id == "p"


def test_patches_come_with_their_pairs(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path, [random_pair("a", 40, 40), random_pair("b", 40, 40)]))
    assert reader.patches == (Patch("a", 4, 8, 0.25, 1.0), Patch("b", 4, 8, 0.25, 1.0))


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ShardReader(write_folder(tmp_path, [random_pair("p", 8, 8)]), split="test")
    assert "train" in caught.value.hint


def test_an_unknown_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'q'"):
        ShardReader(write_folder(tmp_path, [random_pair("p", 8, 8)])).read("q")


def test_a_flipped_byte_in_the_pixels_names_the_shard(tmp_path: Path) -> None:
    path = write_folder(tmp_path, [random_pair("p", 200, 200)]) / SHARD
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=SHARD):
        ShardReader(tmp_path).read("p")


def test_a_missing_and_a_cut_shard_are_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path, [random_pair("p", 20, 20)]) / SHARD
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=SHARD):
        ShardReader(tmp_path).read("p")
    path.unlink()
    with pytest.raises(IntegrityError, match=SHARD):
        ShardReader(tmp_path).read("p")


def test_a_shard_of_another_version_is_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path, [random_pair("p", 20, 20)]) / SHARD
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    index = read_index(tmp_path)
    shard = replace(index.shards[0], bytes=path.stat().st_size)
    write_index(tmp_path, replace(index, shards=(shard,)))
    with pytest.raises(InputError, match="version 2"):
        ShardReader(tmp_path).read("p")


def test_a_shard_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "inner", [random_pair("p", 20, 20)])
    (folder / SHARD).rename(tmp_path / SHARD)
    index = read_index(folder)
    write_index(folder, replace(index, shards=(replace(index.shards[0], name=f"../{SHARD}"),)))
    with pytest.raises(IntegrityError, match="leaves its root"):
        ShardReader(folder).read("p")


def test_a_pair_that_does_not_fit_the_header_is_a_programmers_mistake(tmp_path: Path) -> None:
    pair = random_pair("p", 8, 8)
    with pytest.raises(ValueError, match="uint8"):
        write_folder(tmp_path, [pair], Encoding.SRGB16)
    with pytest.raises(ValueError, match="flow"):
        write_folder(tmp_path, [replace(pair, flow=pair.flow[1:])])
