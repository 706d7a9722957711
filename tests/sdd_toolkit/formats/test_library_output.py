"""Output of libraries becomes part of an error; what others print goes on to the terminal."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import examine
from sdd_toolkit.formats.decoding import read_image, read_values
from sdd_toolkit.formats.library_output import library_output


def test_lines_of_libraries_are_kept_and_those_of_others_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with library_output() as said:
        os.write(2, b"Corrupt JPEG data: premature end of data segment\n")
        os.write(2, b"  align ---- 3/7\r\n")
        os.write(2, b"[ERROR:0@1.290] global grfmt_tiff.cpp:117 TIFF_Error ZIPDecode: bad data\n")
        os.write(2, b"/photos/a.nef: Unexpected end of file\n")
    assert len(said.lines) == 3
    assert said.summary == "Corrupt JPEG data: premature end of data segment; ZIPDecode: bad data"
    assert capfd.readouterr().err == "  align ---- 3/7\r\n"


def test_the_summary_holds_neither_times_nor_paths() -> None:
    with library_output() as said:
        os.write(2, b"[ WARN:0@17.034] global grfmt_tiff.cpp:123 TIFF_Warning TIFFReadDirectory: odd\n")
        os.write(2, b"/photos/a.nef: Unexpected end of file\n")
    assert said.summary == "TIFFReadDirectory: odd; Unexpected end of file"


def test_standard_error_is_restored_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), library_output() as said:
        os.write(2, b"libpng error: Not enough image data\n")
        raise RuntimeError
    os.write(2, b"after\n")
    assert (said.summary, capfd.readouterr().err) == ("libpng error: Not enough image data", "after\n")


def test_nested_blocks_are_a_mistake() -> None:
    with library_output(), pytest.raises(RuntimeError, match="nested"), library_output():
        pass


def test_nothing_that_another_thread_writes_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    lines = [f"log line {number}\n" for number in range(300)]

    def write() -> None:
        for line in lines:
            os.write(2, line.encode())
            time.sleep(0.0001)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        with library_output():
            os.write(2, b"libpng error: x\n")
    writer.join()
    with library_output():  # passes on what the thread finished after a block had ended
        pass
    assert sorted(capfd.readouterr().err.splitlines(keepends=True)) == sorted(lines)


def test_a_tiff_whose_strips_do_not_decode_is_refused_with_what_the_library_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=8)
    with tifffile.TiffFile(path) as container:
        place = container.pages[0].dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[place : place + 500] = bytes(500)
    path.write_bytes(bytes(content))
    examine(path)
    own = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for read in (read_image, read_values):
        with pytest.raises(RawError, match="is damaged: ZIPDecode: Decoding error at scanline 40"):
            read(path)
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    cv2.utils.logging.setLogLevel(own)
    assert capfd.readouterr().err == ""
