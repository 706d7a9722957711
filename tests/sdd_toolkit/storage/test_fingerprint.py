"""Literal fingerprints of 0.2.0: what data sets of that version hold must be found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdd_toolkit.packing.patches import Patching
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, Step
from sdd_toolkit.storage.fingerprint import fingerprint, fingerprint_text

RECORD = PairRecord(
    "ä", "s", PairKind.FOCUS, FileRef("a", 1, "11"), FileRef("b", 2, "22"), FrameMeta(), FrameMeta(),
    history=(Step("ingest", "1", "c", "i"),),
)  # fmt: skip


def test_a_value_is_hashed_as_json_with_sorted_keys() -> None:
    assert fingerprint({"b": [1, 2.5, None], "a": "ä"}) == "2ed0f54c6c91c515"
    assert fingerprint({"a": "ä", "b": [1, 2.5, None]}) == "2ed0f54c6c91c515"


def test_a_text_is_hashed_as_it_is_even_if_utf8_cannot_hold_it() -> None:
    assert fingerprint_text("11 11") == "910fabf8c9dc9923"
    assert fingerprint_text("11 11", digits=8) == "910fabf8"
    assert len(fingerprint_text("\udcff", digits=32)) == 32


def test_the_choice_of_patches_has_the_fingerprint_it_had() -> None:
    assert Patching(256, 0.6).fingerprint() == "7d1d535b944497a5"


def test_a_step_and_a_measurement_have_the_fingerprints_they_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "__version__", "0.2.0")
    step = manifest.step_of("filter", FilterConfig(), RECORD, line="ü")
    assert step == Step("filter", "0.2.0", config="fb3c66d0cd39aea3", inputs="a0cb54be7849030d")
    assert manifest.measurement_fingerprint(replace(RECORD), {"hot_pixels": "é"}) == "071fb0e334c9f431"
