"""`docs/format.md` is enough to read a shard: its code runs, as it stands, with nothing of the toolkit imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from sdd_toolkit.imaging.encoding import Encoding, decode
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.shards.reader import ShardReader
from tests.support.paths import ROOT
from tests.support.small_dataset import filtered_manifest

SHARD = "train-00000-of-00001.h5"
DOCUMENT = ROOT / "docs" / "format.md"
SAVE = """
import sys
for split, name, arrays, record, patches in read_folder(sys.argv[1]):
    linear = to_linear(arrays["sharp"], sys.argv[3])
    more = {"split": split, "record_id": record["id"], "tops": patches["top"], "lefts": patches["left"]}
    np.savez(f"{sys.argv[2]}/{name}.npz", linear=linear, **more, **arrays)
assert not [name for name in sys.modules if name.startswith("sdd_toolkit")]
"""


def code_of_the_document() -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("encoding", [Encoding.SRGB8, Encoding.LINEAR16])
def test_the_code_of_the_document_reads_what_the_toolkit_reads(
    tmp_path: Path, encoding: Encoding, profile: Profile
) -> None:
    config = PackConfig(patch_size=128, encoding=encoding, profile=profile)
    pack_dataset(filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "shards", config)
    (tmp_path / "plain").mkdir()
    program = code_of_the_document() + SAVE
    arguments = [sys.executable, "-I", "-c", program, tmp_path / "shards", tmp_path / "plain", encoding.value]
    subprocess.run([str(argument) for argument in arguments], check=True, cwd=tmp_path)
    with ShardReader(tmp_path / "shards") as reader:
        assert len(reader.pair_ids) == 2
        for name in reader.pair_ids:
            pair, plain = reader.read(name), np.load(tmp_path / "plain" / f"{name}.npz")
            for key in ("blur", "sharp", "valid", "flow"):
                np.testing.assert_array_equal(getattr(pair, key), plain[key])
            np.testing.assert_allclose(plain["linear"], decode(pair.sharp, encoding), atol=1e-6)
            assert plain["record_id"] == name
            mine = [(patch.top, patch.left) for patch in reader.patches if patch.pair == name]
            assert list(zip(plain["tops"], plain["lefts"], strict=True)) == mine


def test_the_table_of_patches_is_a_data_frame_with_ids_as_text(tmp_path: Path) -> None:
    pack_dataset(
        filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "shards", PackConfig(patch_size=128)
    )
    found: dict[str, Any] = {}
    exec(code_of_the_document(), found)
    with h5py.File(tmp_path / "shards" / SHARD) as file:
        table = found["patch_table"](file)
    with ShardReader(tmp_path / "shards", "train") as reader:
        assert table["pair"].tolist() == [patch.pair for patch in reader.patches]
        assert table["sharpness"].tolist() == [patch.sharpness for patch in reader.patches]
        assert {name: str(kind) for name, kind in table.dtypes.items() if name in ("top", "left")} == {
            "top": "int32",
            "left": "int32",
        }


@pytest.mark.parametrize(
    ("profile", "filters", "chunks"),
    [
        (Profile.FAST, [32026, 3], (128, 128, 3)),  # Blosc2, Fletcher-32
        (Profile.SMALL, [32033, 3], (128, 128, 3)),  # HTJ2K, Fletcher-32
        (Profile.RAW, [], None),
        (Profile.PORTABLE, [2, 1, 3], (256, 256, 3)),  # shuffle, deflate, Fletcher-32
    ],
)
def test_chunks_and_filters_are_those_of_the_document(
    tmp_path: Path, profile: Profile, filters: list[int], chunks: tuple[int, ...] | None
) -> None:
    config = PackConfig(patch_size=128, profile=profile)
    pack_dataset(filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "shards", config)
    with h5py.File(tmp_path / "shards" / SHARD) as file:
        (group,) = file["pairs"].values()
        plan = group["blur"].id.get_create_plist()
        assert [plan.get_filter(number)[0] for number in range(plan.get_nfilters())] == filters
        assert group["blur"].chunks == chunks
        assert file.attrs["codec"] == profile.codec
        assert {name: str(data.dtype) for name, data in group.items()} == {
            "blur": "uint8",
            "sharp": "uint8",
            "valid": "uint8",
            "flow": "float16",
        }


def test_every_name_in_a_shard_is_in_the_document() -> None:
    names = [
        "blur",
        "sharp",
        "valid",
        "flow",
        "pair",
        "top",
        "left",
        "sharpness",
        "transfer",
        "plans",
        "warp",
        "brightness",
        "box",
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_dataset(filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "demo/dataset/shards", PackConfig())
    readme = (DOCUMENT.parent.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    noise = np.random.default_rng(0).random((256, 320, 3), dtype=np.float32)
    texture = 0.5 + 3 * (cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5)
    names: dict[str, Any] = {"blur": texture, "sharp": np.roll(texture, 3, axis=1)}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    np.testing.assert_allclose(names["found"].homography[:2, 2], [3, 0], atol=0.1)
    assert names["pair"].blur.shape == names["pair"].sharp.shape
