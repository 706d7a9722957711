from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sdd_toolkit as sdd
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import write_card as card
from sdd_toolkit.errors import InputError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.records import Exposure, FrameMeta
from sdd_toolkit.shards.dataframes import pairs_frame, pairs_from_csv, pairs_to_csv
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.shards.reader import ShardReader
from tests.support.small_dataset import filtered_manifest


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    pack(filtered_manifest(folder), folder / "shards", PackConfig(patch_size=128, pairs_per_shard=2))
    return folder / "shards"


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def test_there_is_one_row_a_pair_with_its_place_its_measures_and_its_sources(shards: Path) -> None:
    frame = sdd.read_index(shards)
    with ShardReader(shards) as reader:
        assert tuple(frame["id"]) == reader.pair_ids
        record, size = reader.record(frame["id"][0]), reader.shape(frame["id"][0])
    first = frame.iloc[0]
    assert (first["packed_height"], first["packed_width"]) == size
    assert (first["blur_sha256"], first["sharp_bytes"]) == (record.blur.sha256, record.sharp.bytes)
    assert (first["residual_px"], first["sharp_f_number"], first["verdict"]) == (0.1, 2.8, "kept")
    assert math.isnan(first["sharpness_gain"])
    assert set(frame["split"]) == {"train", "test"}
    assert frame["shard"][0] == "train-00000-of-00002.h5"


def test_there_is_one_row_a_patch(shards: Path) -> None:
    frame = sdd.read_index(shards, level="patches")
    with ShardReader(shards) as reader:
        patches = reader.patches
    found = frame[["pair", "top", "left", "sharpness", "valid_fraction"]].itertuples(index=False, name=None)
    assert list(found) == [(p.pair, p.top, p.left, p.sharpness, p.valid_fraction) for p in patches]
    splits = dict(zip(sdd.read_index(shards)["id"], sdd.read_index(shards)["split"], strict=True))
    assert (frame["split"] == frame["pair"].map(splits)).all()


def test_the_kept_table_equals_the_shards_and_is_read_instead_of_them(shards: Path) -> None:
    direct = sdd.read_index(shards)
    card(shards, CardConfig())
    for path in shards.glob("*.h5"):
        path.unlink()
    pd.testing.assert_frame_equal(sdd.read_index(shards), direct)


def test_a_table_that_was_altered_or_is_of_another_index_is_not_believed(shards: Path) -> None:
    direct = sdd.read_index(shards)
    card(shards, CardConfig())
    text = (shards / "pairs.csv").read_text()
    (shards / "pairs.csv").write_text(text.replace("kept", "open"))
    pd.testing.assert_frame_equal(sdd.read_index(shards), direct)
    card(shards, CardConfig())
    told = json.loads((shards / "croissant.json").read_text())
    told["distribution"][1]["sha256"] = "0" * 64
    (shards / "croissant.json").write_text(json.dumps(told))
    (shards / "pairs.csv").write_text(text.replace("kept", "open"))
    pd.testing.assert_frame_equal(sdd.read_index(shards), direct)


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
NUMBERS = st.none() | st.floats(min_value=1e-30, allow_infinity=True, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, NUMBERS, NUMBERS)
def test_whatever_cameras_say_survives_the_csv(
    packed: Path, make: str, lens: str, iso: float | None, focus_m: float | None
) -> None:
    index = read_index(packed)
    with ShardReader(packed) as reader:
        records = [reader.record(name) for name in reader.pair_ids]
    meta = FrameMeta(make=make, lens=lens, exposure=Exposure(iso=iso, focus_m=focus_m))
    records = [replace(record, sharp_meta=meta, scene=f"007{make}") for record in records]
    frame = pairs_frame(index, records, [(4, 5)] * len(records))
    pd.testing.assert_frame_equal(pairs_from_csv(pairs_to_csv(frame)), frame)


def test_another_level_is_refused(shards: Path) -> None:
    with pytest.raises(InputError, match="no level"):
        sdd.read_index(shards, level="frames")  # type: ignore[arg-type]


def test_rows_are_plain_dictionaries_of_arrays_and_facts(shards: Path) -> None:
    rows = list(sdd.iterate(shards, split="test"))
    with ShardReader(shards, "test") as reader:
        pair = reader.read(rows[0]["id"])
    np.testing.assert_array_equal(rows[0]["blur"], pair.blur)
    assert json.loads(rows[0]["record"])["sharp"]["sha256"] == pair.record.sharp.sha256
    assert {row["split"] for row in rows} == {"test"}
    assert len(list(sdd.iterate(shards))) == 6


def test_datasets_takes_the_rows_as_a_table_and_as_a_stream(shards: Path, tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    given = {"folder": str(shards), "split": "test"}
    stream = datasets.IterableDataset.from_generator(sdd.iterate, gen_kwargs=given)
    expected = list(sdd.iterate(**given))
    for row, own in zip(stream, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(row["sharp"], dtype=np.uint8), own["sharp"])
    whole = datasets.Dataset.from_generator(sdd.iterate, gen_kwargs=given, cache_dir=str(tmp_path))
    assert list(whole["id"]) == [row["id"] for row in expected]
    first = whole.with_format("numpy")[0]
    np.testing.assert_array_equal(first["blur"], expected[0]["blur"])


def test_the_package_itself_loads_nothing_heavy() -> None:
    probe = "import sdd_toolkit, sys; print([name for name in ('pandas', 'h5py', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        sdd.read_everything  # type: ignore[attr-defined]  # noqa: B018
