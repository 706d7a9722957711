"""Data sets behind links: in content-addressed stores, and elsewhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from capture.config import IngestConfig
from capture.ingest.stage import ingest_photographs
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.layouts.import_stage import ImportConfig, import_as_manifest, import_dataset
from sdd_toolkit.layouts.listing import list_files
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline.manifest import read_manifest
from sdd_toolkit.shards.index import read_index
from sdd_toolkit.storage.files import sha256_of
from tests.support import layout_trees

CONFIG = PackConfig(patch_size=16)


def move_to_hub(root: Path, hub: Path) -> Path:
    """The same files as a snapshot in the cache of the Hugging Face Hub; returns the snapshot."""
    snapshot = hub / "datasets--someone--pairs/snapshots/0123abcd"
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        blob = snapshot.parent.parent / "blobs" / sha256_of(path)
        blob.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, blob)
        link = snapshot / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def move_to_dvc(root: Path, cache: Path) -> Path:
    """The same files as absolute links to a cache of DVC."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        stored = cache / "files/md5" / digest[:2] / digest[2:]
        stored.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, stored)
        path.symlink_to(stored)
    return root


@pytest.mark.parametrize("move", [move_to_hub, move_to_dvc])
@pytest.mark.parametrize("tree", [layout_trees.realbokeh, layout_trees.sdd, layout_trees.dpdd])
def test_a_data_set_in_a_store_is_imported_as_its_files_are(tmp_path: Path, tree: object, move: object) -> None:
    import_dataset(tree(tmp_path / "plain/set"), tmp_path / "expected", CONFIG)  # type: ignore[operator]
    root = move(tree(tmp_path / "linked/set"), tmp_path / "store")  # type: ignore[operator]
    import_dataset(root, tmp_path / "shards", CONFIG)
    expected, found = (read_index(tmp_path / name) for name in ("expected", "shards"))
    assert [shard.sha256 for shard in found.shards] == [shard.sha256 for shard in expected.shards]
    assert [(entry.id, entry.reason) for entry in found.failed] == [(each.id, each.reason) for each in expected.failed]


@pytest.mark.parametrize("move", [move_to_hub, move_to_dvc])
def test_the_manifest_of_a_data_set_in_a_store_finds_its_files(tmp_path: Path, move: object) -> None:
    root = move(layout_trees.sdd(tmp_path / "linked/set"), tmp_path / "linked/store")  # type: ignore[operator]
    import_as_manifest(root, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out/ingested.jsonl")
    for record in manifest.records:
        for ref in (record.blur, record.sharp):
            assert ref.path.endswith(".png")
            assert sha256_of(manifest.locate(ref)) == ref.sha256


def test_photographs_in_a_store_are_ingested_under_their_own_names(tmp_path: Path) -> None:
    photographs = tmp_path / "photos"
    for name in ("a_blur.png", "a_sharp.png"):
        layout_trees.picture(photographs / name, size=(64, 96))
    ingest_photographs([move_to_hub(photographs, tmp_path / "hub")], tmp_path / "out", IngestConfig(pairing="focus"))
    manifest = read_manifest(tmp_path / "out/ingested.jsonl")
    (record,) = manifest.records
    assert (record.blur.path, record.sharp.path) == ("snapshots/0123abcd/a_blur.png", "snapshots/0123abcd/a_sharp.png")
    assert sha256_of(manifest.locate(record.blur)) == record.blur.sha256


def test_a_damaged_object_and_one_that_was_not_fetched_are_left_out_with_their_reason(tmp_path: Path) -> None:
    # A picture depends on its name: different ones are different objects.
    for number, role in enumerate(("blur", "gt", "blur", "gt", "blur", "gt")):
        drawn = layout_trees.picture(tmp_path / f"drawn {number}.png")
        (tmp_path / "set/train" / role).mkdir(parents=True, exist_ok=True)
        write_values(tmp_path / f"set/train/{role}/{number // 2}.png", drawn)
    root = move_to_dvc(tmp_path / "set", tmp_path / "store")
    with open(os.path.realpath(root / "train/blur/0.png"), "ab") as stream:
        stream.write(b"x")
    os.unlink(os.path.realpath(root / "train/gt/1.png"))
    report = import_dataset(root, tmp_path / "shards", CONFIG)
    failed = {entry.id: entry.detail for entry in read_index(tmp_path / "shards").failed}
    assert failed["0"].endswith("is not what its name in the store says")
    assert failed["train/gt/1.png"] == "a link to a file that is not there: was it fetched?"
    assert failed.keys() == {"0", "train/gt/1.png", "train/blur/1.png"}
    assert report.done == 1


def test_other_links_are_followed_only_if_that_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = layout_trees.sdd(tmp_path / "elsewhere")
    (tmp_path / "set/train/blur").mkdir(parents=True)
    (tmp_path / "set/train/gt").mkdir()
    for role in ("blur", "gt"):
        (tmp_path / f"set/train/{role}/1.png").symlink_to(elsewhere / f"train/{role}/0001.png")
        layout_trees.picture(tmp_path / f"set/train/{role}/2.png")
    (tmp_path / "set/test").symlink_to(elsewhere / "test")
    (tmp_path / "set/test-again").symlink_to(elsewhere / "test")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    report = import_dataset(tmp_path / "set", tmp_path / "safe", CONFIG)
    assert (report.done, report.rejected) == (1, {"unsupported": 5})
    assert "2 links lead out of" in caplog.text
    assert "--follow-links takes them, if you trust who made them" in caplog.text
    report = import_dataset(tmp_path / "set", tmp_path / "all", CONFIG, follow_links=True)
    assert (report.done, report.rejected) == (4, {"unsupported": 2})
    import_as_manifest(tmp_path / "set", tmp_path / "out", ImportConfig(), follow_links=True)
    manifest = read_manifest(tmp_path / "out/ingested.jsonl")
    assert [sha256_of(manifest.locate(record.sharp)) for record in manifest.records] == [
        record.sharp.sha256 for record in manifest.records
    ]
    assert len(manifest.records) == 4


def test_a_folder_keeps_its_own_path_whatever_links_to_it_are_called(tmp_path: Path) -> None:
    root = layout_trees.sdd(tmp_path / "set")
    plain = list_files(root)
    (root / "a-link").symlink_to("train")
    (root / "test/another").symlink_to("../train/gt")
    (tmp_path / "around").symlink_to(".")
    (root / "b-link").symlink_to("../around")
    found = list_files(root, follow_links=True)
    assert found.paths == plain.paths
    assert {entry.path: entry.detail for entry in found.refused} == dict.fromkeys(
        ("a-link", "test/another", "b-link/around", "b-link/set"), "a folder that is searched already"
    )
