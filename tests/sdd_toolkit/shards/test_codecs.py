from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.shards.codecs import CODECS, Profile, chunk_edge
from sdd_toolkit.shards.index import KNOWN_CODECS


def test_every_profile_has_its_codec_and_readers_know_it() -> None:
    assert {profile: profile.codec for profile in Profile} == {
        "fast": "blosc2-bitshuffle-lz4",
        "small": "htj2k",
        "raw": "none",
        "portable": "gzip",
    }
    assert set(CODECS) == {profile.codec for profile in Profile}
    assert set(CODECS) < set(KNOWN_CODECS)


@pytest.mark.parametrize(("size", "edge"), [(1296, 144), (1944, 104), (1024, 128), (160, 160), (100, 100), (1, 1)])
def test_chunks_divide_a_frame_with_little_left_over(size: int, edge: int) -> None:
    assert chunk_edge(size, 128) == edge


@given(st.integers(161, 20000))
def test_chunks_stay_near_the_wanted_size(size: int) -> None:
    edge = chunk_edge(size, 128)
    assert 96 <= edge <= 160
    assert edge % 8 == 0
    assert -(-size // edge) * edge - size < 160
