"""ICC profiles against littleCMS, and damaged ones."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from sdd_toolkit.formats.icc import UnsupportedProfileError, encode_icc, parse_icc
from sdd_toolkit.imaging.colour_profile import (
    SRGB_CURVE,
    SRGB_PRIMARIES,
    ColourProfile,
    Curve,
    colorants_of,
    convert_to_srgb,
    decode_light,
    is_srgb,
)
from sdd_toolkit.imaging.encoding import Encoding, encode

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
SPACES = {
    "Display P3": (P3, SRGB_CURVE),
    "Adobe RGB": (ADOBE, Curve(563 / 256)),
    "ProPhoto": (PROPHOTO, Curve(1.8)),
    "linear": (SRGB_PRIMARIES, Curve()),
    "gamma 2.2": (SRGB_PRIMARIES, Curve(2.2)),
    "table": (P3, Curve(samples=tuple((i / 1023) ** 2.0 for i in range(1024)))),
}


def planted(name: str) -> ColourProfile:
    primaries, curve = SPACES[name]
    white = (0.3457, 0.3585) if name == "ProPhoto" else (0.3127, 0.3290)
    return ColourProfile(name, (curve, curve, curve), colorants_of(primaries, white))


def with_tag(content: bytes, key: bytes, renamed: bytes) -> bytes:
    at = content.index(key, 132)
    return content[:at] + renamed + content[at + 4 :]


@pytest.mark.parametrize("name", SPACES)
def test_colours_are_those_of_littlecms(name: str) -> None:
    content = encode_icc(planted(name))
    profile, is_grey = parse_icc(content)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    source = ImageCms.ImageCmsProfile(io.BytesIO(content))
    no_shortcuts = ImageCms.Flags.NOOPTIMIZE | ImageCms.Flags.NOCACHE
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    expected = ImageCms.profileToProfile(
        Image.fromarray(pixels), source, ImageCms.createProfile("sRGB"), renderingIntent=relative, flags=no_shortcuts
    )
    found = encode(convert_to_srgb(decode_light(pixels, profile), profile), Encoding.SRGB8)
    assert (profile.name, is_grey) == (name, False)
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1
    assert (found != np.asarray(expected)).mean() < 0.02


def test_what_is_written_is_read_back() -> None:
    for name in SPACES:
        profile = planted(name)
        again, _ = parse_icc(encode_icc(profile))
        np.testing.assert_allclose(again.to_srgb, profile.to_srgb, atol=2e-4)
        codes = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1).repeat(3, axis=2)
        np.testing.assert_allclose(decode_light(codes, again), decode_light(codes, profile), atol=3e-5)


def test_littlecms_own_srgb_is_srgb() -> None:
    assert is_srgb(parse_icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())[0])


@pytest.mark.parametrize("space", [b"CMYK", b"Lab "])
def test_other_models_are_named(space: bytes) -> None:
    content = encode_icc(planted("Display P3"))
    with pytest.raises(UnsupportedProfileError, match=space.decode().strip()):
        parse_icc(content[:16] + space + content[20:])


def test_tables_are_refused_even_beside_primaries() -> None:
    content = encode_icc(planted("Display P3"))
    with pytest.raises(UnsupportedProfileError, match="tables"):
        parse_icc(with_tag(content, b"cprt", b"A2B0"))


def test_a_profile_of_grey_values_gives_its_curve_to_all_channels() -> None:
    content = encode_icc(planted("gamma 2.2"))
    grey = with_tag(content[:16] + b"GRAY" + content[20:], b"rTRC", b"kTRC")
    profile, is_grey = parse_icc(grey)
    assert is_grey
    light = decode_light(np.full((1, 1, 3), 128, np.uint8), profile)
    np.testing.assert_allclose(convert_to_srgb(light, profile), (128 / 255) ** 2.2, atol=1e-5)


@pytest.mark.parametrize("kind", range(5))
def test_every_type_of_parametric_curve(kind: int) -> None:
    numbers = [(2.2,), (2.2, 0.9, 0.1), (2.2, 0.9, 0.1, 0.01), (2.4, 0.95, 0.05, 0.08, 0.04),
               (2.4, 0.95, 0.05, 0.05, 0.04, 0.001, 0.001)][kind]  # fmt: skip
    packed = struct.pack(f">{len(numbers)}i", *(round(value * 65536) for value in numbers))
    tag = (b"para\0\0\0\0" + struct.pack(">H2x", kind) + packed).ljust(40, b"\0")
    content = bytearray(encode_icc(planted("gamma 2.2")))
    at = content.index(b"para")
    content[at : at + 40] = tag
    light = decode_light(np.full((1, 1, 3), 204, np.uint8), parse_icc(bytes(content))[0])[0, 0]
    gamma, a, b, *rest = (*numbers, 1.0, 0.0)[: max(len(numbers), 3)]
    extra = {2: rest[:1], 4: [0.001]}.get(kind, [0.0])[0]
    np.testing.assert_allclose(light, (a * 0.8 + b) ** gamma + extra, atol=1e-4)


@pytest.mark.parametrize("offset", [(), (0.01,)])
def test_a_curve_without_a_linear_part_is_constant_below_its_power(offset: tuple[float, ...]) -> None:
    numbers = (2.2, 1.1, -0.1, *offset)
    packed = struct.pack(f">{len(numbers)}i", *(round(value * 65536) for value in numbers))
    content = bytearray(encode_icc(planted("gamma 2.2")))
    at = content.index(b"para")
    content[at : at + 40] = (b"para\0\0\0\0" + struct.pack(">H2x", 1 + len(offset)) + packed).ljust(40, b"\0")
    light = decode_light(np.full((1, 1, 3), 15, np.uint8), parse_icc(bytes(content))[0])[0, 0]
    np.testing.assert_allclose(light, sum(offset), atol=1e-4)


@given(st.data())
def test_a_damaged_profile_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(encode_icc(planted("table" if data.draw(st.booleans()) else "Display P3")))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        profile, _ = parse_icc(bytes(content[:cut]))
    except ValueError:
        return
    light = decode_light(np.zeros((2, 2, 3), np.uint8), profile)
    assert np.isfinite(convert_to_srgb(light, profile)).all()
    assert profile.name.isprintable()
