"""All readers of files that may be untrusted or damaged, each with intact files to start from."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import tifffile

import alignment.config
import alignment.fusion.stage
import capture.config
import capture.virtual.config
from alignment.registration.masks import read_mask
from alignment.transforms import transform as transforms
from capture.inspection.inspection_cache import read_cache
from capture.pairing.pair_table import read_table
from capture.tether import journal, plan, plan_template
from sdd_toolkit.calibration import hot_pixel_map, lens_breathing
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.config import load_section
from sdd_toolkit.formats import containers, tiff
from sdd_toolkit.formats.decoding import decode_preview, read_values
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.frames.reading import read_mosaic
from sdd_toolkit.frames.writing import encode_image
from sdd_toolkit.imaging import residual_flow
from sdd_toolkit.metadata import exif, exif_block
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.pipeline import manifest, stage_runner
from sdd_toolkit.pipeline.dataset_folder import BuildConfig
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.raw.reading import read_preview
from sdd_toolkit.rearranging.conditions import matching_rows
from sdd_toolkit.records import Exposure, FrameMeta
from sdd_toolkit.report import stage as report
from sdd_toolkit.shards import ShardReader
from sdd_toolkit.shards.folder import intact_shards
from sdd_toolkit.shards.index import read_index, text_with_sha256
from tests.fuzz.cases import Target
from tests.sdd_toolkit.formats import test_maker_raw as maker
from tests.sdd_toolkit.raw.test_plain_dng import encode_float_dng

LENSES = {
    "format": "sdd-breathing",
    "version": 1,
    "lenses": [],
}


def everything_of(path: Path) -> None:
    """Reads a photograph completely: structure, metadata, half and full size."""
    meta = exif.read_meta(path)
    manifest.to_json(meta)
    containers.examine(path)
    frames.read_half(path)
    frames.read_full(path)


def all_of_shards(path: Path) -> None:
    """Reads every pair, window and patch of the folder of an index or a shard."""
    with ShardReader(path.parent) as reader:
        for shard in reader.shards:
            reader.header(shard)
            reader.groups(shard)
        assert reader.patches is not None
        for name in reader.pair_ids:
            reader.record(name)
            reader.read(name)
            reader.read_window(name, 0, 0, 8, 8)


def sections_of(path: Path) -> None:
    """Every section of a configuration."""
    for section, name in (
        (BuildConfig, "build"),
        (capture.config.IngestConfig, "ingest"),
        (DevelopConfig, "develop"),
        (alignment.fusion.stage.FuseConfig, "fuse"),
        (alignment.config.AlignConfig, "align"),
        (FilterConfig, "filter"),
        (PackConfig, "pack"),
        (CardConfig, "card"),
        (report.ReportConfig, "report"),
        (capture.virtual.config.SimulateConfig, "simulate"),
    ):
        load_section(section, name, path).fingerprint()


def resealed(content: bytes) -> bytes:
    """An index with its own checksum put right, so that the case reaches what comes after it."""
    try:
        parsed = json.loads(content)
        parsed.pop("sha256", None)
        return text_with_sha256(parsed).encode("utf-8", "surrogatepass")
    except (ValueError, AttributeError, RecursionError):
        return content


def directories_of(path: Path) -> None:
    """Every directory of TIFF-like data with its numbers and texts, and whether the file holds all they promise."""
    with path.open("rb") as stream, suppress(EOFError):
        opened = tiff.open_tiff(tiff.reader(stream))
        for directory in () if opened is None else tiff.iterate_directories(opened):
            for entry in directory.values():
                tiff.read_numbers(opened, entry)
                tiff.read_text(opened, entry)
    containers.examine(path)


def condition_of(path: Path) -> None:
    """A condition of `sdd subset --where` on a table of numbers, truths and texts."""
    columns = {
        "blur_gain": np.array([1.0, np.nan]),
        "keep": np.array([True, False]),
        "lens": np.array(["EF 50mm", ""]),
    }
    matching_rows(path.read_bytes().decode("utf-8", "surrogateescape"), columns)


def journal_of(path: Path) -> None:
    """The journal of a session and what is under way."""
    journal.Journal(path.parent)


def block(orientation: int = 1) -> bytes:
    """An EXIF block with everything in it."""
    exposure = Exposure(200.0, 0.01, 2.8, 50.0, 1.5)
    meta = FrameMeta("Canon", "EOS", "EF 50mm", "2024-05-01T10:00:00", orientation, (48, 64), exposure, "+02:00", "12")
    return exif_block.build_block(meta)


def with_note(maker: bytes) -> bytes:
    """A TIFF-like file whose Exif directory holds a MakerNote that begins like the maker's."""
    note = maker + struct.pack("<H", 2) + struct.pack("<HHII", 0x95, 2, 8, 200) + struct.pack("<HHII", 4, 3, 40, 210)
    note += struct.pack("<I", 0) + bytes(range(120))
    head = b"II*\0" + struct.pack("<I", 8)
    make = struct.pack("<HHII", 271, 2, 6, 120)
    exif_pointer = struct.pack("<HHII", 34665, 4, 1, 50)
    first = struct.pack("<H", 2) + make + exif_pointer + struct.pack("<I", 0)
    exif_directory = struct.pack("<H", 1) + struct.pack("<HHII", 37500, 7, len(note), 140) + struct.pack("<I", 0)
    body = head + first
    body = body.ljust(50, b"\0") + exif_directory
    return body.ljust(120, b"\0") + b"Canon\0".ljust(20, b"\0") + note


def pictures() -> dict[str, bytes]:
    """The same small picture as JPEG with EXIF, PNG and TIFF."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    deep = bytes(cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1])
    plain, packed = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(plain, pixels, photometric="rgb")
    tifffile.imwrite(packed, pixels.astype(np.uint16), photometric="rgb", compression="zlib", predictor=True)
    return {
        "jpg": encode_image(Path("a.jpg"), pixels, block(6)),
        "png": encode_image(Path("a.png"), pixels, block()),
        "deep": deep,
        "tif": plain.getvalue(),
        "zip": packed.getvalue(),
    }


def iso_media() -> bytes:
    """A CR3-like file: boxes, an EXIF block of Canon's, a sample table."""

    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body) + 8) + name + body

    metadata = box(
        b"uuid", bytes.fromhex("85c0b687820f11e08111f4ce462b6a48") + box(b"CMT1", block()) + box(b"CMT2", block())
    )
    table = box(b"stsz", struct.pack(">IIII", 0, 0, 1, 64)) + box(b"co64", struct.pack(">IIQ", 0, 1, 40))
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table))))
    return box(b"ftyp", b"crx \0\0\0\1") + box(b"moov", metadata + track) + box(b"mdat", bytes(256))


def raf() -> bytes:
    """A RAF-like file: header, embedded JPEG, mosaic."""
    jpeg = pictures()["jpg"]
    places = struct.pack(">6I", 160, len(jpeg), 160 + len(jpeg), 16, 176 + len(jpeg), 64)
    return b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + places.ljust(76, b"\0") + jpeg + bytes(80)


def flow_file() -> bytes:
    """A residual flow as `sdd align` stores it, for a frame of 48 x 64."""
    buffer = io.BytesIO()
    weights = np.zeros((12, 16), np.uint8)
    np.savez_compressed(buffer, flow=np.zeros((12, 16, 2), np.float16), confidence=weights, occlusion=weights)
    return buffer.getvalue()


def float_dngs() -> tuple[bytes, ...]:
    """A small floating-point DNG, as it is and deflated in tiles."""
    values = np.random.default_rng(4).random((24, 32, 1)).astype(np.float32)
    return encode_float_dng(values), encode_float_dng(values, bits=24, predictor=3, deflate=True, tile=16)


def maker_raws() -> tuple[bytes, ...]:
    """Headers and tables of makers' own containers."""
    makers = (maker.minolta(), maker.sigma(), maker.phase_one(), maker.canon())
    return (*makers, maker.panasonic(4, 12, 500), maker.panasonic(6, 14, 500, 1))


def targets(whole: Path, raw: bytes) -> tuple[Target, ...]:
    """All targets.

    Args:
        whole: A folder that a build without a fault wrote.
        raw: A small DNG file.
    """
    lines = (whole / "aligned.jsonl").read_bytes()
    shards = whole / "shards"
    index = (shards / "index.json").read_bytes()
    parsed = json.loads(index)
    note = json.dumps({"plan": "p", "shard": parsed["shards"][0], "failed": []}).encode()
    seen = pictures()
    aligned = manifest.read_manifest(whole / "aligned.jsonl").records[0]
    found = aligned.alignment
    assert found is not None
    transform = json.dumps(json.loads(_transform_text(whole)), allow_nan=False).encode()
    toml = (whole.parent / "sdd.toml").read_bytes() + b'[ingest]\npairing = "focus"\n[card]\nauthors = ["A"]\n[fuse]\n'
    shot_list = plan_template.render_template(2, "aperture").encode()
    session = _session()
    name = parsed["shards"][0]["name"]
    return (
        Target("manifest", "m.jsonl", (lines,), manifest.read_manifest, structured=True),
        Target("index", "i/index.json", (index,), lambda path: read_index(path.parent), structured=True),
        Target("sealed index", "s/index.json", (index,), all_of_shards, structured=True, seal=resealed),
        Target(
            "note",
            f"n/{name}.json",
            (note,),
            lambda path: intact_shards(path.parent, {name: "p"}, {name: ()}),
            structured=True,
        ),
        Target("stage journal", "j.journal", (lines,), stage_runner._read_journal, structured=True),
        Target("ingest memory", "memory.jsonl", ((whole / ".ingest-files.jsonl").read_bytes(),), read_cache, True),
        Target("shard", f"h/{name}", ((shards / name).read_bytes(),), all_of_shards),
        Target("TIFF directories", "t.dng", (raw, seen["tif"], seen["zip"], block()[6:]), directories_of),
        Target(
            "condition",
            "w.txt",
            (b"blur_gain > 2 and not keep", b"lens in ['EF 50mm', ''] or '50' in lens", b"-blur_gain // 2 % 3 <= 1e3"),
            condition_of,
        ),
        Target("EXIF in JPEG", "e.jpg", (seen["jpg"],), exif.read_meta),
        Target(
            "EXIF and MakerNotes",
            "e.dng",
            (
                *(
                    with_note(maker)
                    for maker in (b"", b"OLYMPUS\0II\3\0", b"Panasonic\0\0\0", b"Nikon\0\2\x10\0\0II*\0\x08\0\0\0")
                ),
                block()[6:],
            ),
            exif.read_meta,
        ),
        Target("EXIF in ISO media", "e.cr3", (iso_media(),), exif.read_meta),
        Target("EXIF in RAF", "e.raf", (raf(),), exif.read_meta),
        Target("JPEG", "p.jpg", (seen["jpg"],), everything_of),
        Target("PNG", "p.png", (seen["png"], seen["deep"]), everything_of),
        Target("TIFF", "p.tif", (seen["tif"], seen["zip"]), everything_of),
        Target("values", "v.png", (seen["png"], seen["tif"], seen["deep"]), read_values),
        Target("mask", "k.png", (seen["png"],), lambda path: read_mask(path, (48, 64))),
        Target("preview", "q.jpg", (seen["jpg"],), lambda path: decode_preview(path.read_bytes(), 16)),
        Target("RAW", "r.dng", (raw,), everything_of),
        Target("floating-point RAW", "f.dng", float_dngs(), everything_of),
        Target("makers' tables", "m.raw", maker_raws(), containers.examine),
        Target("RAW preview", "w.dng", (raw,), lambda path: (read_preview(path, 16), read_mosaic(path))),
        Target("configuration", "c.toml", (toml,), sections_of),
        Target(
            "table of pairs",
            "t.csv",
            (b'blur,sharp,scene,id\na.dng,b.dng,s,1\n\xc3\xa4,"b\n",,\n',),
            lambda path: read_table(path, [path.parent]),
        ),
        Target("session journal", "y/session.jsonl", (session,), journal_of, structured=True),
        Target("shot list", "l.toml", (shot_list,), plan.read_plan),
        Target("transform", "f.json", (transform,), transforms.read_transform, structured=True),
        Target("lens models", "b.json", (json.dumps(LENSES).encode(),), lens_breathing.read_models, structured=True),
        Target(
            "hot pixels",
            "x.json",
            ((whole / "hot_pixels.json").read_bytes(),),
            hot_pixel_map.read_hot_pixels,
            structured=True,
        ),
        Target("residual flow", "o.npz", (flow_file(),), lambda path: residual_flow.read_residual_flow(path, (48, 64))),
        Target(
            "report",
            "d/filtered.jsonl",
            ((whole / "filtered.jsonl").read_bytes(),),
            lambda path: report.find_inputs(path.parent),
            structured=True,
        ),
    )


def _transform_text(whole: Path) -> str:
    record = manifest.read_manifest(whole / "aligned.jsonl").records[0]
    path = whole.parent / "transform.json"
    transforms.write_transform(path, transforms.from_pair(record))
    return path.read_text()


def _session() -> bytes:
    header = journal.new_header("plan", "camera", 0.01, 1)
    taken = journal.FinishedFrame("scene", "focus", "blur", 1, "scene/blur.dng", 3, "a" * 64, "b")
    return "".join(map(journal._to_line, (header, taken))).encode()


__all__ = ["targets"]
