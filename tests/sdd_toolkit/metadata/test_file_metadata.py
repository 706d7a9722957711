"""Author, copyright, GPS, time zone, serial number, XMP and IPTC from every kind of file to every other."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.formats.embedding import EmbeddedMetadata, embed_in_jpeg, embed_in_png, photoshop_resource
from sdd_toolkit.formats.tiff import open_tiff, reader
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.metadata.exif import read_meta
from sdd_toolkit.metadata.exif_tree import EXIF, GPS, INTEROPERABILITY, MAIN, ExifTree, RawTag, encode_tree, read_tree
from sdd_toolkit.metadata.file_metadata import read_file_metadata
from tests.support.dng_files import scene_rgb, write_dng
from tests.support.paths import SHARED

XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.'
    b'com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmp:Rating="4" tiff:Orientation="6"><tiff:ImageWidth>24'
    b'</tiff:ImageWidth></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x19\x00\x04tree\x1c\x02\x74\x00\x07(c) all"
WRITTEN = [(".jpg", np.uint8), (".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tif", np.uint16)]
SOURCES = ["jpg", "png", "tif", "dng", "raf", "cr3"]


def pixels(dtype: type = np.uint8, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3)).astype(dtype)


def pillow_exif(orientation: int = 6) -> Image.Exif:
    """Tags as Pillow writes them."""
    exif = Image.Exif()
    exif.update({271: "Maker", 272: "One", 274: orientation, 282: 300.0, 283: 300.0, 296: 2, 315: "A. Photographer",
                 33432: "(c) all"})  # fmt: skip
    exif.get_ifd(34665).update({33434: IFDRational(1, 60), 33437: IFDRational(28, 10), 34855: 200,
                                36867: "2024:05:06 07:08:09", 36881: "+02:00", 37521: "12", 40962: 24, 40963: 32,
                                42033: "1234", 42036: "Lens 50",
                                37500: b"note of some maker"})  # fmt: skip
    exif.get_ifd(34853).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (9.0, 3.0, 0.0)})
    exif.get_ifd(34665)[40965] = {1: "R98"}
    return exif


def exif_block(orientation: int = 6) -> bytes:
    return pillow_exif(orientation).tobytes().removeprefix(b"Exif\0\0")


def tree_of(block: bytes) -> ExifTree:
    tiff = open_tiff(reader(io.BytesIO(block)))
    assert tiff is not None
    return read_tree(tiff)


def text_of(tree: ExifTree, directory: str, code: int) -> str:
    return tree.directories[directory][code].value.split(b"\0")[0].decode()


def plain_jpeg(metadata: EmbeddedMetadata) -> bytes:
    return embed_in_jpeg(bytes(cv2.imencode(".jpg", pixels())[1]), metadata)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def source(folder: Path, kind: str) -> Path:
    """A file of each kind with the same metadata, as far as the format has a place for them."""
    path = folder / f"source.{kind}"
    block = exif_block()
    everything = EmbeddedMetadata(exif=block, xmp=XMP, iptc=IPTC)
    if kind == "jpg":
        path.write_bytes(plain_jpeg(everything))
    elif kind == "png":
        path.write_bytes(embed_in_png(bytes(cv2.imencode(".png", pixels())[1]), everything))
    elif kind == "tif":
        (folder / "like.jpg").write_bytes(plain_jpeg(everything))
        write_image(path, pixels(), like=folder / "like.jpg")
    elif kind == "dng":
        extra = ((315, "s", 0, "A. Photographer", True), (33432, "s", 0, "(c) all", True),
                 (700, "B", len(XMP), XMP, True), (33723, "B", len(IPTC), IPTC, True))  # fmt: skip
        write_dng(path, scene_rgb(40, 60), extra=extra, exif={"iso": 200, "f_number": 2.8})
    elif kind == "raf":
        jpeg = plain_jpeg(everything)
        path.write_bytes(
            b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">6I", 160, len(jpeg), 0, 0, 0, 0) + bytes(52) + jpeg
        )
    else:
        path.write_bytes(cr3(block))
    return path


def cr3(block: bytes) -> bytes:
    """The boxes of a CR3 file that hold metadata: a block a directory."""
    tree = tree_of(block)
    blocks = [
        encode_tree(ExifTree(tree.order, {name: {} for name in tree.directories} | {MAIN: tree.directories[part]}))
        for part in (MAIN, EXIF, GPS)
    ]
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    names = (b"CMT1", b"CMT2", b"CMT4")
    inner = b"".join(box(name, content or b"") for name, content in zip(names, blocks, strict=True))
    packet = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP)
    return box(b"ftyp", b"crx \0\0\0\1") + box(b"moov", box(b"uuid", canon + inner)) + packet


@pytest.mark.parametrize(("suffix", "dtype"), WRITTEN)
@pytest.mark.parametrize("kind", SOURCES)
def test_everything_survives_from_every_file_to_every_other(
    tmp_path: Path, kind: str, suffix: str, dtype: type
) -> None:
    target = tmp_path / f"out{suffix}"
    like = source(tmp_path, kind)
    write_image(target, pixels(dtype), like=like)
    if suffix != ".jpg":
        np.testing.assert_array_equal(read_image(target), pixels(dtype))
    found = read_file_metadata(target)
    assert found.tree is not None
    assert text_of(found.tree, MAIN, 315) == "A. Photographer"
    assert text_of(found.tree, MAIN, 33432) == "(c) all"
    if kind != "dng":
        assert text_of(found.tree, EXIF, 36881) == "+02:00"
        assert text_of(found.tree, EXIF, 42033) == "1234"
        assert text_of(found.tree, GPS, 1) == "N"
        assert struct.unpack(f"{found.tree.order}6I", found.tree.directories[GPS][2].value)[::2] == (48, 30, 0)
        assert read_meta(target).utc_offset == "+02:00"
    assert read_meta(target).exposure.f_number == 2.8
    assert read_meta(target).orientation == 1
    assert found.xmp is not None
    assert b'xmp:Rating="4" tiff:Orientation="1"><tiff:ImageWidth>32</tiff:ImageWidth>' in found.xmp
    if kind != "cr3":  # which has no place for it
        assert found.iptc == IPTC


@pytest.mark.parametrize(("suffix", "dtype"), WRITTEN)
def test_other_readers_find_it_too(tmp_path: Path, suffix: str, dtype: type) -> None:
    target = tmp_path / f"out{suffix}"
    write_image(target, pixels(dtype), like=source(tmp_path, "jpg"))
    if suffix == ".tif":
        with tifffile.TiffFile(target) as file:
            tags = file.pages.first.tags
            assert tags["Artist"].value == "A. Photographer"
            assert tags["ExifTag"].value["OffsetTimeOriginal"] == "+02:00"
            assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"
            assert tags["XResolution"].value == (300, 1)
            np.testing.assert_array_equal(file.asarray(), pixels(dtype))
        return
    with Image.open(target) as image:
        exif = image.getexif()
        assert (exif[315], exif[274], exif.get_ifd(34665)[42033]) == ("A. Photographer", 1, "1234")
        assert exif.get_ifd(34853)[2] == (48.0, 30.0, 0.0)
        assert exif.get_ifd(34665)[40962] == 32


def test_a_second_copy_is_equal_to_the_first(tmp_path: Path) -> None:
    one = source(tmp_path, "tif")
    for number, suffix in enumerate((".tif", ".png", ".jpg", ".tif")):
        write_image(tmp_path / f"{number}{suffix}", pixels(), like=one)
        first, second = read_file_metadata(one), read_file_metadata(tmp_path / f"{number}{suffix}")
        assert first.tree is not None
        assert second.tree is not None
        ours = {282, 283, 296} if suffix == ".tif" else set()
        for name, tags in first.tree.directories.items():
            assert {c: t for c, t in second.tree.directories[name].items() if c not in ours} == {
                c: t for c, t in tags.items() if c not in ours
            }
        assert (first.xmp, first.iptc) == (second.xmp, second.iptc)


@pytest.mark.parametrize(("suffix", "dtype"), WRITTEN)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_stripped_picture_is_as_one_made_of_nothing(tmp_path: Path, kind: str, suffix: str, dtype: type) -> None:
    write_image(tmp_path / f"a{suffix}", pixels(dtype), like=source(tmp_path, kind), strip=True)
    write_image(tmp_path / f"b{suffix}", pixels(dtype))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("note_at", [40, 300, 5000, 70_000])
def test_a_maker_note_stays_at_its_offset(tmp_path: Path, order: str, note_at: int) -> None:
    """Offsets in most notes count from the header of the block."""
    note = RawTag(7, 600, bytes(range(200)) * 3)
    artist = RawTag(2, 16, b"A. Photographer\0")
    tree = ExifTree(order, {MAIN: {315: artist}, EXIF: {37500: note}, GPS: {}, INTEROPERABILITY: {}}, note_at)
    block = encode_tree(tree)
    assert block is not None
    assert block[note_at : note_at + 600] == note.value
    assert tree_of(block) == tree
    like = tmp_path / "a.png"
    like.write_bytes(embed_in_png(bytes(cv2.imencode(".png", pixels())[1]), EmbeddedMetadata(exif=block)))
    write_image(tmp_path / "b.tif", pixels(np.uint16), like=like)
    assert (tmp_path / "b.tif").read_bytes()[note_at : note_at + 600] == note.value
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), pixels(np.uint16))


def test_too_much_for_a_jpeg_loses_the_note_first_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tags = {315: RawTag(2, 16, b"A. Photographer\0")}
    tree = ExifTree(
        "<", {MAIN: tags, EXIF: {37500: RawTag(7, 70_000, bytes(70_000))}, GPS: {}, INTEROPERABILITY: {}}, 400
    )
    block = encode_tree(tree)
    like = tmp_path / "a.png"
    like.write_bytes(embed_in_png(bytes(cv2.imencode(".png", pixels())[1]), EmbeddedMetadata(exif=block)))
    write_image(tmp_path / "b.jpg", pixels(), like=like)
    found = read_file_metadata(tmp_path / "b.jpg").tree
    assert found is not None
    assert text_of(found, MAIN, 315) == "A. Photographer"
    assert not found.directories[EXIF]
    assert "longer than a JPEG" in caplog.text


def test_a_long_packet_and_long_datasets_go_through_a_jpeg_in_parts(tmp_path: Path) -> None:
    long = XMP.replace(b"<rdf:Desc", b"<!--" + b"x" * 150_000 + b"--><rdf:Desc", 1)
    datasets = IPTC + b"\x1c\x02\x78\x7f\xff" + b"y" * 32767 + b"\x1c\x02\x79\x7f\xff" + b"z" * 32767
    like = tmp_path / "a.png"
    content = bytes(cv2.imencode(".png", pixels())[1])
    like.write_bytes(embed_in_png(content, EmbeddedMetadata(xmp=long, iptc=datasets)))
    write_image(tmp_path / "b.jpg", pixels(), like=like)
    assert read_image(tmp_path / "b.jpg").shape == (24, 32, 3)
    found = read_file_metadata(tmp_path / "b.jpg")
    assert found.xmp is not None
    assert b'xmp:Rating="4"' in found.xmp
    assert b"x" * 150_000 in found.xmp
    assert found.iptc == datasets


def test_text_of_a_png_stays_text_in_a_png_and_becomes_tags_elsewhere(tmp_path: Path) -> None:
    texts = ((b"tEXt", b"Author\0A. Photographer"), (b"zTXt", b"Copyright\0\0" + zlib.compress(b"(c) all")),
             (b"iTXt", b"Comment\0\0\0\0\0no tag"))  # fmt: skip
    like = tmp_path / "a.png"
    like.write_bytes(embed_in_png(bytes(cv2.imencode(".png", pixels())[1]), EmbeddedMetadata(texts=texts)))
    write_image(tmp_path / "b.png", pixels(), like=like)
    assert read_file_metadata(tmp_path / "b.png").texts == texts
    write_image(tmp_path / "b.tif", pixels(), like=like)
    tree = read_file_metadata(tmp_path / "b.tif").tree
    assert tree is not None
    assert (text_of(tree, MAIN, 315), text_of(tree, MAIN, 33432)) == ("A. Photographer", "(c) all")


def test_blocks_in_imagemagicks_form_are_read(tmp_path: Path) -> None:
    def raw(name: bytes, content: bytes) -> tuple[bytes, bytes]:
        text = b"\n" + name + b"\n%8d\n" % len(content) + content.hex().encode() + b"\n"
        return b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text)

    chunks = (raw(b"exif", b"Exif\0\0" + exif_block()), raw(b"iptc", photoshop_resource(IPTC)), raw(b"xmp", XMP))
    (tmp_path / "a.png").write_bytes(
        embed_in_png(bytes(cv2.imencode(".png", pixels())[1]), EmbeddedMetadata(texts=chunks))
    )
    found = read_file_metadata(tmp_path / "a.png")
    assert found.tree is not None
    assert text_of(found.tree, MAIN, 315) == "A. Photographer"
    assert (found.xmp, found.iptc, found.texts) == (XMP, IPTC, ())


def text_chunk(keyword: bytes, text: bytes) -> tuple[bytes, bytes]:
    return b"zTXt", keyword + b"\0\0" + zlib.compress(text, 9)


@pytest.mark.parametrize("digits", [b"45786", b"no digits", b"\xff\xfe"])
def test_a_damaged_block_in_imagemagicks_form_costs_itself_only(tmp_path: Path, digits: bytes) -> None:
    damaged = text_chunk(b"Raw profile type exif", b"\nexif\n      99\n" + digits)
    content = bytes(cv2.imencode(".png", pixels())[1])
    metadata = EmbeddedMetadata(texts=(damaged, text_chunk(b"Author", b"A. Photographer")), xmp=XMP)
    (tmp_path / "a.png").write_bytes(embed_in_png(content, metadata))
    found = read_file_metadata(tmp_path / "a.png")
    assert (found.tree, found.xmp, found.texts) == (None, XMP, metadata.texts[1:])


@pytest.mark.parametrize("filling", [b"\n", b"\n0"])
def test_a_long_text_takes_no_longer_than_its_length(tmp_path: Path, filling: bytes) -> None:
    """A million characters; a time that grows with their square would be hours."""
    text = filling * (1_000_000 // len(filling))
    content = bytes(cv2.imencode(".png", pixels())[1])
    metadata = EmbeddedMetadata(texts=(text_chunk(b"Raw profile type exif", text),))
    (tmp_path / "a.png").write_bytes(embed_in_png(content, metadata))
    started = time.process_time()
    read_file_metadata(tmp_path / "a.png")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("filling", [b"<rdf:RDF", b"<rdf:RDF>", b" ", b" xmpNote:HasExtendedXMP='0", b"</rdf:RDF>"])
def test_a_long_packet_takes_no_longer_than_its_length(tmp_path: Path, filling: bytes) -> None:
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40
    long = filling * (60_000 // len(filling))
    packets = [b"http://ns.adobe.com/xap/1.0/\0" + long + b"</rdf:RDF>"] + [
        head[:-8] + struct.pack(">II", 1, number) + long for number in range(8)
    ]
    segments = b"".join(struct.pack(">BBH", 0xFF, 0xE1, len(packet) + 2) + packet for packet in packets)
    content = plain_jpeg(EmbeddedMetadata())
    (tmp_path / "a.jpg").write_bytes(content[:2] + segments + content[2:])
    started = time.process_time()
    found = read_file_metadata(tmp_path / "a.jpg")
    assert found.xmp is not None
    assert time.process_time() - started < 2


def test_the_exif_of_a_raw_file_does_not_call_srgb_pixels_adobe_rgb(tmp_path: Path) -> None:
    exif = pillow_exif()
    exif.get_ifd(34665)[40961] = 0xFFFF
    exif.get_ifd(34665)[40965] = {1: "R03"}
    jpeg = plain_jpeg(EmbeddedMetadata(exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">6I", 160, len(jpeg), 0, 0, 0, 0)
    (tmp_path / "a.raf").write_bytes(head.ljust(160, b"\0") + jpeg)
    write_image(tmp_path / "b.tif", pixels(), like=tmp_path / "a.raf")
    assert read_meta(tmp_path / "b.tif").colour is None
    tree = read_file_metadata(tmp_path / "b.tif").tree
    assert tree is not None
    assert text_of(tree, INTEROPERABILITY, 1) == "R98"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_metadata_harm_no_pixels(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from(["jpg", "png", "tif"]))
    content = bytearray(source(folder, kind).read_bytes())
    for at in data.draw(st.lists(st.integers(0, min(len(content), 1500) - 1), max_size=5)):
        content[at] = data.draw(st.integers(0, 255))
    (folder / f"damaged.{kind}").write_bytes(content)
    for suffix in (".jpg", ".png", ".tif"):
        write_image(folder / f"out{suffix}", pixels(), like=folder / f"damaged.{kind}")
        found = read_image(folder / f"out{suffix}")
        assert found.shape == (24, 32, 3)
        if suffix != ".jpg":
            np.testing.assert_array_equal(found, pixels())


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exiftool_reads_what_it_read_in_the_source_notes_of_makers_included(tmp_path: Path, suffix: str) -> None:
    folder = SHARED / "data/focal_stacks"
    if not folder.is_dir():
        pytest.skip("needs photographs")
    photographs = [min((folder / name).glob("*.[jJ]*")) for name in ("canon_600d_shutters", "nikon_d3100_sign")]
    for photograph in photographs:
        write_image(tmp_path / f"out{suffix}", pixels(), like=photograph)
        groups = ("-ExifIFD:all", "-MakerNotes:all", "-IPTC:all", "-GPS:all", "-XMP:all")
        before, after = (
            json.loads(subprocess.run(["exiftool", "-j", "-G1", *groups, str(file)], capture_output=True).stdout)[0]
            for file in (photograph, tmp_path / f"out{suffix}")
        )
        changed = {key for key in before if after.get(key) != before[key]}
        assert all("Image" in key or key == "SourceFile" for key in changed), changed
        assert len(before) > 60


def test_datasets_written_as_swapped_numbers_are_read(tmp_path: Path) -> None:
    padded = IPTC + bytes(-len(IPTC) % 4)
    swapped = b"".join(padded[at : at + 4][::-1] for at in range(0, len(padded), 4))
    extra = [(33723, "B", len(swapped), swapped, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels(), photometric="rgb", extratags=extra, metadata=None)
    assert read_file_metadata(tmp_path / "a.tif").iptc == IPTC
