"""Small files that claim to be huge are refused, and the process stays small."""

from __future__ import annotations

import io
import json
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np

from sdd_toolkit.errors import SddError
from sdd_toolkit.imaging import residual_flow
from tests.faults import builds
from tests.fuzz.cases import MEMORY_LIMIT_BYTES, limit_memory
from tests.sdd_toolkit.formats.test_containers import claiming

MOST_BYTES = 400 << 20


def bombs(raw: bytes) -> dict[str, bytes]:
    """Names and contents."""
    dng = bytearray(raw)
    for code in (256, 257):
        place = next(at for at in range(len(dng) - 12) if struct.unpack_from("<HH", dng, at) in ((code, 3), (code, 4)))
        struct.pack_into("<HHII", dng, place, code, 4, 1, 40_000)
    entries = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 2**32) + bytes(64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "<f4", "fortran_order": False, "shape": (20_000, 20_000, 2)}
        )
        archive.writestr("flow.npy", head.getvalue() + bytes(64 << 20))
    return {
        "billion.dng": bytes(dng),
        "entries.dng": entries,
        "entries.tif": entries,
        "wide.png": claiming(".png", 60_000, 60_000),
        "wide.jpg": claiming(".jpg", 60_000, 60_000),
        "wide.tif": claiming(".tif", 60_000, 60_000),
        "under.jpg": claiming(".jpg", 20_000, 20_000)[:-40],
        "flow.npz": buffer.getvalue(),
    }


def open_all(raw: bytes, folder: Path) -> None:
    """In a child: reads every bomb, writes down what was not refused and how large the process grew."""
    from tests.fuzz.targets import everything_of

    contents = bombs(raw)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    del contents
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    opened = []
    for path in sorted(folder.iterdir()):
        try:
            residual_flow.read_residual_flow(path, (48, 64)) if path.suffix == ".npz" else everything_of(path)
            opened.append(path.name)
        except SddError:
            continue
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    (folder / "result.json").write_text(json.dumps([opened, grown]))


def test_files_that_claim_to_be_huge_are_refused_by_a_process_that_stays_small(
    intact: tuple[Path, bytes], tmp_path: Path
) -> None:
    assert builds.in_child(open_all, intact[1], tmp_path) == 0
    opened, grown = json.loads((tmp_path / "result.json").read_text())
    assert opened == []
    assert grown < MOST_BYTES < MEMORY_LIMIT_BYTES
