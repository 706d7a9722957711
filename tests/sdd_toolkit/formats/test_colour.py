"""The colour space a file names, in every container and by every means, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.colour import read_colour
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.formats.icc import MAX_BYTES, encode_icc
from sdd_toolkit.frames.reading import read_full, read_half
from sdd_toolkit.imaging.binning import bin_2x2
from sdd_toolkit.imaging.colour_profile import SRGB_CURVE, ColourProfile, Curve, colorants_of, encode_light
from sdd_toolkit.imaging.encoding import Encoding, decode, encode

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SUFFIXES = (".jpg", ".png", ".tif")
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def profile_of(primaries: tuple = P3, curve: Curve = SRGB_CURVE, name: str = "Display P3") -> ColourProfile:
    return ColourProfile(name, (curve, curve, curve), colorants_of(primaries))


DISPLAY_P3 = profile_of()
ADOBE_RGB = profile_of(ADOBE, Curve(563 / 256), "Adobe RGB")


def light_of_scene(height: int = 32, width: int = 48) -> np.ndarray:
    """Linear sRGB light, smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([0.1 + 0.8 * x, 0.15 + 0.3 * y, 0.1 + 0.1 * (x + y)], axis=-1).astype(np.float32)


def codes_in(profile: ColourProfile | None, dtype: type = np.uint8) -> np.ndarray:
    """The scene as code values of a colour space."""
    light = light_of_scene()
    if profile is None:
        return encode(light, Encoding.SRGB8 if dtype is np.uint8 else Encoding.SRGB16)
    own = light @ np.linalg.inv(profile.to_srgb).T.astype(np.float32)
    return encode_light(np.clip(own, 0, 1).astype(np.float32), profile, dtype)


def save(path: Path, codes: np.ndarray, icc: bytes | None = None) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, codes, photometric="rgb", iccprofile=icc, metadata=None)
    else:
        options = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(codes).save(path, icc_profile=icc, **options)
    return path


def add_chunks(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """Inserts PNG chunks behind the header."""
    content = path.read_bytes()
    extra = b"".join(
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
        for name, value in chunks
    )
    path.write_bytes(content[:33] + extra + content[33:])
    return path


@pytest.mark.parametrize(
    ("suffix", "dtype", "tolerance"), [(".jpg", np.uint8, 4e-3), (".png", np.uint8, 2e-3), (".tif", np.uint8, 2e-3),
                                       (".tif", np.uint16, 5e-5)],
)  # fmt: skip
@pytest.mark.parametrize("profile", [DISPLAY_P3, ADOBE_RGB])
def test_a_scene_has_the_same_light_whatever_its_profile(
    tmp_path: Path, suffix: str, dtype: type, tolerance: float, profile: ColourProfile
) -> None:
    plain = save(tmp_path / f"plain{suffix}", codes_in(None, dtype))
    tagged = save(tmp_path / f"tagged{suffix}", codes_in(profile, dtype), encode_icc(profile))
    assert np.abs(read_full(tagged) - read_full(plain)).mean() < tolerance
    np.testing.assert_allclose(read_half(tagged).rgb, bin_2x2(read_full(tagged)), atol=1e-6)
    ignored = np.abs(decode(read_image(tagged), Encoding.SRGB8 if dtype is np.uint8 else Encoding.SRGB16)
                     - read_full(plain)).mean()  # fmt: skip
    assert ignored > 0.01


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_srgb_is_read_as_without_a_profile_to_the_bit(tmp_path: Path, suffix: str) -> None:
    icc = encode_icc(profile_of(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), name="whatever"))
    plain = save(tmp_path / f"a{suffix}", codes_in(None))
    tagged = save(tmp_path / f"b{suffix}", codes_in(None), icc)
    np.testing.assert_array_equal(read_full(tagged), read_full(plain))
    colour = read_colour(tagged)
    assert (colour.profile, colour.icc, colour.conversion) == (None, icc, "")


def test_a_large_profile_lies_in_several_segments_of_a_jpeg(tmp_path: Path) -> None:
    curve = Curve(samples=tuple((i / 40000) ** 2.2 for i in range(40001)))
    icc = encode_icc(profile_of(P3, curve))
    path = save(tmp_path / "a.jpg", codes_in(None), icc)
    assert len(icc) > 65536
    assert read_colour(path).icc == icc
    lost = path.read_bytes().replace(b"ICC_PROFILE\0\x02\x02", b"ICC_PROFILF\0\x02\x02")
    path.write_bytes(lost)
    assert "a part is missing" in read_colour(path).remark


@pytest.mark.parametrize(
    ("coded", "name"),
    [((12, 13, 0, 1), "Display P3, sRGB curve"), ((9, 1, 0, 1), "BT.2020, BT.709 curve"),
     ((1, 8, 0, 1), "BT.709, linear"), ((1, 4, 0, 1), "BT.709, gamma 2.2")],
)  # fmt: skip
def test_the_coded_colours_of_a_png_come_first(tmp_path: Path, coded: tuple[int, ...], name: str) -> None:
    path = save(tmp_path / "a.png", codes_in(None), encode_icc(ADOBE_RGB))
    add_chunks(path, (b"cICP", bytes(coded)))
    colour = read_colour(path)
    assert colour.profile is not None
    assert colour.profile.name == name
    assert dict(colour.chunks)[b"cICP"] == bytes(coded)


@pytest.mark.parametrize(
    ("code", "primaries", "white"),
    [(4, (0.67, 0.33, 0.21, 0.71, 0.14, 0.08), (0.310, 0.316)), (5, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06), None),
     (6, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070), None), (7, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070), None),
     (9, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), None), (11, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
     (0.314, 0.351)), (12, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), None)],
)  # fmt: skip
def test_coded_primaries_are_those_of_the_standard(
    tmp_path: Path, code: int, primaries: tuple[float, ...], white: tuple[float, float] | None
) -> None:
    colour = read_colour(add_chunks(save(tmp_path / "a.png", codes_in(None)), (b"cICP", bytes((code, 8, 0, 1)))))
    assert colour.profile is not None
    points = list(zip(primaries[::2], primaries[1::2], strict=True))
    expected = colorants_of(points, white or (0.3127, 0.3290))
    np.testing.assert_allclose(colour.profile.colorants, expected, atol=1e-6)


def test_an_image_is_opened_once_for_its_pixels_and_its_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    original = Path.open

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        return original(path, *arguments, **options)

    paths = [save(tmp_path / f"a{suffix}", codes_in(DISPLAY_P3), encode_icc(DISPLAY_P3)) for suffix in SUFFIXES]
    expected = [read_full(path) for path in paths]
    monkeypatch.setattr(Path, "open", counted)
    for path, light in zip(paths, expected, strict=True):
        np.testing.assert_array_equal(read_full(path), light)
    assert opened == paths


def test_coded_srgb_is_srgb_and_unspecified_colours_say_nothing(tmp_path: Path) -> None:
    path = add_chunks(save(tmp_path / "a.png", codes_in(None)), (b"cICP", bytes((1, 13, 0, 1))))
    assert read_colour(path).profile is None
    other = save(tmp_path / "b.png", codes_in(DISPLAY_P3), encode_icc(DISPLAY_P3))
    assert read_colour(add_chunks(other, (b"cICP", bytes((2, 2, 0, 1))))).profile == read_colour(other).profile
    assert read_colour(other).profile is not None


def test_a_linear_png_has_its_own_values_as_light(tmp_path: Path) -> None:
    codes = np.rint(light_of_scene() * 255).astype(np.uint8)
    path = add_chunks(save(tmp_path / "a.png", codes), (b"gAMA", struct.pack(">I", 100_000)))
    np.testing.assert_allclose(read_full(path), codes / 255, atol=1e-6)
    assert read_colour(path).conversion == "converted from gamma 1 to sRGB primaries"


def test_the_gamma_and_primaries_of_srgb_are_srgb_and_others_count(tmp_path: Path) -> None:
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    wide = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    gamma = struct.pack(">I", 45455)
    plain = save(tmp_path / "a.png", codes_in(None))
    written = add_chunks(save(tmp_path / "b.png", codes_in(None)), (b"gAMA", gamma), (b"cHRM", srgb))
    np.testing.assert_array_equal(read_full(written), read_full(plain))
    p3 = add_chunks(save(tmp_path / "c.png", codes_in(DISPLAY_P3)), (b"gAMA", gamma), (b"cHRM", wide))
    np.testing.assert_allclose(read_full(p3), read_full(plain), atol=0.012)
    named = add_chunks(save(tmp_path / "d.png", codes_in(None)), (b"cHRM", wide), (b"sRGB", b"\0"))
    np.testing.assert_array_equal(read_full(named), read_full(plain))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("space", [2, 0xFFFF])
def test_exif_may_name_adobe_rgb(tmp_path: Path, suffix: str, space: int) -> None:
    exif = Image.Exif()
    exif.get_ifd(34665)[40961] = space
    exif.get_ifd(34665)[40965] = {1: "R03"}
    path = tmp_path / f"a{suffix}"
    if suffix == ".jpg":
        Image.fromarray(codes_in(ADOBE_RGB)).save(path, exif=exif, quality=100, subsampling=0)
    else:
        add_chunks(save(path, codes_in(ADOBE_RGB)), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    profile = read_colour(path).profile
    assert profile is not None
    assert profile.name == "Adobe RGB (1998)"
    np.testing.assert_allclose(read_full(path), light_of_scene(), atol=0.04)


def test_an_uncalibrated_image_is_taken_as_srgb_and_said_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(34665)[40961] = 0xFFFF
    Image.fromarray(codes_in(None)).save(tmp_path / "a.jpg", exif=exif)
    assert "taken as sRGB" in read_colour(tmp_path / "a.jpg").conversion


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize(
    "icc", [b"x" * 500, encode_icc(DISPLAY_P3)[:300], encode_icc(DISPLAY_P3).replace(b"para", b"kara")]
)
def test_a_damaged_profile_is_as_none_with_a_remark(tmp_path: Path, suffix: str, icc: bytes) -> None:
    path = save(tmp_path / f"a{suffix}", codes_in(None), icc)
    colour = read_colour(path)
    assert (colour.profile, colour.icc) == (None, None)
    assert "damaged" in colour.remark
    np.testing.assert_array_equal(read_full(path), read_full(save(tmp_path / f"b{suffix}", codes_in(None))))


def test_a_profile_that_swells_is_not_swallowed(tmp_path: Path) -> None:
    bomb = zlib.compress(b"\0" * (20 * MAX_BYTES), 9)
    path = add_chunks(save(tmp_path / "a.png", codes_in(None)), (b"iCCP", b"x\0\0" + bomb))
    assert "damaged" in read_colour(path).remark
    broken = add_chunks(save(tmp_path / "b.png", codes_in(None)), (b"iCCP", b"x\0\0not zlib"))
    assert "damaged" in read_colour(broken).remark


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_profile_of_tables_is_a_reason(tmp_path: Path, suffix: str) -> None:
    icc = encode_icc(DISPLAY_P3)
    at = icc.index(b"cprt", 132)
    path = save(tmp_path / f"a{suffix}", codes_in(None), icc[:at] + b"A2B0" + icc[at + 4 :])
    for read in (read_full, read_half):
        with pytest.raises(RawError, match="tables instead of primaries"):
            read(path)


@pytest.mark.parametrize("coded", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 1, 1), (1, 13, 0, 0), (77, 13, 0, 1)])
def test_colours_for_hdr_displays_and_unknown_codes_are_a_reason(tmp_path: Path, coded: tuple[int, ...]) -> None:
    path = add_chunks(save(tmp_path / "a.png", codes_in(None)), (b"cICP", bytes(coded)))
    with pytest.raises(RawError, match="coded as"):
        read_colour(path)


@pytest.mark.parametrize(("suffix", "mode"), [(".jpg", "CMYK"), (".tif", "CMYK"), (".tif", "LAB")])
def test_other_models_are_a_reason_and_never_taken_as_rgb(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new(mode, (32, 24)).save(path)
    with pytest.raises(RawError, match=r"CMYK|CIE"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_grey_image_keeps_its_curve_and_gets_a_profile_for_rgb(tmp_path: Path, suffix: str) -> None:
    rgb = encode_icc(profile_of(curve=Curve(1.8)))
    at = rgb.index(b"rTRC", 132)
    icc = rgb[:16] + b"GRAY" + rgb[20:at] + b"kTRC" + rgb[at + 4 :]
    path = tmp_path / f"a{suffix}"
    Image.new("L", (32, 24), 100).save(path, icc_profile=icc)
    np.testing.assert_allclose(read_full(path), (100 / 255) ** 1.8, atol=1e-5)
    colour = read_colour(path)
    assert colour.icc is not None
    assert colour.icc[16:20] == b"RGB "
