"""Reads and writes ICC profiles of RGB and grey images by curves and primaries.

Profiles that describe colours by tables (A2B0), and those of other models (CMYK, Lab), are told apart from damaged
ones. Profiles are untrusted: every length is checked. Source: ICC.1:2022, and ICC.1:2001-04 for version 2.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from sdd_toolkit.imaging.colour_profile import (
    D50,
    SRGB_PRIMARIES,
    ColourProfile,
    Curve,
    check_profile,
    colorants_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 16 << 20
_DEFAULTS = {"gamma": 1.0, "a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0}
_MAX_TAGS, _MAX_SAMPLES, _LONGEST_NAME = 200, 65536, 80
_HEADER_BYTES = 128
_TABLES = (b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2")
# Parameters of the five types of parametric curves, in the order they are stored.
_PARAMETRIC = (("gamma",), ("gamma", "a", "b"), ("gamma", "a", "b", "e"), ("gamma", "a", "b", "c", "d"),
               ("gamma", "a", "b", "c", "d", "e", "f"))  # fmt: skip


class UnsupportedProfileError(ValueError):
    """A profile that is sound but describes colours in another way."""


def parse_icc(content: bytes) -> tuple[ColourProfile, bool]:
    """The colour space of a profile, and whether it is one of grey values.

    Raises:
        UnsupportedProfileError: It is sound, but not of RGB or grey, or has tables.
        ValueError: It is damaged.
    """
    if len(content) < _HEADER_BYTES + 4 or content[36:40] != b"acsp":
        raise ValueError("it has no header")
    space, connection = content[16:20], content[20:24]
    tags = _tags(content)
    name = _name(tags.get(b"desc", b""))
    if space not in (b"RGB ", b"GRAY"):
        model = space.decode("ascii", "replace").strip()
        raise UnsupportedProfileError(f"the colour profile {name} is one of {model}, not of RGB")
    # Where there are both, the tables count: the primaries of some displays' profiles are a mere stand-in.
    if any(key in tags for key in _TABLES):
        raise UnsupportedProfileError(f"the colour profile {name} has tables instead of primaries")
    if space == b"GRAY":
        if connection != b"XYZ " or b"kTRC" not in tags:
            raise UnsupportedProfileError(f"the colour profile {name} of grey values has no curve of light")
        curve = _curve(tags[b"kTRC"])
        # Any primaries whose sum is white: the three values of a grey pixel are equal.
        profile = ColourProfile(name, (curve, curve, curve), colorants_of(SRGB_PRIMARIES))
    else:
        needed = [primary + kind for kind in (b"XYZ", b"TRC") for primary in (b"r", b"g", b"b")]
        if not all(key in tags for key in needed) or connection != b"XYZ ":
            raise ValueError("its primaries or curves are missing")
        red, green, blue = (_curve(tags[key]) for key in needed[3:])
        profile = ColourProfile(name, (red, green, blue), tuple(_xyz(tags[key]) for key in needed[:3]))
    check_profile(profile)
    return profile, space == b"GRAY"


def encode_icc(profile: ColourProfile) -> bytes:
    """A small profile of version 4 for RGB images with these curves and primaries."""
    red, green, blue = profile.colorants
    tags = {
        b"desc": _text(profile.name),
        b"cprt": _text("no copyright, use freely"),
        b"wtpt": _encode_xyz(D50),
        b"rXYZ": _encode_xyz(red),
        b"gXYZ": _encode_xyz(green),
        b"bXYZ": _encode_xyz(blue),
        **{key: _encode_curve(c) for key, c in zip((b"rTRC", b"gTRC", b"bTRC"), profile.curves, strict=True)},
    }
    table, body, start = struct.pack(">I", len(tags)), b"", _HEADER_BYTES + 4 + 12 * len(tags)
    placed: dict[bytes, int] = {}
    for key, value in tags.items():
        if value not in placed:
            placed[value] = start + len(body)
            body += value + b"\0" * (-len(value) % 4)
        table += key + struct.pack(">II", placed[value], len(value))
    size = start + len(body)
    # Without a date, which would make bytes differ from day to day: 1 January 2000.
    header = struct.pack(">I4xI4s4s4s6H4s", size, 0x04300000, b"mntr", b"RGB ", b"XYZ ", 2000, 1, 1, 0, 0, 0, b"acsp")
    header += b"\0" * 28 + struct.pack(">3i", *(_fixed(value) for value in D50))
    return header.ljust(_HEADER_BYTES, b"\0") + table + body


def _tags(content: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", content, _HEADER_BYTES)
    if not 0 < count <= _MAX_TAGS or len(content) < _HEADER_BYTES + 4 + 12 * count:
        raise ValueError("its list of tags is damaged")
    tags = {}
    for index in range(count):
        key, start, length = struct.unpack_from(">4sII", content, _HEADER_BYTES + 4 + 12 * index)
        if start + length > len(content):
            raise ValueError("it is cut short")
        tags[key] = content[start : start + length]
    return tags


def _name(tag: bytes) -> str:
    """The description of a profile, printable and not long."""
    text = ""
    if tag[:4] == b"desc" and len(tag) > 12:
        text = tag[12 : 12 + min(int.from_bytes(tag[8:12], "big"), len(tag))].split(b"\0")[0].decode("latin-1")
    elif tag[:4] == b"mluc" and len(tag) >= 28:
        length, start = struct.unpack_from(">II", tag, 20)
        text = tag[start : start + length].decode("utf-16-be", "replace")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text[:_LONGEST_NAME] or "without a name"


def _xyz(tag: bytes) -> tuple[float, float, float]:
    if tag[:4] != b"XYZ " or len(tag) < 20:
        raise ValueError("a primary is damaged")
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _curve(tag: bytes) -> Curve:
    try:
        if tag[:4] == b"curv":
            (count,) = struct.unpack_from(">I", tag, 8)
            if count == 0:
                return Curve()
            if count == 1:
                return Curve(gamma=struct.unpack_from(">H", tag, 12)[0] / 256)
            if count > _MAX_SAMPLES:
                raise ValueError("a curve has too many samples")
            samples = struct.unpack_from(f">{count}H", tag, 12)
            return Curve(samples=tuple(value / 65535 for value in samples))
        if tag[:4] == b"para":
            names = _PARAMETRIC[min(int.from_bytes(tag[8:10], "big"), len(_PARAMETRIC))]
            values = dict(zip(names, struct.unpack_from(f">{len(names)}i", tag, 12), strict=True))
            return _parametric({name: value / 65536 for name, value in values.items()})
    except (struct.error, IndexError) as error:
        raise ValueError("a curve is damaged") from error
    raise ValueError("a curve is of an unknown kind")


def _parametric(values: Mapping[str, float]) -> Curve:
    """A parametric curve; types 1 and 2 have no `d`: below -b/a they are constant, `e` in type 2."""
    gamma, a, b, c, d, e, f = (values.get(name, default) for name, default in _DEFAULTS.items())
    curve = Curve(gamma, a, b, c, d, e, f)
    if "c" in values or "a" not in values:
        return curve
    if curve.a == 0:
        raise ValueError("a curve is damaged")
    return replace(curve, d=-curve.b / curve.a, f=curve.e)


def _fixed(value: float) -> int:
    return round(value * 65536)


def _encode_xyz(value: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *map(_fixed, value))


def _encode_curve(curve: Curve) -> bytes:
    if curve.samples:
        codes = [round(65535 * min(max(value, 0.0), 1.0)) for value in curve.samples]
        return b"curv\0\0\0\0" + struct.pack(f">I{len(codes)}H", len(codes), *codes)
    values = (curve.gamma, curve.a, curve.b, curve.c, curve.d, curve.e, curve.f)
    return b"para\0\0\0\0" + struct.pack(">H2x7i", 4, *map(_fixed, values))


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(content), 28) + content
