"""Skips a run of `ingest` in which nothing changed since the last one.

A hash covers everything the result depends on: version, configuration, table, and every file's name, size and
modification time. It counts only while the files that the last run wrote are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from capture.inspection.inspection_cache import CACHE_FILE
from sdd_toolkit.errors import SddError
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import resolve_inside, sha256_of, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from capture.config import IngestConfig
    from capture.inspection.scan import Scan

LAST_RUN_FILE = ".ingest-run.json"


def hash_state(scan: Scan, config: IngestConfig, table: Path | None) -> str:
    """64 hex digits that change with anything the result of a run depends on."""
    digest = hashlib.sha256(f"{__version__} {config.fingerprint()} {scan.root}".encode("utf-8", "surrogateescape"))
    if config.exiftool:
        from sdd_toolkit.metadata.exiftool import find_program

        digest.update(str(find_program()).encode())
    if table is not None:
        digest.update(f"{table.parent.resolve()} {sha256_of(table)}".encode("utf-8", "surrogateescape"))
    for file in scan.files:
        line = f"{file.name}\0{file.ref}\0{file.bytes}\0{file.modified_ns}\0"
        digest.update(line.encode("utf-8", "surrogateescape"))
    digest.update(repr([(entry.path, entry.reason, entry.detail) for entry in scan.rejected]).encode())
    digest.update(f"{scan.side_files}".encode())
    return digest.hexdigest()


def read_last_report(out: Path, state: str) -> Report | None:
    """The last run's report, with every readable file as `skipped`; None if the run must be repeated."""
    try:
        content = json.loads((out / LAST_RUN_FILE).read_text(encoding="utf-8"))
        written = {resolve_inside(out, name): digest for name, digest in content["written"].items()}
        if content["state"] != state or any(sha256_of(path) != digest for path, digest in written.items()):
            return None
        report = Report(**content["report"])
        unreadable = report.total - int(content["files"])
        outputs = tuple(str(out / name) for name in report.outputs)
        return replace(report, done=unreadable, skipped=int(content["files"]), outputs=outputs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SddError):
        return None


def save_run(out: Path, state: str, files: int, report: Report) -> None:
    """Saves the state and the report of a finished run; `files` is the number of inspected files."""
    names = tuple(os.path.basename(path) for path in report.outputs)
    content = {
        "state": state,
        "files": files,
        "written": {name: sha256_of(out / name) for name in (*names, CACHE_FILE)},
        # Resumed files and the duration are no part of the result.
        "report": asdict(replace(report, done=report.total, skipped=0, seconds=0.0, outputs=names)),
    }
    write_text(out / LAST_RUN_FILE, json.dumps(content) + "\n")
