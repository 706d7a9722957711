"""The state of the files a run looked at, so that a run in which nothing changed ends at once.

The state is a hash of everything the outcome depends on: version, configuration, table, and every file's name, size
and modification time. It is only believed while the files that run wrote are still as it wrote them.
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


def hash_state(listing: Scan, config: IngestConfig, table: Path | None) -> str:
    """64 hex digits that change with anything the outcome of a run depends on."""
    digest = hashlib.sha256(f"{__version__} {config.fingerprint()} {listing.root}".encode("utf-8", "surrogateescape"))
    if config.exiftool:
        from sdd_toolkit.metadata.exiftool import program

        digest.update(str(program()).encode())
    if table is not None:
        digest.update(f"{table.parent.resolve()} {sha256_of(table)}".encode("utf-8", "surrogateescape"))
    for file in listing.files:
        line = f"{file.name}\0{file.ref}\0{file.bytes}\0{file.modified_ns}\0"
        digest.update(line.encode("utf-8", "surrogateescape"))
    digest.update(repr([(entry.path, entry.reason, entry.detail) for entry in listing.rejected]).encode())
    return digest.hexdigest()


def read_last_report(out: Path, state: str) -> Report | None:
    """What the last run reported, every readable file now `skipped`; None if it must be done again."""
    try:
        told = json.loads((out / LAST_RUN_FILE).read_text(encoding="utf-8"))
        written = {resolve_inside(out, name): digest for name, digest in told["written"].items()}
        if told["state"] != state or any(sha256_of(path) != digest for path, digest in written.items()):
            return None
        report = Report(**told["report"])
        listed = report.total - int(told["files"])
        outputs = tuple(str(out / name) for name in report.outputs)
        return replace(report, done=listed, skipped=int(told["files"]), outputs=outputs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SddError):
        return None


def save_run(out: Path, state: str, files: int, report: Report) -> None:
    """Remembers a finished run; `files` is how many files it looked into."""
    names = tuple(os.path.basename(path) for path in report.outputs)
    told = {
        "state": state,
        "files": files,
        "written": {name: sha256_of(out / name) for name in (*names, CACHE_FILE)},
        # What was resumed and how long it took is not part of the outcome.
        "report": asdict(replace(report, done=report.total, skipped=0, seconds=0.0, outputs=names)),
    }
    write_text(out / LAST_RUN_FILE, json.dumps(told) + "\n")
