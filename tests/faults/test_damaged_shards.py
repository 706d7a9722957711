"""Shards that are cut or have a flipped byte: readers refuse them, and a build makes only that shard again."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.audit import verify
from sdd_toolkit.errors import IntegrityError, SddError
from sdd_toolkit.shards import ShardReader
from tests.faults import builds

FLIPPED_BYTES = 200
CUTS = 60
REPAIRS = 6


def everything(shards: Path, check: bool) -> list[object]:
    """All records and arrays of a folder of shards."""
    contents: list[object] = []
    with ShardReader(shards, check=check) as reader:
        contents += reader.patches
        for name in reader.pair_ids:
            pair = reader.read(name)
            contents += [pair.record, pair.box, pair.development]
            contents += [array.tobytes() for array in (pair.blur, pair.sharp, pair.valid, pair.flow)]
    return contents


def positions(shard: Path, count: int) -> list[int]:
    """Positions in every region of the file: head, groups, chunks, attributes, table of patches, end."""
    draw, size = random.Random(7), shard.stat().st_size
    with h5py.File(shard, "r") as file:
        tables = [file[f"patches/{name}"].id.get_offset() for name in ("top", "left", "sharpness", "valid_fraction")]
        chunks = [
            group[name].id.get_chunk_info(0).byte_offset
            for group in file["pairs"].values()
            for name in ("blur", "flow")
        ]
    special = [*range(0, 96, 4), *(start + step for start in (*tables, *chunks) if start for step in (0, 5)), size - 1]
    content = shard.read_bytes()
    for mark in (b"TREE", b"HEAP", b"SNOD", b"FRHP", b"GCOL", b"record", b"development"):
        start = content.find(mark)
        special += [start, start + 4, start + 9] if start >= 0 else []
    return (special + [draw.randrange(size) for _ in range(count)])[:count]


def read_damaged(shards: Path, name: str, cases: list[tuple[int, int]], first: int, check: bool, results: Path) -> None:
    """In a child: reads one damage (position of a flipped byte, length after a cut; -1 for neither) after another."""
    path, intact = shards / name, results.with_name("intact").read_bytes()
    truth = json.loads(results.with_name("truth").read_text())
    with results.open("a") as lines:
        for position, cut in cases[first:]:
            damaged = bytearray(intact)
            if position >= 0:
                damaged[position] ^= 1 << position % 8
            else:
                del damaged[cut:]
            path.write_bytes(damaged)
            try:
                outcome = "right" if digest(everything(shards, check)) == truth else "wrong"
            except SddError as error:
                outcome = type(error).__name__
            lines.write(outcome + "\n")
            lines.flush()


def digest(contents: list[object]) -> str:
    return hashlib.sha256(repr(contents).encode()).hexdigest()


def outcomes(shards: Path, name: str, cases: list[tuple[int, int]], check: bool, results: Path) -> list[str]:
    """The outcome of each case; `crash` is one that ended its process, after which a new process goes on."""
    shutil.copy(shards / name, results.with_name("intact"))
    results.with_name("truth").write_text(json.dumps(digest(everything(shards, check=False))))
    results.write_text("")
    while (done := len(results.read_text().splitlines())) < len(cases):
        code = builds.in_child(read_damaged, shards, name, cases, done, check, results)
        assert code is not None, f"case {done}, {cases[done]}, hangs"
        assert code <= 0, f"case {done}, {cases[done]}, raised what is no SddError"
        if code < 0:
            with results.open("a") as lines:
                lines.write("crash\n")
    shutil.copy(results.with_name("intact"), shards / name)
    return results.read_text().splitlines()


@pytest.fixture
def shards(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "whole" / "shards", tmp_path / "shards"))


def cases_of(shard: Path) -> list[tuple[int, int]]:
    size = shard.stat().st_size
    fixed = {0, 1, 7, 8, 48, 96, 512, 2048, size - 8, size - 1}
    cuts = sorted(fixed | {int(cut) for cut in np.linspace(3, size - 3, CUTS - len(fixed))})
    assert len(cuts) == CUTS
    flipped = positions(shard, FLIPPED_BYTES)
    assert len(flipped) == FLIPPED_BYTES
    return [(position, -1) for position in flipped] + [(-1, cut) for cut in cuts]


def test_no_damaged_byte_comes_through_a_reader_that_checks(shards: Path, tmp_path: Path) -> None:
    shard = shards / "train-00000-of-00001.h5"
    results = outcomes(shards, shard.name, cases_of(shard), True, tmp_path / "results")
    assert results == ["IntegrityError"] * (FLIPPED_BYTES + CUTS)


def test_a_reader_that_does_not_check_finds_every_cut_and_most_flipped_bytes(shards: Path, tmp_path: Path) -> None:
    """It misses bytes that no checksum protects; see `docs/reliability.md`."""
    shard = shards / "train-00000-of-00001.h5"
    results = outcomes(shards, shard.name, cases_of(shard), False, tmp_path / "results")
    assert set(results[FLIPPED_BYTES:]) == {"IntegrityError"}
    counts = Counter(results[:FLIPPED_BYTES])
    assert set(counts) <= {"IntegrityError", "InputError", "right", "wrong", "crash"}
    assert counts["IntegrityError"] > FLIPPED_BYTES / 2


def test_verify_finds_damage_and_a_build_makes_that_shard_again_with_the_same_bytes(tiny: Path, out: Path) -> None:
    shutil.copytree(tiny / "whole", out)
    shard = out / "shards" / "train-00000-of-00001.h5"
    intact, draw = shard.read_bytes(), random.Random(8)
    for number in range(REPAIRS):
        damaged = bytearray(intact)
        if number % 2:
            damaged[draw.randrange(len(intact))] ^= 1 << number
        else:
            del damaged[draw.randrange(len(intact)) :]
        shard.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=shard.name):
            verify.verify_shards(out / "shards")
        other = (out / "shards" / "test-00000-of-00001.h5").stat().st_mtime_ns
        assert builds.in_child(builds.build, tiny, out) == 0
        assert (out / "shards" / "test-00000-of-00001.h5").stat().st_mtime_ns == other
        assert builds.content(out) == builds.content(tiny / "whole")
