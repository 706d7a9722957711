"""Segments of a JPEG, as decoders find them: bytes between two segments are skipped, and so is what follows the end.

Whether a JPEG is whole is a matter of its coded data: many files of cameras, telephones and editors lack the end
marker, or have stray bytes between segments, fill bytes, further pictures or a film behind the first picture.

Sources: ITU-T T.81 (JPEG), annex B; libjpeg, `jdmarker.c`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sdd_toolkit.formats.tiff import ReadAt

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START = b"\xff\xd8\xff"
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
APP1, APP2, APP13, SCAN, END = 0xE1, 0xE2, 0xED, 0xDA, 0xD9
_LEAST_FILLING = 64  # before an end marker: the data of an even area may end with a few zeros
_CHUNK = 1 << 20
_MAX_SEGMENTS = 10_000
# Neither stuffed data, nor fill bytes, nor restart markers.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
# Those that may stand between two scans; anything else within coded data is damage, which decoding finds.
_BETWEEN_SCANS = re.compile(rb"\xff[\xc4\xd9\xda-\xdd\xe0-\xef\xfe]")
_DAMAGE = re.compile(
    r"[Pp]remature end of |bad Huffman code|bad arithmetic code|instead of RST|Inconsistent progression|"
    r"extraneous bytes"
)


def segments(read: ReadAt, length: int) -> Iterator[tuple[int, int, bytes]]:
    """Code, position and first 10 bytes of each segment, the scans' headers included, up to the end marker if any."""
    position, pattern = 2, _MARKER
    for _ in range(_MAX_SEGMENTS):
        position = _find(read, pattern, position, length)
        head = read(position, 10)
        if len(head) < 4 and head[1:2] != b"\xd9":
            return
        code = head[1]
        yield code, position, head
        if code == END:
            return
        pattern = _BETWEEN_SCANS if code == SCAN or pattern is _BETWEEN_SCANS else _MARKER
        position += 2 + int.from_bytes(head[2:4], "big")


def frame_header(read: ReadAt, length: int) -> bytes | None:
    """The first 10 bytes of the segment that tells the size and the components; None if there is none."""
    return next((head for code, _, head in segments(read, length) if code in FRAMES), None)


def plain(content: bytes) -> bytes:
    """The picture alone: no stray bytes between segments, no filling behind the data, an end marker at the end."""

    def read(offset: int, count: int) -> bytes:
        return content[offset : offset + count]

    pieces, at, in_scan, changed, least = [content[:2]], 2, False, False, 1
    for code, position, head in segments(read, len(content)):
        if code == END:
            is_filled = in_scan and content[position - 1] in b"\0\xff"
            if not (changed or is_filled) and position + 2 == len(content):
                return content
            content, least = content[:position], _LEAST_FILLING
            break
        end = position + 2 + int.from_bytes(head[2:4], "big")
        changed = changed or (position > at and not in_scan)
        pieces.append(content[at if in_scan else position : end])
        at, in_scan = end, in_scan or code == SCAN
    return b"".join([*pieces, _without_filling(content[at:], least) if in_scan else b"", b"\xff\xd9"])


def damage(said: str) -> bool:
    """Whether what libjpeg said about a `plain` JPEG means that some pixels are not those of the picture."""
    return bool(_DAMAGE.search(said))


def has_all_pixels(content: bytes) -> bool:
    """Whether the coded data of a JPEG that lacks its end marker reaches to the last pixel; decodes it."""
    import cv2
    import numpy as np

    from sdd_toolkit.formats.library_output import library_output

    whole = plain(content)
    if not _is_fully_refined(whole):
        return False
    with library_output() as said:
        try:
            pixels = cv2.imdecode(np.frombuffer(whole, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            return False
    return pixels is not None and not damage(said.summary)


def _without_filling(coded: bytes, least: int) -> bytes:
    """Coded data without the zeros or ones that stand for what a copy has left out, if there are that many of them."""
    core = coded.rstrip(b"\0")
    if 0 < len(coded) - len(core) < least:
        return coded
    if not core.endswith(b"\xff"):
        return core
    # A data byte of 0xFF is followed by one zero.
    return core + b"\0" if len(core) < len(coded) else core.rstrip(b"\xff")


def _is_fully_refined(content: bytes) -> bool:
    """Whether the scans of a JPEG name every coefficient of every component down to its last bit."""

    def read(offset: int, count: int) -> bytes:
        return content[offset : offset + count]

    missing: dict[int, list[int]] = {}
    is_progressive = False
    for code, position, head in segments(read, len(content)):
        if code in FRAMES:
            is_progressive = code in _PROGRESSIVE
            parts = read(position + 10, 3 * head[9])
            missing = {number: [14] * 64 for number in parts[::3]}
        elif code == SCAN:
            count = head[4]
            numbers, tail = read(position + 5, 2 * count)[::2], read(position + 5 + 2 * count, 3)
            if len(tail) < 3:
                return False
            # Some cameras leave the numbers of a sequential scan at zero.
            first, last, low = (tail[0], min(tail[1], 63), tail[2] & 15) if is_progressive else (0, 63, 0)
            for number in set(numbers) & set(missing):
                missing[number][first : last + 1] = [low] * (last + 1 - first)
    return bool(missing) and not any(any(bits) for bits in missing.values())


def _find(read: ReadAt, pattern: re.Pattern[bytes], start: int, end: int) -> int:
    """Position of the first match from `start` on; `end` if there is none."""
    match = pattern.match(read(start, 2))
    if match:
        return start
    for position in range(start, end, _CHUNK):
        match = pattern.search(read(position, _CHUNK + 1))
        if match:
            return position + match.start()
    return end
