"""Hugging Face `datasets` opens the archives, whatever the first samples lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts.export_stage import export_dataset
from sdd_toolkit.layouts.webdataset import sample_key
from sdd_toolkit.records import Exposure, FileRef, FrameMeta, PairKind, PairRecord, Reason, ShardInfo, Step, Verdict
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of

LOAD = """
import io, json, sys
import numpy as np
from PIL import Image
from datasets import load_dataset

def rows(splits):
    for split, data in splits.items():
        for row in data:
            pictures = {key[:-4]: np.asarray(row[key]).tolist() for key in row if key.endswith(".png")}
            yield {"from": split, "key": row["__key__"], "json": row["json"], **pictures}

folder, cache = sys.argv[1:]
whole = load_dataset(folder, cache_dir=cache)
named = load_dataset("webdataset", data_files={"every": f"{folder}/*.tar"}, cache_dir=cache)
print(json.dumps([list(rows(whole)), list(rows(named))]))
"""
IDS = ["a", "b.c", "d/e", "_f", "__g__", "% h", "é", "1.5", ".i"]


def bare(number: int) -> PackedPair:
    """A pair of which nothing is known but its pixels."""
    images = np.random.default_rng(number).integers(0, 256, (2, 5 + number, 6, 3)).astype(np.uint8)
    ref = FileRef(f"{number}.png", 1, "0" * 64)
    record = PairRecord(IDS[number], f"scene {number}", PairKind.AUTO, ref, ref, FrameMeta(), FrameMeta())
    flow = np.zeros((2 + number // 4, 2, 2), np.float32)
    return PackedPair(IDS[number], *images, np.ones(images[0].shape[:2], np.bool_), flow, record)


def described(number: int) -> PackedPair:
    """A pair with a mask, metadata, a verdict and a history."""
    pair = bare(number)
    valid = pair.valid.copy()
    valid[:2, :3] = False
    meta = FrameMeta(
        "Maker", "One", "50mm", "2026-05-01T10:00:00", 1, (5, 6), Exposure(200, 0.0166, 2.8, 50.0, float("inf"))
    )
    verdict = Verdict(keep=False, reason=Reason.CLIPPED, detail="0.2")
    record = replace(pair.record, blur_meta=meta, verdict=verdict, history=(Step("pack", "1", "0", "0"),), notes=("x",))
    return replace(pair, valid=valid, record=record, box=(1, 2, 7, 7 + number))


def packed(folder: Path, shards: list[tuple[str, list[PackedPair]]]) -> Path:
    folder.mkdir()
    infos, splits = [], {}
    for number, (split, pairs) in enumerate(shards):
        path = folder / f"{split}-{number:05d}-of-{len(shards):05d}.h5"
        ids, _ = write_shard(path, ShardHeader(split, Encoding.SRGB8, 16), ((pair, []) for pair in pairs))
        infos.append(ShardInfo(path.name, split, ids, 0, path.stat().st_size, sha256_of(path)))
        splits[split] = (*splits.get(split, ()), *(pair.record.scene for pair in pairs))
    transfer = TRANSFER[Encoding.SRGB8]
    write_index(folder, Index("x", Encoding.SRGB8, transfer, 16, "bitshuffle-lz4", "0", "0", splits, tuple(infos)))
    return folder


def loaded(folder: Path, tmp_path: Path) -> list[list[dict[str, Any]]]:
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(folder), str(tmp_path / "cache")]
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **home})
    assert told.returncode == 0, told.stderr
    found: list[list[dict[str, Any]]] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("first_is_bare", [True, False])
def test_samples_with_and_without_facts_and_masks_are_one_data_set(tmp_path: Path, first_is_bare: bool) -> None:
    pytest.importorskip("datasets")
    pairs = [described(number) if (number >= 6) == first_is_bare else bare(number) for number in range(9)]
    shards = packed(tmp_path / "shards", [("train", pairs[:6]), ("train", pairs[6:7]), ("test", pairs[7:])])
    export_dataset(shards, tmp_path / "tars", layout="webdataset")
    for rows in loaded(tmp_path / "tars", tmp_path):
        by_id = {row["json"]["id"]: row for row in rows}
        assert sorted(by_id) == sorted(IDS)
        for number, pair in enumerate(pairs):
            row = by_id[pair.id]
            assert row["from"] in ("every", "train" if number < 7 else "test")
            assert row["key"] == sample_key(pair.id)
            for name in ("blur", "sharp"):
                np.testing.assert_array_equal(np.array(row[name], np.uint8), getattr(pair, name))
            np.testing.assert_array_equal(np.array(row["valid"]), pair.valid * 255)
            assert row["json"]["box"] == ([-1] * 4 if pair.box is None else list(pair.box))
            assert (row["json"]["scene"], row["json"]["height"]) == (pair.record.scene, pair.valid.shape[0])
            assert json.loads(row["json"]["record"])["blur"]["path"] == f"{number}.png"


def test_keys_differ_where_ids_do() -> None:
    ids = [*IDS, "%5F", "_", "%255F", "b%2Ec", "d%2Fe"]
    keys = {sample_key(pair_id) for pair_id in ids}
    assert len(keys) == len(ids)
    assert not [key for key in keys if set(key) & set("./") or key.startswith("_")]
