from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.records import Reason, ShardInfo
from sdd_toolkit.shards.index import (
    TRANSFER,
    FailedPair,
    Index,
    header_of,
    index_text,
    read_index,
    text_with_sha256,
    write_index,
)

INDEX = Index(
    name="Bilder ü",
    encoding=Encoding.SRGB16,
    transfer=TRANSFER[Encoding.SRGB16],
    patch_size=512,
    codec="gzip",
    toolkit="0.1.0",
    config="ab",
    splits={"train": ("s1",), "val": (), "test": ("s2",)},
    shards=(ShardInfo("train-00000-of-00001.h5", "train", ("p1",), 3, 1000, "0" * 64),),
    plans={"train-00000-of-00001.h5": "cd"},
    failed=(FailedPair("p2", Reason.CHANGED, "blur file"),),
)


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_index(tmp_path, INDEX)
    assert read_index(tmp_path) == INDEX


def test_the_first_shards_were_warped_by_the_homography_and_one_gain(tmp_path: Path) -> None:
    content = json.loads(index_text(INDEX))
    for key in ("warp", "brightness", "sha256"):
        del content[key]
    (tmp_path / "index.json").write_text(text_with_sha256(content), encoding="utf-8")
    assert read_index(tmp_path) == INDEX
    attributes = {"split": "train", "encoding": "srgb16", "patch_size": 512, "codec": "gzip"}
    assert header_of(attributes) == INDEX.header("train")


def test_no_index_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.json"):
        read_index(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("version", 2), ("format", "other"), ("version", "1")])
def test_an_unknown_format_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    content = {**json.loads(index_text(INDEX)), key: value}
    del content["sha256"]
    (tmp_path / "index.json").write_text(text_with_sha256(content), encoding="utf-8")
    with pytest.raises(InputError, match="this toolkit reads 'sdd-shards' version 1"):
        read_index(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 1}', "[" * 100_000, "\xff"])
def test_what_is_no_index_is_an_integrity_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError, match=r"index\.json"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("Bilder", "Bildes"), ("Bilder", "\\ud800"), ('"version": 1', '"version": 3'), ("sdd-shards", "sdd-shardr")],
)
def test_any_altered_value_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "index.json").write_text(index_text(INDEX).replace(old, new), encoding="utf-8")
    with pytest.raises(IntegrityError, match="altered"):
        read_index(tmp_path)
