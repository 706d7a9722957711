"""Brackets within brackets, deeper than any parser follows, in every text file that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alignment.transforms import transform as transforms
from capture.ingest.last_run import LAST_RUN_FILE, read_last_report
from capture.tether import plan
from sdd_toolkit.calibration import hot_pixel_map, lens_breathing
from sdd_toolkit.config import read_toml
from sdd_toolkit.errors import SddError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.shards.index import read_index

DEEP = "[" * 100_000
READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "manifest": ("m.jsonl", DEEP, manifest.read_manifest),
    "index": ("index.json", DEEP, lambda path: read_index(path.parent)),
    "hot pixels": ("h.json", DEEP, hot_pixel_map.read_hot_pixels),
    "lens models": ("l.json", DEEP, lens_breathing.read_models),
    "transform": ("t.json", DEEP, transforms.read_transform),
    "configuration": ("c.toml", f"x = {DEEP}", read_toml),
    "shot list": ("p.toml", f"x = {DEEP}", plan.read_plan),
}


@pytest.mark.parametrize("name", READERS)
def test_nesting_without_end_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    file, content, read = READERS[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(SddError):
        read(tmp_path / file)


def test_a_record_of_the_last_run_is_ignored_if_it_is_malformed_or_leads_out(tmp_path: Path) -> None:
    hostile = ('{"state": "s", "written": {"/dev/zero": "x"}}', '{"state": "s", "written": {"..": ""}}')
    for content in (DEEP, "{}", *hostile):
        (tmp_path / LAST_RUN_FILE).write_text(content)
        assert read_last_report(tmp_path, "s") is None
