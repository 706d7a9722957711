from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdd_toolkit.audit.origin import trace_origin
from sdd_toolkit.errors import InputError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.pipeline import configurations
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.shards.shard_set import library_versions
from tests.support.small_dataset import filtered_manifest


def test_the_configuration_behind_a_fingerprint_is_kept_with_every_value(tmp_path: Path) -> None:
    config = FilterConfig()
    configurations.copy_configurations(tmp_path, tmp_path, "filter", config)
    stored = configurations.read_configurations(tmp_path)
    assert stored == {config.fingerprint(): {"stage": "filter", "values": config.model_dump(mode="json")}}


def test_configurations_of_earlier_stages_are_handed_on_to_another_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    configurations.copy_configurations(tmp_path / "first", tmp_path / "first", "filter", FilterConfig())
    configurations.copy_configurations(tmp_path / "first", tmp_path / "second", "pack", PackConfig())
    assert set(configurations.read_configurations(tmp_path / "second")) == {
        FilterConfig().fingerprint(),
        PackConfig().fingerprint(),
    }


@pytest.mark.parametrize("text", ["", "[]", "{", '{"aa": 1}', '{"aa": {"stage": "filter", "values": {}}}', "[" * 9999])
def test_what_does_not_have_its_own_fingerprint_is_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / configurations.CONFIGURATIONS).write_text(text)
    assert configurations.read_configurations(tmp_path) == {}


def test_a_step_whose_configuration_was_not_kept_says_so(tmp_path: Path) -> None:
    pack(filtered_manifest(tmp_path), tmp_path / "shards", PackConfig(patch_size=128))
    origin = trace_origin(tmp_path / "shards", "scene-0000-00")
    assert [(step["stage"], step["config"], step["values"]) for step in origin.steps] == [("align", "aa", None)]
    assert origin.packed is not None
    assert origin.packed["patch_size"] == 128
    assert origin.files["blur"]["path"] == "scene-0000-00_blur.png"


def test_a_pair_that_could_not_be_packed_is_traced_to_the_reason(tmp_path: Path) -> None:
    manifest = filtered_manifest(tmp_path)
    (tmp_path / "raw/scene-0001-00_blur.png").unlink()
    pack(manifest, tmp_path / "shards", PackConfig(patch_size=128))
    with pytest.raises(InputError, match=r"could not be packed: changed blur file scene-0001-00_blur\.png is missing"):
        trace_origin(tmp_path / "shards", "scene-0001-00")


def test_libraries_are_told_by_version() -> None:
    versions = library_versions()
    assert json.loads(json.dumps(versions)) == versions
    assert {"HDF5", "LibRaw", "h5py", "numpy"} <= set(versions)
    assert all(version[0].isdigit() for version in versions.values())
