"""Seeded damage: to bytes as disks and hostile tools do it, to JSON as hostile people do it."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 60_000, 1_000_000_000)
_DEEP = "@deep@"
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, -0.0, 1e308, "NaN", "", "x" * 5000),
    *("..", "../../etc/passwd", "/etc/passwd", "a\0b", "C:\\x", "\ud800", "\u2028", "\x1b[31m", "<script>"),
    *([], {}, [[]], [None] * 50, {"": {}}, [0] * 9),
)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to eight faults: flipped, set, inserted, removed, copied and cut bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        if not data:
            break
        # Headers decide more than pixels do.
        place = draw.randrange(len(data)) if draw.random() < 0.6 else draw.randrange(min(len(data), 512))
        kind = draw.randrange(8)
        if kind <= 1:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            data[place] = draw.choice(_BYTES)
        elif kind <= 4:
            size = draw.choice((2, 4, 4, 8))
            data[place : place + size] = draw.choice(_WORDS).to_bytes(8, "little")[:size][:: draw.choice((1, -1))]
        elif kind == 5:
            data[place:place] = draw.randbytes(draw.randrange(1, 9))
        elif kind == 6:
            del data[place : place + draw.choice((1, 4, 64))]
        else:
            end = min(len(data), place + draw.choice((4, 12, 64)))
            other = draw.randrange(len(data))
            data[other : other + end - place] = data[place:end]
    if draw.random() < 0.1:
        del data[draw.randrange(len(data) + 1) :]
    return bytes(data)


def distorted(value: Any, draw: random.Random) -> Any:
    """A copy of parsed JSON with one to three values replaced, removed, added or nested too deep."""
    copy = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(copy))
        if not places:
            return draw.choice(_VALUES)
        holder, key = draw.choice(places)
        kind = draw.randrange(10)
        if kind <= 6:
            holder[key] = deepcopy(draw.choice(_VALUES))
        elif kind == 7:
            del holder[key]
        elif kind == 8 and isinstance(holder, dict):
            holder[draw.choice(("extra", "", "version", "\x1b"))] = deepcopy(draw.choice(_VALUES))
        else:
            holder[key] = draw.choice(([[holder[key]]], _DEEP))
    return copy


def as_text(value: Any) -> bytes:
    """JSON, whatever is in it: NaN, lone surrogates, numbers of 400 digits."""
    text = json.dumps(value, ensure_ascii=False).replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000)
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
