"""Shards in a store: the bytes, the resuming and the errors of shards on a disk. fsspec's own two stores stand in."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sdd_toolkit.audit import verify
from sdd_toolkit.cards import stage as cards
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.errors import InputError, IntegrityError, ManifestError, MissingExtraError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import resolve_inside, sha256_of
from sdd_toolkit.storage.locations import Remote, parse_location
from tests.support.command_line import sdd_in_process
from tests.support.small_dataset import contents, filtered_manifest

CONFIG = PackConfig(patch_size=128, pairs_per_shard=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`filtered.jsonl` of three scenes with two pairs, packed into `shards` on disk."""
    folder = tmp_path_factory.mktemp("original") / "set"
    pack_dataset(filtered_manifest(folder), folder / "shards", CONFIG)
    return folder


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    url = f"file://{tmp_path}/bucket/set" if request.param == "file" else f"memory://{tmp_path.name}/set"
    location = parse_location(url)
    assert isinstance(location, Remote)
    return location


def content_of(store: Remote) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_a_url_is_a_remote_and_anything_else_a_path() -> None:
    assert parse_location("s3://bucket/a/b/") == Remote("s3://bucket/a/b")
    assert parse_location("gs://bucket") / "index.json" == Remote("gs://bucket/index.json")
    for text in ("shards", "/data/shards", "./a:b", "C:\\shards", "s3:/bucket"):
        assert parse_location(text) == Path(text)


def test_a_remote_has_the_parts_a_path_has() -> None:
    remote = Remote("s3://bucket/set/train-00000-of-00001.h5.json")
    assert (remote.name, remote.suffix, remote.suffixes) == ("train-00000-of-00001.h5.json", ".json", [".h5", ".json"])
    assert remote.parent == Remote("s3://bucket/set")
    assert remote.with_name("x") == Remote("s3://bucket/set/x")
    assert pickle.loads(pickle.dumps(remote)) == remote


def test_shards_in_a_store_are_those_on_a_disk_byte_for_byte(original: Path, store: Remote) -> None:
    report = pack_dataset(original / "filtered.jsonl", store, CONFIG)
    assert (report.done, report.outputs) == (6, (f"{store}/index.json",))
    assert content_of(store) == contents(original / "shards")


def test_what_lies_in_a_store_is_verified_read_and_described(original: Path, store: Remote) -> None:
    pack_dataset(original / "filtered.jsonl", store, CONFIG)
    assert verify.verify_shards(store).done == 6
    cards.write_card(store, CardConfig(name="Far away"))
    assert "# Far away" in (store / "README.md").read_text()
    with ShardReader(str(store)) as far, ShardReader(original / "shards") as near:
        assert far.pair_ids == near.pair_ids
        for name in near.pair_ids[:2]:
            assert np.array_equal(far.read(name).blur, near.read(name).blur)
            window = (name, 8, 16, 64, 32)
            assert np.array_equal(far.read_window(*window).sharp, near.read_window(*window).sharp)


def test_a_second_run_keeps_what_is_whole_and_makes_what_is_not(original: Path, store: Remote) -> None:
    pack_dataset(original / "filtered.jsonl", store, CONFIG)
    assert pack_dataset(original / "filtered.jsonl", store, CONFIG).skipped == 6
    (store / "train-00001-of-00002.h5").write_bytes(b"torn")
    report = pack_dataset(original / "filtered.jsonl", store, CONFIG)
    assert (report.done, report.skipped) == (2, 4)
    assert content_of(store) == contents(original / "shards")


def test_what_a_killed_run_left_is_taken_over_or_removed(original: Path, store: Remote) -> None:
    """Two shards with their notes, no index, and a file that was on its way."""
    pack_dataset(original / "filtered.jsonl", store, CONFIG)
    index = read_index(store)
    for shard in index.shards[:2]:
        note = {"plan": index.plans[shard.name], "shard": json.loads((store / "index.json").read_text())["shards"]}
        note["shard"] = next(entry for entry in note["shard"] if entry["name"] == shard.name)
        (store / f"{shard.name}.json").write_bytes(json.dumps({**note, "failed": []}).encode())
    (store / "index.json").unlink()
    (store / "train-00001-of-00002.h5.0123abcd.partial").write_bytes(b"half")
    (store / "val-00000-of-00001.h5").write_bytes(b"\x89HDF\r\n\x1a\n sdd-shards of another plan")
    report = pack_dataset(original / "filtered.jsonl", store, CONFIG)
    assert (report.done, report.skipped) == (2, 4)
    assert content_of(store) == contents(original / "shards")


def test_a_flipped_byte_and_a_stray_in_a_store_are_found(original: Path, store: Remote) -> None:
    pack_dataset(original / "filtered.jsonl", store, CONFIG)
    shard = store / "test-00000-of-00001.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    (store / "train-00007-of-00009.h5").write_bytes(b"stray")
    with pytest.raises(IntegrityError) as caught:
        verify.verify_shards(store)
    assert "train-00007-of-00009.h5: not in the index" in caught.value.what
    assert "test-00000-of-00001.h5: SHA-256 differs" in caught.value.what


def test_workers_bring_whole_shards_into_a_store(original: Path, tmp_path: Path) -> None:
    store = parse_location(f"file://{tmp_path}/bucket/set")
    pack_dataset(original / "filtered.jsonl", store, CONFIG, executor="local:2")
    assert contents(tmp_path / "bucket" / "set") == contents(original / "shards")


def test_the_commands_take_urls(original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "set")
    (tmp_path / "sdd.toml").write_text("[pack]\npatch_size = 128\npairs_per_shard = 2\n")
    url = f"file://{tmp_path}/bucket"
    sdd_in_process(
        "pack", folder / "filtered.jsonl", "--config", tmp_path / "sdd.toml", "--out", url, "--executor", "serial"
    )
    assert json.loads(sdd_in_process("verify", url, "--json").stdout)["done"] == 6
    sdd_in_process("card", url, "--manifest", folder / "filtered.jsonl")
    assert set(contents(tmp_path / "bucket")) == {
        *contents(original / "shards"),
        "README.md",
        "croissant.json",
        "pairs.csv",
    }


def test_a_file_comes_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails after half of the bytes."""
    remote = Remote(f"memory://{tmp_path.name}/whole")
    remote.write_bytes(b"old")

    def half(self: MemoryFileSystem, path: str, value: bytes, **options: Any) -> None:
        put(self, path, value[: len(value) // 2])
        raise TimeoutError("the line is dead")

    put = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", half)
    with pytest.raises(InputError, match=r"cannot reach memory://.*TimeoutError: the line is dead"):
        remote.write_bytes(b"something new")
    assert content_of(remote.parent) == {"whole": b"old"}


class Forbidden(MemoryFileSystem):  # type: ignore[misc]
    """A store whose errors are of a kind of its own, as those of cloud libraries are."""

    protocol = "forbidden"

    class NoCredentialsError(Exception):
        pass

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        raise self.NoCredentialsError("Unable to locate\ncredentials")

    def cat_file(self, path: str, *options: Any, **more: Any) -> Any:
        return self.info(path)

    def ls(self, path: str, *options: Any, **more: Any) -> Any:
        return self.info(path)


def test_a_store_that_refuses_is_an_input_error_that_says_what_and_where(original: Path) -> None:
    fsspec.register_implementation("forbidden", Forbidden, clobber=True)
    url = "forbidden://bucket/set"
    for attempt in (
        lambda: read_index(Remote(url)),
        lambda: ShardReader(url),
        lambda: pack_dataset(original / "filtered.jsonl", Remote(url), CONFIG),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert f"cannot reach {url}" in caught.value.what
        assert "NoCredentialsError: Unable to locate credentials" in caught.value.what
        assert "credentials" in caught.value.hint


def test_a_missing_backend_names_the_extra() -> None:
    if "s3fs" in str(fsspec.available_protocols()) and _there("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(MissingExtraError, match=r"sdd-toolkit\[cloud\]"):
        read_index(Remote("s3://bucket/set"))


def _there(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(InputError, match="nosuch"):
        read_index(Remote("nosuch://bucket/set"))


def test_a_store_without_a_data_set_says_what_to_do(store: Remote) -> None:
    with pytest.raises(InputError, match=r"index\.json"):
        ShardReader(store)


def test_no_name_leads_out_of_a_store(store: Remote) -> None:
    for name in ("../x", "/x", "a/../../x", ""):
        with pytest.raises(ManifestError):
            resolve_inside(store, name)


def test_a_pair_that_fails_is_listed(original: Path, store: Remote, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / "set")
    source = read_manifest(folder / "filtered.jsonl")
    first = source.records[0]
    lost = replace(first, blur=replace(first.blur, sha256="0" * 64))
    write_manifest(folder / "filtered.jsonl", replace(source, records=(lost, *source.records[1:])))
    report = pack_dataset(folder / "filtered.jsonl", store, CONFIG)
    assert report.rejected == {"changed": 1}
    assert [failure.id for failure in read_index(store).failed] == [first.id]
    assert sha256_of(store / "index.json") == sha256_of(store / "index.json")
