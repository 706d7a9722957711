"""A shard cut or with a byte flipped anywhere: found, never believed, never a crash, and made again alone."""

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
    """All that a reader tells of a folder."""
    told: list[object] = []
    with ShardReader(shards, check=check) as reader:
        told += reader.patches
        for name in reader.pair_ids:
            pair = reader.read(name)
            told += [pair.record, pair.box, pair.development]
            told += [array.tobytes() for array in (pair.blur, pair.sharp, pair.valid, pair.flow)]
    return told


def positions(shard: Path, count: int) -> list[int]:
    """Places in every region of the file: its head, groups, chunks, attributes, the table of patches, its end."""
    draw, size = random.Random(7), shard.stat().st_size
    with h5py.File(shard, "r") as file:
        tables = [file[f"patches/{name}"].id.get_offset() for name in ("top", "left", "sharpness", "valid_fraction")]
        chunks = [
            group[name].id.get_chunk_info(0).byte_offset
            for group in file["pairs"].values()
            for name in ("blur", "flow")
        ]
    special = [*range(0, 96, 4), *(place + step for place in (*tables, *chunks) if place for step in (0, 5)), size - 1]
    content = shard.read_bytes()
    for mark in (b"TREE", b"HEAP", b"SNOD", b"FRHP", b"GCOL", b"record", b"development"):
        place = content.find(mark)
        special += [place, place + 4, place + 9] if place >= 0 else []
    return (special + [draw.randrange(size) for _ in range(count)])[:count]


def read_damaged(shards: Path, name: str, cases: list[tuple[int, int]], first: int, check: bool, told: Path) -> None:
    """In a child: reads one damage (position of a flipped byte, length after a cut; -1 for neither) after another."""
    path, intact = shards / name, told.with_name("intact").read_bytes()
    truth = json.loads(told.with_name("truth").read_text())
    with told.open("a") as lines:
        for place, cut in cases[first:]:
            damaged = bytearray(intact)
            if place >= 0:
                damaged[place] ^= 1 << place % 8
            else:
                del damaged[cut:]
            path.write_bytes(damaged)
            try:
                outcome = "right" if digest(everything(shards, check)) == truth else "wrong"
            except SddError as error:
                outcome = type(error).__name__
            lines.write(outcome + "\n")
            lines.flush()


def digest(told: list[object]) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()


def outcomes(shards: Path, name: str, cases: list[tuple[int, int]], check: bool, told: Path) -> list[str]:
    """What became of each case; one that ended its process is a `crash`, and a new process goes on after it."""
    shutil.copy(shards / name, told.with_name("intact"))
    told.with_name("truth").write_text(json.dumps(digest(everything(shards, check=False))))
    told.write_text("")
    while (done := len(told.read_text().splitlines())) < len(cases):
        code = builds.in_child(read_damaged, shards, name, cases, done, check, told)
        assert code is not None, f"case {done}, {cases[done]}, hangs"
        assert code <= 0, f"case {done}, {cases[done]}, raised what is no SddError"
        if code < 0:
            with told.open("a") as lines:
                lines.write("crash\n")
    shutil.copy(told.with_name("intact"), shards / name)
    return told.read_text().splitlines()


@pytest.fixture
def shards(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "whole" / "shards", tmp_path / "shards"))


def cases_of(shard: Path) -> list[tuple[int, int]]:
    size = shard.stat().st_size
    fixed = {0, 1, 7, 8, 48, 96, 512, 2048, size - 8, size - 1}
    cuts = sorted(fixed | {int(cut) for cut in np.linspace(3, size - 3, CUTS - len(fixed))})
    assert len(cuts) == CUTS
    places = positions(shard, FLIPPED_BYTES)
    assert len(places) == FLIPPED_BYTES
    return [(place, -1) for place in places] + [(-1, cut) for cut in cuts]


def test_no_damaged_byte_comes_through_a_reader_that_checks(shards: Path, tmp_path: Path) -> None:
    shard = shards / "train-00000-of-00001.h5"
    found = outcomes(shards, shard.name, cases_of(shard), True, tmp_path / "told")
    assert found == ["IntegrityError"] * (FLIPPED_BYTES + CUTS)


def test_a_reader_that_does_not_check_finds_every_cut_and_most_flipped_bytes(shards: Path, tmp_path: Path) -> None:
    """What it misses are bytes nothing protects; `docs/reliability.md` says so."""
    shard = shards / "train-00000-of-00001.h5"
    found = outcomes(shards, shard.name, cases_of(shard), False, tmp_path / "told")
    assert set(found[FLIPPED_BYTES:]) == {"IntegrityError"}
    counts = Counter(found[:FLIPPED_BYTES])
    assert set(counts) <= {"IntegrityError", "InputError", "right", "wrong", "crash"}
    assert counts["IntegrityError"] > FLIPPED_BYTES / 2


def test_verify_finds_each_of_them_and_a_build_makes_that_shard_anew_with_the_same_bytes(tiny: Path, out: Path) -> None:
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
