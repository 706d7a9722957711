"""What a session knows on disk: `session.jsonl`, a line for each finished frame, and the one frame in flight.

A frame's line is written only after its files are whole on the disk, and is forced to the disk itself. What is under
way stands in `session.state.json`: the frame the camera was armed for, what lay on its card before, and, as soon as
the bytes have arrived, their hashes. From these two a killed session knows of every frame whether it is finished, saved
but not noted down, still on the camera, or not taken.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from capture.tether.shot_check import FrameCheck, PairCheck
from sdd_toolkit.errors import CameraError, InputError
from sdd_toolkit.records import Exposure, FileRef
from sdd_toolkit.storage.files import PARTIAL, sync_to_disk, write_error, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

JOURNAL, STATE, LOCK = "session.jsonl", "session.state.json", "session.lock"
FORMAT = "sdd-session"


@dataclass(frozen=True, slots=True)
class Header:
    """First line of `session.jsonl`.

    Attributes:
        format: Always `sdd-session`.
        version: Toolkit that began the session.
        plan: Fingerprint of the plan.
        camera: Model of the camera.
        shutter_s: Time the camera was set to at the start: base of scenes that name none.
        runs: How many runs have connected to the camera for it.
    """

    format: str
    version: str
    plan: str
    camera: str
    shutter_s: float | None = None
    runs: int = 1


@dataclass(frozen=True, slots=True)
class FinishedFrame:
    """One finished frame: a line of `session.jsonl`.

    Attributes:
        scene: Scene of the plan.
        kind: `aperture` or `focus`.
        role: `blur` or `sharp`.
        repeat: Which time it was taken.
        file: Path below the session's folder.
        bytes: Its size.
        sha256: Its hash.
        shot: Fingerprint of the frame in the plan.
        also: Files the camera made beside it (the JPEG of RAW+JPEG).
        asked: Settings by the camera's names, as the camera was asked for them.
        held: The same settings as the camera said them afterwards.
        residual_ev: By how much the shutter time misses equal exposure; None if it was left alone.
        focus_steps: Focus drive from the scene's start; None if it was left alone.
        exif: What the file tells.
        frame: Its check; None if it was not checked or cannot be read.
        pair: The check against the scene's other frame, once that is there.
        warnings: What is to be said about it.
        camera: Model.
        time: When it was finished, ISO 8601 with offset.
        recovered: Whether it was fetched from the camera, or adopted from the disk, after an interruption.
        run: Which run triggered it, from 1.
    """

    scene: str
    kind: str
    role: str
    repeat: int
    file: str
    bytes: int
    sha256: str
    shot: str
    also: tuple[FileRef, ...] = ()
    asked: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    residual_ev: float | None = None
    focus_steps: int | None = None
    exif: Exposure = field(default_factory=Exposure)
    frame: FrameCheck | None = None
    pair: PairCheck | None = None
    warnings: tuple[str, ...] = ()
    camera: str = ""
    time: str = ""
    recovered: bool = False
    run: int = 1

    @property
    def files(self) -> tuple[FileRef, ...]:
        """The frame and what came beside it."""
        return (FileRef(self.file, self.bytes, self.sha256), *self.also)


@dataclass(frozen=True, slots=True)
class FrameInFlight:
    """The frame under way.

    Attributes:
        shot: Its fingerprint.
        before: Files on the camera before it.
        asked: As in `Taken`.
        held: As in `Taken`.
        exposure: What was set, as numbers.
        residual_ev: As in `Taken`.
        warnings: Said already.
        run: As in `Taken`.
        files: What is being written, RAW first; empty until the bytes have arrived.
    """

    shot: str
    before: tuple[str, ...]
    asked: dict[str, str]
    held: dict[str, str]
    exposure: Exposure
    residual_ev: float | None = None
    warnings: tuple[str, ...] = ()
    run: int = 1
    files: tuple[FileRef, ...] = ()


@dataclass(frozen=True, slots=True)
class FocusState:
    """Where the focus drive stands.

    Attributes:
        scene: Scene the steps are counted in.
        at: Steps from the scene's start.
        moving_to: Where a move was to end that has not been seen to end.
    """

    scene: str
    at: int = 0
    moving_to: int | None = None


@dataclass(frozen=True, slots=True)
class SessionState:
    """All that is under way."""

    flight: FrameInFlight | None = None
    lens: FocusState | None = None


_HEADER, _TAKEN, _STATE = TypeAdapter(Header), TypeAdapter(FinishedFrame), TypeAdapter(SessionState)


class Journal:
    """The journal of the session in `folder`; for the one process that holds its lock.

    Args:
        folder: The session's folder.
        lenient: Begins anew where the journal is damaged.

    Raises:
        InputError: The journal is damaged, or is none.
    """

    def __init__(self, folder: Path, *, lenient: bool = False) -> None:
        self.folder = folder
        self.header: Header | None = None
        self.taken: dict[str, FinishedFrame] = {}
        self.state = SessionState()
        self._lines = 0
        try:
            self._read()
        except InputError:
            # Everything is to be shot again anyway.
            if not lenient:
                raise

    def start(self, header: Header) -> None:
        """Writes the journal with `header` first, without torn lines and those that later ones replaced."""
        self.header = header
        self.compact()

    def compact(self) -> None:
        """Rewrites the journal so that each file stands in it once."""
        if self.header is not None:
            lines = [_to_line(self.header), *map(_to_line, self.taken.values())]
            write_text(self.folder / JOURNAL, "".join(lines))
            self._lines = len(self.taken)

    def append(self, taken: FinishedFrame) -> None:
        """Notes a finished frame down, on the disk when this returns, and ends its flight."""
        path = self.folder / JOURNAL
        try:
            with path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(_to_line(taken))
            sync_to_disk(path)
        except OSError as error:
            raise write_error(path, error) from error
        self.taken[_stem(taken.file)] = taken
        self._lines += 1
        self.save_state(SessionState(lens=self.state.lens))

    def save_state(self, state: SessionState) -> None:
        """Notes down what is under way."""
        self.state = state
        if state == SessionState():
            (self.folder / STATE).unlink(missing_ok=True)
        else:
            write_text(self.folder / STATE, json.dumps(asdict(state)) + "\n")

    def close(self) -> None:
        """Leaves one line a file."""
        if self._lines != len(self.taken):
            self.compact()

    def _read(self) -> None:
        path = self.folder / JOURNAL
        if path.is_file():
            first, *lines = path.read_bytes().split(b"\n")
            try:
                self.header = _HEADER.validate_json(first)
            except ValidationError as error:
                raise InputError(
                    f"{path} is not the journal of a session", hint="choose another folder for this one"
                ) from error
            for number, line in enumerate(lines, 2):
                self._take_over(path, number, line, torn=number == len(lines) + 1)
        self.state = self._state()

    def _take_over(self, path: Path, number: int, line: bytes, *, torn: bool) -> None:
        if not line:
            return
        try:
            taken = _TAKEN.validate_json(line)
        except ValidationError as error:
            # A kill tears the last line and no other; its frame is then found through the state file.
            if not torn:
                raise InputError(
                    f"line {number} of {path} is damaged", hint="restore the file, or choose another folder"
                ) from error
            return
        self.taken[_stem(taken.file)] = taken
        self._lines += 1

    def _state(self) -> SessionState:
        try:
            return _STATE.validate_json((self.folder / STATE).read_bytes())
        except (OSError, ValidationError):
            return SessionState()


def new_header(plan: str, camera: str, shutter_s: float | None, runs: int) -> Header:
    """The header a run writes."""
    return Header(format=FORMAT, version=__version__, plan=plan, camera=camera, shutter_s=shutter_s, runs=runs)


@contextmanager
def session_lock(folder: Path) -> Iterator[None]:
    """Holds the session's folder for this process; the system frees it when the process dies, however it dies.

    Raises:
        CameraError: Another run holds it; the message names its process.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = _own(path)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(stream)


def remove_partial_files(paths: Iterable[Path]) -> None:
    """Removes half-written files that a kill left in `paths`, the session's folders."""
    for folder in paths:
        for leftover in folder.glob(f"*{PARTIAL}") if folder.is_dir() else ():
            leftover.unlink(missing_ok=True)


def _own(path: Path) -> int:
    while True:
        stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(stream, 64).decode(errors="replace").strip() or "unknown"
            os.close(stream)
            raise CameraError(
                f"another run is shooting into {path.parent}: process {holder}", hint="wait for it, or stop it"
            ) from error
        # The holder before may have removed the name just now: then this lock is on a file nobody else will find.
        if path.exists() and os.path.samestat(os.fstat(stream), os.stat(path)):
            os.truncate(stream, 0)
            os.pwrite(stream, f"{os.getpid()}\n".encode(), 0)
            return stream
        os.close(stream)


def _to_line(record: Header | FinishedFrame) -> str:
    return json.dumps(asdict(record)) + "\n"


def _stem(file: str) -> str:
    return file.rpartition(".")[0] if "." in file.rpartition("/")[2] else file
