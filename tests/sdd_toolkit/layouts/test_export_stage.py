from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.audit import verify
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.layouts.export_stage import export_dataset as export
from sdd_toolkit.layouts.import_stage import import_dataset as bring_in
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, ShardInfo
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, read_index, write_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import DTYPE, PackedPair
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of
from tests.support.small_dataset import filtered_manifest

CONFIG = PackConfig(patch_size=16, pairs_per_shard=2)
FOLDERS = ("sdd", "dpdd", "png", "tiff")


def noise(name: str, scene: str, size: tuple[int, int], encoding: Encoding, seed: int) -> PackedPair:
    rng = np.random.default_rng(seed)
    dtype = DTYPE[encoding]
    images = rng.integers(0, np.iinfo(dtype).max + 1, (2, *size, 3)).astype(dtype)
    flow = np.zeros((-(-size[0] // 4), -(-size[1] // 4), 2), np.float32)
    ref = FileRef("raw/a.dng", 1, "0" * 64)
    record = PairRecord(name, scene, PairKind.FOCUS, ref, ref, FrameMeta(make="Ä\n"), FrameMeta())
    valid = rng.random(size) > 0.1 if seed % 2 else np.ones(size, np.bool_)
    return PackedPair(name, images[0], images[1], valid, flow, record, (2, 3, 2 + size[1], 3 + size[0]))


def packed(folder: Path, pairs: dict[str, list[PackedPair]], encoding: Encoding) -> Path:
    """A folder of shards with these pairs, by split."""
    folder.mkdir(parents=True)
    shards = []
    for split, members in pairs.items():
        path = folder / f"{split}-00000-of-00001.h5"
        ids, _ = write_shard(path, ShardHeader(split, encoding, 16), ((pair, []) for pair in members))
        shards.append(ShardInfo(path.name, split, ids, 0, path.stat().st_size, sha256_of(path)))
    splits = {split: tuple(pair.record.scene for pair in members) for split, members in pairs.items()}
    codec = "bitshuffle-lz4"
    write_index(folder, Index("x", encoding, TRANSFER[encoding], 16, codec, "0", "0", splits, tuple(shards)))
    return folder


def everything(shards: Path) -> dict[str, tuple[str, PackedPair]]:
    with ShardReader(shards) as reader:
        return {name: (shard.split, reader.read(name)) for shard in reader.shards for name in shard.pairs}


def same(found: dict[str, tuple[str, PackedPair]], expected: dict[str, tuple[str, PackedPair]]) -> None:
    assert found.keys() == expected.keys()
    for name, (split, pair) in expected.items():
        assert found[name][0] == split
        for part in ("blur", "sharp", "valid"):
            assert getattr(found[name][1], part).dtype == getattr(pair, part).dtype
            np.testing.assert_array_equal(getattr(found[name][1], part), getattr(pair, part))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=4),
    st.sampled_from(list(Encoding)),
    st.sampled_from(FOLDERS),
)
def test_what_is_exported_comes_back_bit_for_bit_under_its_id_in_its_split(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], encoding: Encoding, layout: str
) -> None:
    folder = tmp_path_factory.mktemp("round")
    pairs = [noise(f"p{n}.é", f"s{n}", size, encoding, n) for n, size in enumerate(sizes)]
    shards = packed(folder / "shards", {"train": pairs[:1], "test": pairs[1:]}, encoding)
    export(shards, folder / "files", layout=layout)
    bring_in(folder / "files", folder / "back", CONFIG)
    before, after = everything(shards), everything(folder / "back")
    same(after, before)
    assert read_index(folder / "back").encoding is encoding
    for name, (_, pair) in before.items():
        assert after[name][1].box == pair.box
        assert replace(after[name][1].record, history=()) == pair.record
    verify.verify_shards(folder / "back")


@pytest.mark.parametrize("layout", FOLDERS)
def test_without_what_the_export_says_the_layout_alone_brings_back_pixels_ids_and_splits(
    tmp_path: Path, layout: str
) -> None:
    pairs = [noise(f"p{n}", f"s{n}", (9, 7), Encoding.SRGB16, 2 * n) for n in range(3)]
    shards = packed(tmp_path / "shards", {"train": pairs[:2], "test": pairs[2:]}, Encoding.SRGB16)
    export(shards, tmp_path / "files", layout=layout)
    for name in ("export.json", "metadata.jsonl"):
        (tmp_path / "files" / name).unlink()
    bring_in(tmp_path / "files", tmp_path / "back", CONFIG)
    same(everything(tmp_path / "back"), everything(shards))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    pack(filtered_manifest(folder), folder / "shards", PackConfig(patch_size=128, pairs_per_shard=2))
    return folder / "shards"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout", [*FOLDERS, "webdataset"])
def test_workers_and_interruptions_change_no_byte_of_an_export(shards: Path, tmp_path: Path, layout: str) -> None:
    export(shards, tmp_path / "once", layout=layout)
    export(shards, tmp_path / "again", layout=layout, executor="local:2")
    whole = tree(tmp_path / "once")
    assert tree(tmp_path / "again") == whole
    for path in sorted((tmp_path / "again").rglob("*.*"))[1::2]:
        if path.name != "export.json":
            path.unlink(missing_ok=True)
    report = export(shards, tmp_path / "again", layout=layout)
    assert tree(tmp_path / "again") == whole
    assert report.done + report.skipped == 6


def test_dpdd_and_sdd_lie_where_their_loaders_look(shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "sdd", layout="sdd")
    export(shards, tmp_path / "dpdd", layout="dpdd", split="test")
    with ShardReader(shards, "test") as reader:
        name = reader.pair_ids[0]
        pair = reader.read(name)
    for path in ("sdd/test/blur", "dpdd/test_c/source"):
        image = cv2.imread(str(tmp_path / path / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image[..., ::-1], pair.blur)
    assert not (tmp_path / "dpdd/train_c").exists()
    assert (tmp_path / "sdd/train/gt").is_dir()


def test_training_patches_become_files_that_are_windows_of_their_frames(shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "sdd", layout="sdd", patches=True)
    lines = [json.loads(line) for line in (tmp_path / "sdd/patches.jsonl").read_text().splitlines()]
    with ShardReader(shards, "train") as reader:
        assert len(lines) == len(reader.patches)
        first = lines[0]
        window = reader.read_window(first["pair"], first["top"], first["left"], 128, 128)
    assert first["sharp"].startswith("train_patches/gt/")
    image = cv2.imread(str(tmp_path / "sdd" / first["sharp"]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(image[..., ::-1], window.sharp)
    bring_in(tmp_path / "sdd", tmp_path / "back", CONFIG)
    same(everything(tmp_path / "back"), everything(shards))


def test_webdataset_reads_the_archives(shards: Path, tmp_path: Path) -> None:
    webdataset: Any = pytest.importorskip("webdataset")
    export(shards, tmp_path / "tars", layout="webdataset", split="train")
    names = sorted(str(path) for path in (tmp_path / "tars").glob("*.tar"))
    samples = list(webdataset.WebDataset(names, shardshuffle=False))
    with ShardReader(shards, "train") as reader:
        assert [json.loads(sample["json"])["id"] for sample in samples] == list(reader.pair_ids)
        for sample, name in zip(samples, reader.pair_ids, strict=True):
            pixels = cv2.imdecode(np.frombuffer(sample["blur.png"], np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(pixels[..., ::-1], reader.read(name).blur)


def test_a_dot_or_slash_in_an_id_does_not_split_a_sample(tmp_path: Path) -> None:
    pairs = [noise("a.b%/c", "s", (5, 6), Encoding.SRGB8, 0)]
    export(packed(tmp_path / "shards", {"train": pairs}, Encoding.SRGB8), tmp_path / "tars", layout="webdataset")
    content = (tmp_path / "tars/train-00000-of-00001.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = ("blur.png", "json", "sharp.png", "valid.png")
        assert archive.getnames() == [f"a%2Eb%25%2Fc.{member}" for member in members]
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(0, 0, "")}


def test_an_id_that_cannot_name_a_file_is_left_out_of_folders_with_its_reason(tmp_path: Path) -> None:
    pairs = [noise(name, name, (5, 6), Encoding.SRGB8, 0) for name in ("../../up", "good")]
    shards = packed(tmp_path / "shards", {"train": pairs}, Encoding.SRGB8)
    report = export(shards, tmp_path / "files", layout="png")
    assert (report.done, report.rejected) == (1, {"unsupported": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "shards"]


def test_a_folder_with_something_else_in_it_or_another_export_is_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        export(shards, tmp_path / "mine", layout="png")
    export(shards, tmp_path / "out", layout="png", split="test")
    with pytest.raises(InputError, match="another export"):
        export(shards, tmp_path / "out", layout="sdd", split="test")
    with pytest.raises(InputError, match="no layout"):
        export(shards, tmp_path / "new", layout="tar")
    with pytest.raises(InputError, match="no split"):
        export(shards, tmp_path / "new", layout="png", split="trian")


def test_an_export_that_was_altered_or_not_finished_is_told(shards: Path, tmp_path: Path) -> None:
    export(shards, tmp_path / "files", layout="tiff")
    lines = (tmp_path / "files/metadata.jsonl").read_text().splitlines()
    victim = json.loads(lines[0])
    content = bytearray((tmp_path / "files" / victim["sharp"]).read_bytes())
    content[-20] ^= 1
    (tmp_path / "files" / victim["sharp"]).write_bytes(content)
    escape = json.dumps({**json.loads(lines[1]), "blur": "../../etc/passwd"})
    (tmp_path / "files/metadata.jsonl").write_text("\n".join([lines[0], escape, "{}", *lines[2:]]))
    report = bring_in(tmp_path / "files", tmp_path / "back", CONFIG)
    # Of the pair whose line leads out both files are left without a line.
    assert (report.done, report.rejected) == (4, {"no_partner": 2, "unreadable": 2, "changed": 1})
    (tmp_path / "files/metadata.jsonl").unlink()
    with pytest.raises(InputError, match="not finished"):
        bring_in(tmp_path / "files", tmp_path / "back", CONFIG)
