"""Directories of TIFF-like data."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.formats.tiff import (
    iterate_directories,
    needed_bytes,
    open_tiff,
    read_directory,
    read_numbers,
    read_text,
    reader,
)

ENTRY = struct.Struct("<HHII")


def tiff(*entries: tuple[int, int, int, int], following: int = 0, tail: bytes = b"") -> bytes:
    """Little-endian TIFF with one directory at 8; a value in `tail` starts at 14 + 12 entries."""
    body = struct.pack("<H", len(entries)) + b"".join(ENTRY.pack(*entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + body + struct.pack("<I", following) + tail


def opened(content: bytes) -> object:
    found = open_tiff(reader(io.BytesIO(content)))
    assert found is not None
    return found


def test_numbers_ratios_and_text_are_read_from_their_places() -> None:
    tail = struct.pack("<4I", 5, 2, 1, 0) + b"abc  d\0\0"
    found = opened(tiff((256, 3, 1, 7), (282, 5, 2, 50), (271, 2, 8, 66), tail=tail))
    entries, following = read_directory(found, found.first)
    assert read_numbers(found, entries[256]) == (7,)
    assert read_numbers(found, entries[282]) == (2.5, 0.0)
    assert read_text(found, entries[271]) == "abc d"
    assert following == 0


def test_a_circle_of_directories_is_walked_once() -> None:
    found = opened(tiff((330, 4, 1, 8), (256, 3, 1, 7), following=8))
    assert [sorted(entries) for entries in iterate_directories(found)] == [[256, 330]]


def test_the_end_of_the_last_strip_is_how_long_the_file_must_be() -> None:
    found = opened(tiff((256, 3, 1, 10), (257, 3, 1, 2), (273, 4, 1, 1000), (279, 4, 1, 20)))
    assert needed_bytes(found) == 1020


def test_a_directory_behind_the_end_is_needed() -> None:
    found = opened(tiff((34665, 4, 1, 5000)))
    assert needed_bytes(found) == 5002


def test_a_pointer_to_nowhere_asks_for_nothing() -> None:
    found = opened(tiff((273, 4, 1, 0xFFFFFFFF), (279, 4, 1, 20), following=0xFFFFFFF0))
    assert needed_bytes(found) < 100


def test_a_dng_that_claims_a_billion_pixels_it_has_no_bytes_for_is_told() -> None:
    size = ((256, 4, 1, 40000), (257, 4, 1, 25000), (258, 3, 1, 16), (259, 3, 1, 1))
    strips = ((273, 4, 1, 8), (279, 4, 1, 60), (50706, 1, 4, 1))
    with pytest.raises(ValueError, match="40000 x 25000 pixels are claimed"):
        needed_bytes(opened(tiff(*size, *strips)))


@given(st.binary(max_size=200), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"IIRO"]))
def test_noise_behind_a_tiff_header_ends_in_a_number_or_a_value_error(noise: bytes, head: bytes) -> None:
    found = open_tiff(reader(io.BytesIO(head + noise)))
    with suppress(ValueError):
        assert found is None or needed_bytes(found) >= 8
