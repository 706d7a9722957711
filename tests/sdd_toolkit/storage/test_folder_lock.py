"""The lock on a folder: who holds it, and what is left of it."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from capture.tether.journal import session_lock
from sdd_toolkit.errors import InputError
from sdd_toolkit.storage.folder_lock import HOLDER, folder_lock
from tests.support.command_line import sdd_in_process
from tests.support.paths import ROOT

HOLDS = """
import subprocess, sys
from pathlib import Path
from sdd_toolkit.storage.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    if sys.argv[2:] == ["with a child"]:
        print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid, flush=True)
    sys.stdin.read()
"""


def holding(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(folder), *more]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_and_free_afterwards_with_nothing_left(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "set"
    with folder_lock(folder), pytest.raises(InputError, match="in use"), folder_lock(folder):
        pass
    assert not folder.parent.exists()
    folder.mkdir(parents=True)
    with folder_lock(folder):
        (folder / "mine").write_text("")
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_the_second_run_is_told_who_holds_the_folder_and_since_when(tmp_path: Path) -> None:
    first = holding(tmp_path)
    try:
        with pytest.raises(InputError) as caught, folder_lock(tmp_path):
            pass
        message = rf"{re.escape(str(tmp_path))} is in use by process {first.pid} on \S+ since 20\d\d-\d\d-\d\dT\S+: -c "
        assert re.match(message, caught.value.what)
        assert caught.value.exit_code == 2
    finally:
        first.communicate()
    with folder_lock(tmp_path):
        pass


def test_a_lock_ends_with_its_process_even_if_a_child_lives_on(tmp_path: Path) -> None:
    first = holding(tmp_path, "with a child")
    assert first.stdout is not None
    child = int(first.stdout.readline())
    try:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (tmp_path / HOLDER).exists()
        os.kill(child, 0)
        with folder_lock(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_unreadable_holder_is_named_as_far_as_it_goes(tmp_path: Path) -> None:
    first = holding(tmp_path)
    (tmp_path / HOLDER).write_text("rubbish")
    with pytest.raises(InputError, match="in use by another process"), folder_lock(tmp_path):
        pass
    first.communicate()


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "raw", "--out", "SET"),
        ("hotpixels", "none.jsonl", "--out", "SET"),
        ("fuse", "none.jsonl", "--out", "SET"),
        ("align", "none.jsonl", "--out", "SET"),
        ("filter", "none.jsonl", "--out", "SET"),
        ("pack", "none.jsonl", "--out", "SET"),
        ("card", "SET"),
        ("report", "none", "--out", "SET"),
        ("build", "sdd.toml", "--source", "raw", "--out", "SET"),
        ("capture", "simulate", "--out", "SET"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_that_writes_into_a_folder_asks_for_it_first(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "sdd.toml").write_text("")
    folder = tmp_path / "set"
    with folder_lock(folder):
        places = {"SET": folder, "sdd.toml": tmp_path / "sdd.toml"}
        done = sdd_in_process(*(places.get(word, word) for word in words), check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder} is in use by process {os.getpid()} on ")
    assert "Traceback" not in done.stderr


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        assert "no readable" in sdd_in_process("verify", tmp_path, check=False).stderr


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO"])
def test_a_file_system_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr("fcntl.flock", flock)
    for _ in range(2):
        with folder_lock(tmp_path / "set"):
            (tmp_path / "set" / "mine").write_text("")
        assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine"]
    with session_lock(tmp_path / "session"):
        pass
    assert caplog.text.count("this file system has no locks") == 3
    assert os.strerror(getattr(errno, code)) in caplog.text


def test_a_held_lock_is_still_noticed_if_the_system_says_so_by_another_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(InputError, match="in use"), folder_lock(tmp_path):
        pass
