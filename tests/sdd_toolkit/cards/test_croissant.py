from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdd_toolkit.audit import verify
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import remove_card
from sdd_toolkit.cards.stage import write_card as card
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.shards.dataframes import PAIR_COLUMNS
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.targets import sealed
from tests.support.small_dataset import filtered_manifest


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    pack(filtered_manifest(folder), folder / "shards", PackConfig(name="Keller bilder", patch_size=128))
    return folder / "shards"


def checked(shards: Path, **values: Any) -> Any:
    croissant: Any = pytest.importorskip("mlcroissant")
    card(shards, CardConfig(**values))
    return croissant.Dataset(str(shards / "croissant.json"))


def test_mlcroissant_finds_no_issue_where_the_authors_filled_in_all_it_requires(shards: Path) -> None:
    said = {
        "license": "cc-by-4.0",
        "published": "2026-05-01",
        "citation": "@misc{keller}",
        "url": "https://example.org",
    }
    found = checked(shards, authors=("Ada", "Emmy"), **said).metadata
    assert (found.issues.errors, found.issues.warnings) == (set(), set())
    assert (found.name, found.cite_as, found.version) == ("Keller bilder", "@misc{keller}", "1.0.0")


def test_without_them_it_misses_the_date_alone(shards: Path) -> None:
    issues = checked(shards).metadata.issues
    assert issues.errors == set()
    assert [text for text in issues.warnings if "datePublished" not in text] == []


def test_mlcroissant_iterates_the_pairs(shards: Path) -> None:
    rows = list(checked(shards).records("pairs"))
    with ShardReader(shards) as reader:
        assert [row["pairs/id"].decode() for row in rows] == list(reader.pair_ids)
        record = reader.record(reader.pair_ids[0])
    assert rows[0]["pairs/sharp_sha256"].decode() == record.sharp.sha256
    assert rows[0]["pairs/residual_px"] == 0.1
    assert set(rows[0]) == {f"pairs/{name}" for name in PAIR_COLUMNS}


def test_every_file_is_listed_with_its_hash_and_verify_takes_them(shards: Path) -> None:
    card(shards, CardConfig())
    entries = json.loads((shards / "croissant.json").read_text())["distribution"]
    assert {entry["@id"] for entry in entries} == {path.name for path in shards.iterdir()} - {
        "README.md",
        "croissant.json",
    }
    for entry in entries:
        assert entry["sha256"] == sha256_of(shards / entry["contentUrl"])
        assert entry["contentSize"] == f"{(shards / entry['contentUrl']).stat().st_size} B"
    assert {entry["encodingFormat"] for entry in entries if entry["@id"].endswith(".h5")} == {"application/x-hdf5"}
    verify.verify_shards(shards)


def test_a_folder_without_an_index_loses_card_table_and_croissant(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(sealed("old"))
    (tmp_path / "croissant.json").write_text("mine")
    (tmp_path / "pairs.csv").write_text("id,scene,kind,verdict,reason,detail,make,model,lens\n")
    remove_card(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["croissant.json"]
