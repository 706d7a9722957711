"""The journal of a capture session on disk: finished frames in `session.jsonl`, the frame in flight in a state file.

A frame's line is written only after its files are complete on the disk, and is itself forced to the disk. The frame in
flight is in `session.state.json`: the frame for which the camera was armed, the files that were on its card before,
and, as soon as the bytes have arrived, their hashes. After a kill, these two files show for every frame whether it is
finished, saved but not in the journal, still on the camera, or not taken.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from capture.tether.shot_check import FrameCheck, PairCheck
from sdd_toolkit.errors import CameraError, InputError
from sdd_toolkit.records import Exposure, FileRef
from sdd_toolkit.storage.files import PARTIAL, sync_to_disk, write_error, write_text
from sdd_toolkit.storage.folder_lock import lock_file
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
        version: Version of the toolkit that started the session.
        plan: Fingerprint of the plan.
        camera: Model of the camera.
        shutter_s: Shutter time of the camera at the start, in seconds: used for scenes without one in the plan.
        runs: Number of runs that have connected to the camera.
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
        repeat: Number of the repetition, from 1.
        file: Path below the session's folder.
        bytes: Size of the file.
        sha256: Hash of the file.
        shot: Fingerprint of the frame in the plan.
        also: Further files of the same exposure (the JPEG of RAW+JPEG).
        asked: Settings by the camera's names, as requested.
        held: The same settings as read back from the camera.
        residual_ev: Deviation of the shutter time from equal exposure, in stops; None if it was not set.
        focus_steps: Position of the focus drive from the scene's start; None if it was not moved.
        exif: Exposure settings in the file's EXIF.
        frame: Check of the frame; None if it was not checked or cannot be read.
        pair: Check against the scene's other frame; None before that is taken.
        warnings: Warnings about the frame.
        camera: Model of the camera.
        time: Time at which it was finished, ISO 8601 with offset.
        recovered: Whether it was fetched from the camera, or adopted from the disk, after an interruption.
        run: Number of the run that triggered it, from 1.
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
        """The frame, then the further files of the same exposure."""
        return (FileRef(self.file, self.bytes, self.sha256), *self.also)


@dataclass(frozen=True, slots=True)
class FrameInFlight:
    """The frame for which the camera was armed, until it is finished.

    Attributes:
        shot: Fingerprint of the frame in the plan.
        before: Files on the camera before the exposure.
        asked: As in `FinishedFrame`.
        held: As in `FinishedFrame`.
        exposure: The settings as numbers.
        residual_ev: As in `FinishedFrame`.
        warnings: Warnings so far.
        run: As in `FinishedFrame`.
        files: The files being written, RAW first; empty until the bytes have arrived.
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
    """Position of the focus drive.

    Attributes:
        scene: Scene in which the steps are counted.
        at: Steps from the scene's start.
        moving_to: Target of a move whose end is not confirmed; None if there is none.
    """

    scene: str
    at: int = 0
    moving_to: int | None = None


@dataclass(frozen=True, slots=True)
class SessionState:
    """Content of the state file: the frame in flight and the position of the focus."""

    flight: FrameInFlight | None = None
    lens: FocusState | None = None


_HEADER, _FRAME, _STATE = TypeAdapter(Header), TypeAdapter(FinishedFrame), TypeAdapter(SessionState)


class Journal:
    """The journal of the session in `folder`, for the one process that holds its lock.

    Args:
        folder: The session's folder.
        lenient: Starts with an empty journal where the file is damaged.

    Attributes:
        folder: The session's folder.
        header: First line; None in a new session.
        taken: Finished frames by their path without extension.
        state: The frame in flight and the focus.

    Raises:
        InputError: The file is damaged, or is no journal.
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
        """Writes the journal with `header` first, without torn and superseded lines."""
        self.header = header
        self.compact()

    def compact(self) -> None:
        """Rewrites the journal with one line a file."""
        if self.header is not None:
            lines = [_to_line(self.header), *map(_to_line, self.taken.values())]
            write_text(self.folder / JOURNAL, "".join(lines))
            self._lines = len(self.taken)

    def append(self, frame: FinishedFrame) -> None:
        """Appends a finished frame, forces it to the disk, and ends its flight."""
        path = self.folder / JOURNAL
        try:
            with path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(_to_line(frame))
            sync_to_disk(path)
        except OSError as error:
            raise write_error(path, error) from error
        self.taken[_stem(frame.file)] = frame
        self._lines += 1
        self.save_state(replace(self.state, flight=None))

    def save_state(self, state: SessionState) -> None:
        """Writes the state file, or removes it if `state` is empty."""
        self.state = state
        if state == SessionState():
            (self.folder / STATE).unlink(missing_ok=True)
        else:
            write_text(self.folder / STATE, json.dumps(asdict(state)) + "\n")

    def save_flight(self, flight: FrameInFlight | None) -> None:
        """Writes the state file with another frame in flight; with None, no frame is expected from the camera."""
        self.save_state(replace(self.state, flight=flight))

    def save_focus(self, focus: FocusState | None) -> None:
        """Writes the state file with another position of the focus."""
        self.save_state(replace(self.state, lens=focus))

    def close(self) -> None:
        """Compacts the journal if it has superseded lines."""
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
                self._read_line(path, number, line, is_last=number == len(lines) + 1)
        self.state = self._read_state()

    def _read_line(self, path: Path, number: int, line: bytes, *, is_last: bool) -> None:
        if not line:
            return
        try:
            frame = _FRAME.validate_json(line)
        except ValidationError as error:
            # A kill can tear only the last line; its frame is then found through the state file.
            if not is_last:
                raise InputError(
                    f"line {number} of {path} is damaged", hint="restore the file, or choose another folder"
                ) from error
            return
        self.taken[_stem(frame.file)] = frame
        self._lines += 1

    def _read_state(self) -> SessionState:
        try:
            return _STATE.validate_json((self.folder / STATE).read_bytes())
        except (OSError, ValidationError):
            return SessionState()


def new_header(plan: str, camera: str, shutter_s: float | None, runs: int) -> Header:
    """The header that a run writes."""
    return Header(format=FORMAT, version=__version__, plan=plan, camera=camera, shutter_s=shutter_s, runs=runs)


@contextmanager
def session_lock(folder: Path) -> Iterator[None]:
    """Locks the session's folder for this process; the system releases the lock when the process ends or is killed.

    Raises:
        CameraError: Another run holds it; the message names its process.
    """
    from filelock import Timeout  # only a run of the camera needs it

    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_file(path)
        path.write_text(f"{os.getpid()}\n")
    except Timeout as error:
        raise CameraError(
            f"another run is shooting into {folder}: process {_lock_holder(path)}", hint="wait for it, or stop it"
        ) from error
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        # Before the release: afterwards the file may be another run's.
        path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def remove_partial_files(folders: Iterable[Path]) -> None:
    """Removes the partial files that a killed run left in `folders`."""
    for folder in folders:
        for partial in folder.glob(f"*{PARTIAL}") if folder.is_dir() else ():
            partial.unlink(missing_ok=True)


def _lock_holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


def _to_line(record: Header | FinishedFrame) -> str:
    return json.dumps(asdict(record)) + "\n"


def _stem(file: str) -> str:
    return file.rpartition(".")[0] if "." in file.rpartition("/")[2] else file
