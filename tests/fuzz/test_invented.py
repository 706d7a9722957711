"""Files hypothesis invents: any JSON where a record, an index or a model is expected, any text where TOML or CSV is."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment.transforms import transform as transforms
from capture.pairing.pair_table import read_table
from sdd_toolkit.calibration import hot_pixel_map, lens_breathing
from sdd_toolkit.cli.terminal_text import escape_unprintable
from sdd_toolkit.config import read_toml
from sdd_toolkit.errors import SddError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.shards.index import FORMAT, read_index, text_with_sha256

EXAMPLES = 200
KEYS = (
    *("id", "scene", "kind", "blur", "sharp", "path", "bytes", "sha256", "format", "version", "root"),
    *("shards", "cameras", "lenses", "model"),
)
TEXTS = st.text(max_size=8) | st.sampled_from(("..", "/", "\0"))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
NAMES = st.sampled_from(KEYS) | st.text(max_size=4)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)


def a_manifest(value: Any) -> str:
    return json.dumps({"format": manifest.FORMAT, "version": 1, "root": "."}) + "\n" + json.dumps(value) + "\n"


def of_format(name: str) -> Callable[[Any], str]:
    return lambda value: json.dumps({"format": name, "version": 1, **value})


READERS: dict[str, tuple[str, Callable[[Any], str], Callable[[Path], object]]] = {
    "record": ("m.jsonl", a_manifest, manifest.read_manifest),
    "header": ("m.jsonl", of_format(manifest.FORMAT), manifest.read_manifest),
    "index": (
        "index.json",
        lambda value: text_with_sha256({"format": FORMAT, "version": 1, **value}),
        lambda path: read_index(path.parent),
    ),
    "hot pixels": ("h.json", of_format(hot_pixel_map.FORMAT), hot_pixel_map.read_hot_pixels),
    "lens models": ("l.json", of_format(lens_breathing.FORMAT), lens_breathing.read_models),
    "transform": ("t.json", of_format(transforms.FORMAT), transforms.read_transform),
}


@pytest.mark.parametrize("name", READERS)
def test_any_object_is_a_result_or_an_error_of_ours(tmp_path: Path, name: str) -> None:
    file, spell, read = READERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(OBJECTS)
    def tried(value: Any) -> None:
        (tmp_path / file).write_bytes(spell(value).encode("utf-8", "surrogatepass"))
        with suppress(SddError):
            read(tmp_path / file)

    tried()


@pytest.mark.parametrize("read", [read_toml, lambda path: read_table(path, [])], ids=["TOML", "CSV"])
def test_any_text_is_a_result_or_an_error_of_ours(tmp_path: Path, read: Callable[[Path], object]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.text(alphabet=st.sampled_from("ab=[]{}\"'\\,.#\n\r\t 1-+:_eEnaif\0\ud800ä") | st.characters()))
    def tried(text: str) -> None:
        (tmp_path / "file").write_bytes(text.encode("utf-8", "surrogatepass"))
        with suppress(SddError):
            read(tmp_path / "file")

    tried()


@given(st.text(alphabet=st.characters(codec=None)))
def test_escaped_text_is_printable_and_printable_text_stays_as_it_is(text: str) -> None:
    assert escape_unprintable(text).isprintable()
    assert not text.isprintable() or escape_unprintable(text) == text
