"""Encodes and decodes one HDF5 chunk with Blosc2: bit planes of pixels, LZ4, and HDF5's Fletcher-32 behind them.

The only importer of blosc2. The HDF5 filters 32026 (Blosc2, of hdf5plugin) and 3 (Fletcher-32) can read these chunks
but not write them: filters handle single values, not whole pixels.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILTER_IDS = (32026, 3)
_LEVEL = 9
_BLOCK_BYTES = 196_608
# Offsets in a Blosc2 frame: https://github.com/Blosc/c-blosc2/blob/main/README_CFRAME_FORMAT.rst
_HEADER_SIZE_AT, _FRAME_BYTES, _CONTENT_BYTES, _CHUNK_BYTES, _HEADER_BYTES = 11, 16, 30, 39, 97
_SPECIAL_CHUNK_BYTES = 32
_CHECKSUM_BYTES = 4
_ROW_WORDS = 256


@lru_cache(maxsize=1)
def is_installed() -> bool:
    """Whether python-blosc2 is installed; without it these chunks are still read through hdf5plugin."""
    return importlib.util.find_spec("blosc2") is not None


def encode_chunk(block: NDArray[Any], element_bytes: int) -> bytes:
    """A chunk's bytes in the file.

    Args:
        block: The chunk, contiguous, any shape.
        element_bytes: Bytes of an element of the bit shuffle, a whole number of pixels: one pixel gives the smallest
            chunks, many give the fastest to read (`fast_element_bytes`).

    Returns:
        A Blosc2 frame and its Fletcher-32; equal blocks give equal bytes.
    """
    value = block.flat[0]
    if block.flat[-1] == value and (block == value).all():
        return _encode_uniform(value.tobytes(), block.nbytes, element_bytes)
    return _encode_block(block, element_bytes)


@lru_cache(maxsize=64)
def _encode_uniform(value: bytes, block_bytes: int, element_bytes: int) -> bytes:
    """The chunk of a constant block, as in most of a mask and much of a flow."""
    return _encode_block(np.frombuffer(value * (block_bytes // len(value)), np.uint8), element_bytes)


def _encode_block(block: NDArray[Any], element_bytes: int) -> bytes:
    stored = _with_checksum(_compress_to_frame(block, _parameters(block.nbytes, element_bytes)))
    # Blosc2 4.14 writes some chunks that it cannot read, for blocks that end within an element.
    if not _decodes_to(stored, block):
        stored = _with_checksum(_compress_to_frame(block, _parameters(block.nbytes, 0)))
    return stored


def _with_checksum(frame: bytes) -> bytes:
    return frame + struct.pack("<I", fletcher32(frame))


def fast_element_bytes(shape: tuple[int, ...], pixel_bytes: int) -> int:
    """Bytes of 64, 32, 16 or 8 pixels of a chunk (H, W, ...): the most that divide its rows; else of one.

    Blosc2 accepts elements of up to 255 bytes and does not shuffle a block that is no multiple of eight elements.
    """
    for pixels in (64, 32, 16, 8):
        if pixels * pixel_bytes <= 255 and shape[1] % pixels == 0 and shape[0] * shape[1] % (8 * pixels) == 0:
            return pixels * pixel_bytes
    return pixel_bytes


def _compress_to_frame(block: NDArray[Any], parameters: _Parameters) -> bytes:
    import blosc2

    chunk: bytes = blosc2.compress2(block, **_compression_options(parameters))
    if len(chunk) <= _SPECIAL_CHUNK_BYTES:
        return _build_frame(block, parameters)
    header, trailer = _frame_template(block.nbytes, parameters)
    head = bytearray(header)
    struct.pack_into(">Q", head, _FRAME_BYTES, len(header) + len(chunk) + len(trailer))
    struct.pack_into(">q", head, _CHUNK_BYTES, len(chunk))
    return b"".join((head, chunk, trailer))


def _decodes_to(stored: bytes, block: NDArray[Any]) -> bool:
    decoded = np.empty_like(block)
    try:
        decode_chunk(memoryview(stored), decoded, check=False)
    except (ValueError, RuntimeError):
        return False
    return decoded.tobytes() == block.tobytes()


def decode_chunk(stored: memoryview, block: NDArray[Any], *, check: bool) -> None:
    """Fills `block` with the values that `encode_chunk` has encoded.

    Args:
        stored: The chunk's bytes in the file.
        block: (…) contiguous, of the chunk's shape and type.
        check: Whether the checksum is verified.

    Raises:
        ValueError: The bytes are damaged or those of another chunk.
        RuntimeError: Blosc2 could not decode them.
    """
    import blosc2

    frame = stored[:-_CHECKSUM_BYTES]
    if check and stored[-_CHECKSUM_BYTES:] != struct.pack("<I", fletcher32(frame)):
        raise ValueError("a chunk does not match its checksum")
    if len(frame) < _HEADER_BYTES:
        raise ValueError("a chunk is cut")
    (start,) = struct.unpack_from(">I", frame, _HEADER_SIZE_AT)
    (size,) = struct.unpack_from(">q", frame, _CHUNK_BYTES)
    if struct.unpack_from(">q", frame, _CONTENT_BYTES) != (block.nbytes,):
        raise ValueError("a chunk has another size than its data set")
    if size == 0:
        content = blosc2.schunk_from_cframe(bytes(frame))[:]
        block.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
        return
    if not _SPECIAL_CHUNK_BYTES < size <= len(frame) - start:
        raise ValueError("a chunk is cut")
    chunk = frame[start : start + size]
    content_bytes, _, chunk_bytes = struct.unpack_from("<iii", chunk, 4)
    if (content_bytes, chunk_bytes) != (block.nbytes, size):
        raise ValueError("a chunk has another size than its data set")
    blosc2.decompress2(chunk, dst=block, nthreads=1)


def fletcher32(data: bytes | memoryview) -> int:
    """HDF5's Fletcher-32 of `data`: its 16-bit words big-endian, an odd byte the upper half of the last one."""
    first, second = _word_sums(data)
    # HDF5 folds its sums end-around, which leaves 65535, not 0, of all multiples of 65535 but 0.
    return _swap_bytes(second % 65535 or (65535 if second else 0)) << 16 | _swap_bytes(
        first % 65535 or (65535 if first else 0)
    )


def _word_sums(data: bytes | memoryview) -> tuple[int, int]:
    """The two sums of Fletcher's checksum over little-endian words; over big-endian ones their bytes are swapped.

    The second sum weights each word by the number of words from it to the end, computed by rows and columns of a table.
    """
    count = -(-len(data) // 2)
    padded = b"".join((data, bytes(-len(data) % (2 * _ROW_WORDS))))
    table = np.frombuffer(padded, "<u2").reshape(-1, _ROW_WORDS)
    if not len(table):
        return 0, 0
    # Exact: 256 words stay below 2^24, a column below 2^53 up to chunks of terabytes.
    rows = cv2.reduce(table, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[:, 0].astype(np.int64)
    columns = cv2.reduce(table, 0, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[0].astype(np.int64)
    first = int(rows.sum())
    before = _ROW_WORDS * int(rows @ _counting(len(rows))) + int(columns @ _counting(_ROW_WORDS))
    return first, count * first - before


def _swap_bytes(word: int) -> int:
    return word >> 8 | (word & 0xFF) << 8


@lru_cache(maxsize=1024)
def _counting(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Parameters:
    element_bytes: int
    block_bytes: int


@lru_cache(maxsize=32)
def _compression_options(parameters: _Parameters) -> dict[str, Any]:
    import blosc2

    element = parameters.element_bytes
    return {
        "codec": blosc2.Codec.LZ4,
        "clevel": _LEVEL if element else 0,
        "typesize": element or 1,
        "blocksize": parameters.block_bytes,
        "filters": [blosc2.Filter.BITSHUFFLE if element else blosc2.Filter.NOFILTER],
        "filters_meta": [0],
        "nthreads": 1,
    }


@lru_cache(maxsize=32)
def _parameters(chunk_bytes: int, element_bytes: int) -> _Parameters:
    """`element_bytes` of 0: stored uncompressed."""
    block_bytes = _BLOCK_BYTES // (8 * (element_bytes or 1)) * 8 * (element_bytes or 1)
    return _Parameters(element_bytes, min(chunk_bytes, block_bytes))


def _build_frame(block: NDArray[Any], parameters: _Parameters) -> bytes:
    import blosc2

    content = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
    frame: bytes = blosc2.SChunk(
        chunksize=content.nbytes,
        data=content,
        contiguous=True,
        cparams=_compression_options(parameters),
        dparams={"nthreads": 1},
    ).to_cframe()
    return frame


@lru_cache(maxsize=32)
def _frame_template(block_bytes: int, parameters: _Parameters) -> tuple[bytes, bytes]:
    """The bytes before and behind the chunk in every frame of this size; building a frame takes four times as long."""
    frame = _build_frame(np.random.default_rng(0).integers(0, 256, block_bytes, np.uint8), parameters)
    (size,) = struct.unpack_from(">q", frame, _CHUNK_BYTES)
    return frame[:_HEADER_BYTES], frame[_HEADER_BYTES + size :]
