"""No content of an imported sidecar file ends in a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdd_toolkit.errors import InputError, SddError
from sdd_toolkit.layouts.catalogue import survey_folder
from sdd_toolkit.layouts.export_stage import export_dataset as export
from sdd_toolkit.layouts.import_stage import import_dataset as bring_in
from sdd_toolkit.layouts.sidecar import read_marker
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from tests.support import layout_trees
from tests.support.small_dataset import filtered_manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**30) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    pack(filtered_manifest(folder, scenes=2, pairs=1), folder / "shards", PackConfig(patch_size=128))
    export(folder / "shards", folder / "files", layout="png")
    return folder / "files"


def changed(value: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """One key, at any depth, gets a value of any kind or goes."""
    key = data.draw(st.sampled_from(sorted(value)))
    if isinstance(value[key], dict) and value[key] and data.draw(st.booleans()):
        return {**value, key: changed(value[key], data)}
    if data.draw(st.booleans()):
        return {**value, key: data.draw(JSON)}
    return {name: entry for name, entry in value.items() if name != key}


def taken_in(root: Path, out: Path) -> int:
    """How many pairs came in; 0 where a deliberate error said why none did."""
    try:
        return bring_in(root, out, PackConfig(patch_size=128)).done
    except SddError:
        return 0


@FUZZ
@given(data=st.data())
def test_any_change_of_an_exports_lines_is_a_reason_or_an_error_and_never_a_traceback(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    root = Path(shutil.copytree(exported, folder / "set"))
    path = root / data.draw(st.sampled_from(["export.json", "metadata.jsonl"]))
    first, *rest = [path.read_text()] if path.name == "export.json" else path.read_text().splitlines()
    if data.draw(st.booleans()):
        text = json.dumps(changed(json.loads(first), data))
    else:
        text = data.draw(st.binary(max_size=40)).decode("latin-1")
    path.write_text("\n".join([text, *rest]), encoding="utf-8")
    assert taken_in(root, folder / "shards") in (0, 1, 2)
    shutil.rmtree(folder)


@FUZZ
@given(facts=JSON | st.fixed_dictionaries({"source_image": JSON, "target_images": JSON, "target_avs": JSON}))
def test_any_facts_of_a_realbokeh_scene_are_read_or_told(tmp_path: Path, facts: Any) -> None:
    if not (tmp_path / "train").exists():
        layout_trees.realbokeh(tmp_path)
    (tmp_path / "train/metadata/1.json").write_text(json.dumps(facts))
    _, listing = survey_folder(tmp_path, "realbokeh")
    assert len(listing.pairs) == 10
    assert "train/gt/1/1_f2.0.png" in {entry.path for entry in listing.unpaired}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "sdd-export", "version": 2}', "[" * 99999])
def test_a_damaged_or_unknown_marker_is_an_error_that_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError):
        read_marker(tmp_path)


def test_configurations_that_do_not_have_their_fingerprint_are_not_taken_over(exported: Path, tmp_path: Path) -> None:
    marker = json.loads((exported / "export.json").read_text())
    kept = next(iter(marker["configs"].values()))
    marker["configs"]["0" * 16] = kept
    (tmp_path / "export.json").write_text(json.dumps(marker))
    found = read_marker(tmp_path)
    assert found is not None
    assert "0" * 16 not in found.configs
    assert found.configs
