"""Shards written when format 1 was frozen, kept as bytes: every later reader must read them."""

from __future__ import annotations

import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards.patch_reader import PatchReader
from sdd_toolkit.shards.reader import ShardReader
from tests.golden_shards.content import golden_pair, golden_patches
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden_shards"
FOLDERS = ("fast-srgb8", "fast-linear16", "small-srgb8", "raw-srgb8", "portable-srgb8")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_shard_of_the_first_day_is_still_read(name: str) -> None:
    expected = golden_pair(Encoding(name.rpartition("-")[2]))
    with ShardReader(GOLDEN / name) as reader:
        found = reader.read("scene/01")
        assert reader.patches == tuple(golden_patches())
    for key in ("blur", "sharp", "valid", "flow"):
        assert getattr(found, key).dtype == getattr(expected, key).dtype
        np.testing.assert_array_equal(getattr(found, key), getattr(expected, key))
    assert (found.record, found.box) == (expected.record, expected.box)


def test_patches_of_the_first_day_are_still_read() -> None:
    pair = golden_pair(Encoding.SRGB8)
    with PatchReader(GOLDEN / "patches-fast-srgb8") as reader:
        for number, patch in enumerate(golden_patches()):
            row = reader.read(number)
            rows, columns = slice(patch.top, patch.top + 16), slice(patch.left, patch.left + 16)
            assert row.patch == patch
            for key in ("blur", "sharp", "valid"):
                np.testing.assert_array_equal(getattr(row, key), getattr(pair, key)[rows, columns])
            assert row.flow.shape == (4, 4, 2)
        np.testing.assert_array_equal(reader.read(0).flow, pair.flow[:4, :4])


@pytest.mark.parametrize("name", FOLDERS)
def test_the_shards_of_the_first_day_pass_the_checks(name: str) -> None:
    assert verify_shards(GOLDEN / name).done == 1
