"""The number of cases of each fuzzing target, and the function that runs them in a forked child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.fuzz.cases import Target, attack

CASES: Mapping[str, int] = {
    "manifest": 1500,
    "index": 800,
    "sealed index": 800,
    "note": 300,
    "stage journal": 300,
    "ingest memory": 300,
    "shard": 500,
    "TIFF directories": 300,
    "condition": 500,
    "EXIF in JPEG": 500,
    "EXIF and MakerNotes": 1000,
    "EXIF in ISO media": 300,
    "EXIF in RAF": 300,
    "JPEG": 400,
    "PNG": 400,
    "TIFF": 400,
    "values": 200,
    "mask": 100,
    "preview": 100,
    "RAW": 500,
    "floating-point RAW": 300,
    "makers' tables": 200,
    "RAW preview": 200,
    "configuration": 500,
    "table of pairs": 300,
    "session journal": 300,
    "shot list": 400,
    "transform": 400,
    "lens models": 300,
    "hot pixels": 300,
    "residual flow": 300,
    "report": 300,
    "checkpoint header": 300,
    "checkpoint weights": 200,
}
LEAST_REFUSED: Mapping[str, float] = {
    # These skip what they cannot read and go on.
    "note": 0,
    "stage journal": 0,
    "ingest memory": 0,
    "preview": 0,
    "EXIF in JPEG": 0,
    "EXIF and MakerNotes": 0,
    "EXIF in ISO media": 0,
    "EXIF in RAF": 0,
    "RAW preview": 0,
    "mask": 0,
    "values": 0,
}


def run(whole: Path, raw: bytes, name: str, first: int, cases: int, folder: Path) -> None:
    """Runs cases of one target, in a child; see `cases.attack`."""
    attack(target_of(whole, raw, name), range(first, first + cases), folder)


def run_one(whole: Path, raw: bytes, name: str, content: bytes, folder: Path) -> None:
    """Reads one given content as a case of its target, in a child."""
    target = replace(target_of(whole, raw, name), fixed=content)
    attack(target, range(1), folder)


def target_of(whole: Path, raw: bytes, name: str) -> Target:
    """The target of this name."""
    if name.startswith("checkpoint"):
        from tests.fuzz import checkpoint_targets

        known = checkpoint_targets.targets()
    else:
        from tests.fuzz.targets import targets

        known = targets(whole, raw)
    return next(target for target in known if target.name == name)
