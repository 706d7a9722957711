from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from capture.tether.journal import (
    FinishedFrame,
    FocusState,
    FrameInFlight,
    Journal,
    SessionState,
    new_header,
    remove_partial_files,
    session_lock,
)
from sdd_toolkit.errors import CameraError, InputError
from sdd_toolkit.records import Exposure
from tests.support.paths import ROOT

BLUR = FinishedFrame("a", "aperture", "blur", 1, "a/blur.nef", 3, "00", "f1", exif=Exposure(focus_m=float("inf")))
SHARP = replace(BLUR, role="sharp", file="a/sharp.nef", shot="f2")


def begun(folder: Path, *entries: FinishedFrame) -> Journal:
    journal = Journal(folder)
    journal.start(new_header("plan", "Camera", 0.01, 1))
    for taken in entries:
        journal.append(taken)
    return journal


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    begun(tmp_path, BLUR, SHARP)
    again = Journal(tmp_path)
    assert again.taken == {"a/blur": BLUR, "a/sharp": SHARP}
    assert again.header == new_header("plan", "Camera", 0.01, 1)


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_torn_last_line_is_left_out_and_all_others_stay(tmp_path: Path, kept: int) -> None:
    begun(tmp_path, BLUR, SHARP)
    path = tmp_path / "session.jsonl"
    path.write_bytes(path.read_bytes()[:-kept])
    again = Journal(tmp_path)
    assert list(again.taken) == (["a/blur", "a/sharp"] if kept == 1 else ["a/blur"])
    again.start(new_header("plan", "Camera", 0.01, 2))
    assert len(path.read_text().splitlines()) == 1 + len(again.taken)


def test_a_damaged_line_amid_others_is_refused_unless_all_is_to_be_shot_anew(tmp_path: Path) -> None:
    begun(tmp_path, BLUR, SHARP)
    path = tmp_path / "session.jsonl"
    path.write_text(path.read_text().replace('"blur"', "blur"))
    with pytest.raises(InputError, match="line 2 of"):
        Journal(tmp_path)
    assert Journal(tmp_path, lenient=True).taken == {}


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "session.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="is not the journal of a session"):
        Journal(tmp_path)


def test_a_frame_taken_again_stands_in_the_closed_journal_once(tmp_path: Path) -> None:
    journal = begun(tmp_path, BLUR, SHARP, replace(BLUR, sha256="11"))
    journal.close()
    lines = (tmp_path / "session.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert Journal(tmp_path).taken["a/blur"].sha256 == "11"


def test_what_is_under_way_is_remembered_until_its_line_is_written(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    flight = FrameInFlight("f1", ("/card/1.NEF",), {"f-number": "f/2"}, {"f-number": "f/2"}, Exposure(f_number=2.0))
    journal.save_state(SessionState(flight, FocusState("a", 40)))
    assert Journal(tmp_path).state == SessionState(flight, FocusState("a", 40))
    journal.append(BLUR)
    assert Journal(tmp_path).state == SessionState(lens=FocusState("a", 40))
    journal.save_state(SessionState())
    assert not (tmp_path / "session.state.json").exists()


def test_a_locked_folder_names_its_process_and_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom capture.tether.journal import session_lock\n"
        "with session_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CameraError, match=f"process {holder.pid}"), session_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with session_lock(tmp_path):
        assert (tmp_path / "session.lock").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "session.lock").exists()


def test_half_written_files_are_swept_and_whole_ones_stay(tmp_path: Path) -> None:
    for name in ("blur.nef.partial", "blur.nef"):
        (tmp_path / name).write_bytes(b"x")
    remove_partial_files([tmp_path, tmp_path / "missing"])
    assert [path.name for path in tmp_path.iterdir()] == ["blur.nef"]
