from __future__ import annotations

from sdd_toolkit.shards.codecs import CODECS, Profile
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
