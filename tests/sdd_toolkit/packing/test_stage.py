from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards as verify
from sdd_toolkit.errors import ConfigError, InputError, ManifestError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.raw.development import Demosaic, DevelopConfig
from sdd_toolkit.records import Alignment, PairRecord, Reason, Verdict
from sdd_toolkit.shards.index import Brightness, FailedPair, Warp, read_index, text_with_sha256, write_index
from sdd_toolkit.shards.reader import ShardReader
from tests.support.small_dataset import alignment, contents, filtered_manifest

CONFIG = PackConfig(patch_size=128, pairs_per_shard=2)
NAMES = [
    "index.json",
    "test-00000-of-00001.h5",
    "train-00000-of-00002.h5",
    "train-00001-of-00002.h5",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `filtered.jsonl` of three scenes with two pairs, packed into `shards`; copy it to change it."""
    folder = tmp_path_factory.mktemp("original") / "set"
    pack_dataset(filtered_manifest(folder), folder / "shards", CONFIG)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


def change(folder: Path, **fields: object) -> None:
    """Replaces fields of the first record."""
    path = folder / "filtered.jsonl"
    source = read_manifest(path)
    first = replace(source.records[0], **fields)  # type: ignore[arg-type]
    write_manifest(path, replace(source, records=(first, *source.records[1:])))


def with_alignment(folder: Path, found: Alignment) -> PairRecord:
    change(folder, alignment=found)
    return read_manifest(folder / "filtered.jsonl").records[0]


def test_a_packed_folder_holds_an_index_and_whole_shards(original: Path) -> None:
    assert list(contents(original / "shards")) == NAMES
    index = read_index(original / "shards")
    assert index.splits == {"train": ("scene-0000", "scene-0001"), "val": (), "test": ("scene-0002",)}
    assert [len(shard.pairs) for shard in index.shards] == [2, 2, 2]
    assert index.failed == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PackConfig(), (Warp.HOMOGRAPHY, Brightness.GAIN)),
        (PackConfig(warp=Warp.HOMOGRAPHY_FLOW, brightness=Brightness.FULL), (Warp.HOMOGRAPHY_FLOW, Brightness.FULL)),
    ],
)
def test_index_and_shards_say_what_was_applied(
    folder: Path, config: PackConfig, expected: tuple[Warp, Brightness]
) -> None:
    pack_dataset(folder / "filtered.jsonl", folder / "said", config)
    verify(folder / "said")
    index = read_index(folder / "said")
    assert (index.warp, index.brightness) == expected
    with ShardReader(folder / "said") as reader:
        headers = {(header.warp, header.brightness) for header in map(reader.header, reader.shards)}
    assert headers == {expected}


def test_another_warp_packs_every_shard_anew(folder: Path) -> None:
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).skipped == 6
    other = CONFIG.model_copy(update={"warp": Warp.HOMOGRAPHY_FLOW})
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", other).skipped == 0


@pytest.mark.parametrize("key", ["demosaic", "lens_correction"])
def test_another_development_packs_every_shard_anew_and_an_unused_map_none(folder: Path, key: str) -> None:
    said = {"demosaic": "dht", "lens_correction": "lensfun-if-known"}
    other = DevelopConfig.model_validate({key: said[key]})
    off = DevelopConfig(hot_pixels=False)
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, develop=off).skipped == 6
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, develop=other).skipped == 0
    verify(folder / "shards")
    assert getattr(read_index(folder / "shards"), key) == said[key]


def test_a_map_of_another_camera_packs_nothing_anew_and_one_of_this_everything(folder: Path) -> None:
    source = read_manifest(folder / "filtered.jsonl")
    meta = replace(source.records[0].blur_meta, size=(312, 420))
    write_manifest(
        folder / "filtered.jsonl",
        replace(source, records=tuple(replace(r, blur_meta=meta, sharp_meta=meta) for r in source.records)),
    )
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).skipped == 0
    for camera, skipped in (("Pentacon Seven", 6), ("Pentacon Six", 0)):
        entry = {"camera": camera, "size": [312, 420], "scenes": 9, "pixels": [[1, 2]]}
        content = {"format": "sdd-hot-pixels", "version": 1, "cameras": [entry]}
        (folder / "hot_pixels.json").write_text(json.dumps(content))
        assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).skipped == skipped


def test_shards_of_half_size_frames_are_whole_and_say_so(folder: Path) -> None:
    config = PackConfig(patch_size=64, min_size_px=64)
    pack_dataset(folder / "filtered.jsonl", folder / "half", config, develop=DevelopConfig(demosaic=Demosaic.HALF))
    verify(folder / "half")
    with ShardReader(folder / "half") as reader:
        assert (reader.index.reduction, reader.index.demosaic) == (2, Demosaic.HALF)
        pair = reader.read("scene-0001-01")
    # 6 … 410 and 7 … 303 hold the half-size pixels 3 … 205 and 4 … 151; then multiples of 4.
    assert pair.box == (4, 4, 204, 148)
    assert pair.sharp.shape == (144, 200, 3)
    assert pair.flow.shape == (36, 50, 2)
    with h5py.File(folder / "half" / reader.index.shards[0].name) as file:
        assert (file.attrs["reduction"], file.attrs["highlights"]) == (2, "clip")
        assert json.loads(next(iter(file["pairs"].values())).attrs["development"])["white_balance"] == [1.0] * 3


def test_what_was_packed_can_be_read(original: Path) -> None:
    with ShardReader(original / "shards", "train") as reader:
        pair = reader.read("scene-0001-01")
        assert pair.sharp.shape == (292, 400, 3)
        assert pair.box == reader.read_window(pair.id, 0, 0, 8, 8).box == (8, 8, 408, 300)
        assert pair.record == next(r for r in read_manifest(original / "filtered.jsonl").records if r.id == pair.id)
        assert {patch.pair for patch in reader.patches} == set(reader.pair_ids)


def test_two_workers_write_the_same_bytes_as_one(original: Path, tmp_path: Path) -> None:
    report = pack_dataset(original / "filtered.jsonl", tmp_path / "shards", CONFIG, executor="local:2")
    assert report.done == 6
    assert contents(tmp_path / "shards") == contents(original / "shards")


def test_a_finished_run_is_skipped_as_a_whole(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.total, report.done, report.skipped) == (6, 0, 6)
    assert {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()} == before


def test_overwrite_packs_everything_again(folder: Path) -> None:
    before = contents(folder / "shards")
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, overwrite=True).done == 6
    assert contents(folder / "shards") == before


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_shard_is_packed_again_and_no_other(folder: Path, damage: str) -> None:
    before = contents(folder / "shards")
    path = folder / "shards" / NAMES[2]
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(before[NAMES[2]][:-9] + (b"" if damage == "cut" else b"123456789"))
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.done, report.skipped) == (2, 4)
    assert contents(folder / "shards") == before


def test_a_changed_pair_rebuilds_its_shard_and_keeps_the_others(folder: Path) -> None:
    with_alignment(folder, alignment(gain=0.9))
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.done, report.skipped) == (2, 4)
    undisturbed = pack_dataset(folder / "filtered.jsonl", folder / "again", CONFIG)
    assert undisturbed.done == 6
    assert contents(folder / "shards") == contents(folder / "again")


def test_shards_of_an_earlier_plan_and_partial_files_are_removed_and_other_files_are_not(folder: Path) -> None:
    for name in ("train-00000-of-00002.h5.partial", "val-00000-of-00001.h5.json"):
        (folder / "shards" / name).write_bytes(b"old")
    shutil.copy(folder / "shards/test-00000-of-00001.h5", folder / "shards/train-00007-of-00009.h5")
    (folder / "shards" / "README.md").write_bytes(b"mine")
    pack_dataset(folder / "filtered.jsonl", folder / "shards", replace_config(pairs_per_shard=3))
    assert list(contents(folder / "shards")) == [
        "README.md",
        "index.json",
        "test-00000-of-00001.h5",
        "train-00000-of-00002.h5",
        "train-00001-of-00002.h5",
    ]


def replace_config(**values: object) -> PackConfig:
    return PackConfig.model_validate({**CONFIG.model_dump(), **values})


def test_a_new_name_needs_no_new_shards(folder: Path) -> None:
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", replace_config(name="other"))
    assert (report.done, report.skipped) == (0, 6)
    assert read_index(folder / "shards").name == "other"


def test_a_file_that_changed_since_ingest_is_listed_and_packed_once_it_is_back(folder: Path) -> None:
    before = contents(folder / "shards")
    path = folder / "raw" / "scene-0000-00_blur.png"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, overwrite=True)
    assert (report.done, report.rejected) == (5, {"changed": 1})
    failed = read_index(folder / "shards").failed
    assert failed[0].id == "scene-0000-00"
    assert "scene-0000-00_blur.png" in failed[0].detail
    path.write_bytes(content)
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).rejected == {}
    assert contents(folder / "shards") == before


def test_a_pair_that_is_too_small_is_listed_and_not_tried_again(folder: Path) -> None:
    with_alignment(folder, alignment(box=(0, 0, 255, 300)))
    pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert read_index(folder / "shards").failed == (
        FailedPair("scene-0000-00", Reason.TOO_SMALL, "overlap 252 x 300 px < 256 px"),
    )
    report = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert (report.total, report.done, report.skipped, report.rejected) == (6, 0, 5, {"too_small": 1})


def test_details_of_failures_do_not_tell_where_the_sources_lie(folder: Path) -> None:
    from sdd_toolkit.storage.files import sha256_of

    path = folder / "raw" / "scene-0000-00_blur.png"
    path.write_bytes(b"no image")
    record = read_manifest(folder / "filtered.jsonl").records[0]
    change(folder, blur=replace(record.blur, bytes=8, sha256=sha256_of(path)))
    pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    failure = read_index(folder / "shards").failed[0]
    assert failure.reason is Reason.UNREADABLE
    assert str(folder) not in failure.detail


def test_when_no_pair_can_be_packed_nothing_is_left_and_the_reason_is_told(folder: Path) -> None:
    shutil.rmtree(folder / "raw")
    with pytest.raises(InputError, match="none of the 6 kept pairs could be packed"):
        pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG, overwrite=True)
    assert contents(folder / "shards") == {}


def test_rejected_pairs_stay_out(folder: Path) -> None:
    change(folder, verdict=Verdict(keep=False, reason=Reason.CLIPPED))
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).total == 5
    assert "scene-0000-00" not in ShardReader(folder / "shards").pair_ids


def test_an_unfiltered_manifest_is_refused(folder: Path) -> None:
    change(folder, verdict=None)
    with pytest.raises(ManifestError) as caught:
        pack_dataset(folder / "filtered.jsonl", folder / "other", CONFIG)
    assert "sdd filter" in caught.value.hint


def test_a_manifest_that_keeps_nothing_is_refused_and_leaves_no_shards_of_an_earlier_one(folder: Path) -> None:
    source = read_manifest(folder / "filtered.jsonl")
    black = Verdict(keep=False, reason=Reason.BLACK_FRAME)
    none = tuple(replace(record, verdict=black) for record in source.records)
    write_manifest(folder / "filtered.jsonl", replace(source, records=none))
    with pytest.raises(InputError, match=r"keeps none of its 6 pairs \(6 black_frame\)"):
        pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert list((folder / "shards").iterdir()) == []


def test_paths_that_leave_their_root_are_refused_before_any_work(folder: Path) -> None:
    manifest = folder / "filtered.jsonl"
    record, honest = read_manifest(manifest).records[0], manifest.read_bytes()
    for fields in (
        {"blur": replace(record.blur, path="../secret.png")},
        {"sharp": replace(record.sharp, path="/etc/passwd")},
        {"blur": record.blur, "sharp": record.sharp, "alignment": alignment(flow_file="../x.npz")},
    ):
        manifest.write_bytes(honest)
        change(folder, **fields)
        with pytest.raises(ManifestError, match="leaves its root"):
            pack_dataset(manifest, folder / "other", CONFIG)
    assert not (folder / "other").exists()


def test_listed_scenes_make_the_test_split(folder: Path) -> None:
    split = SplitConfig(test=("scene-0000",))
    pack_dataset(folder / "filtered.jsonl", folder / "shards", replace_config(split=split.model_dump()))
    assert read_index(folder / "shards").splits["test"] == ("scene-0000",)
    with pytest.raises(ConfigError, match="nowhere"):
        pack_dataset(folder / "filtered.jsonl", folder / "other", replace_config(split={"test": ["nowhere"]}))


def test_an_index_of_a_newer_format_is_not_overwritten(folder: Path) -> None:
    path = folder / "shards" / "index.json"
    content = {**json.loads(path.read_text()), "version": 2}
    del content["sha256"]
    path.write_text(text_with_sha256(content))
    with pytest.raises(InputError, match="version 2"):
        pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert '"version": 2' in path.read_text()


def test_an_out_folder_that_is_a_file_is_an_input_error(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        pack_dataset(folder / "filtered.jsonl", folder / "file", CONFIG)


KILLED = """
import sys
from pathlib import Path
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.packing.config import PackConfig
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    pack_dataset(folder / "filtered.jsonl", folder / "killed", PackConfig(patch_size=128, pairs_per_shard=1))
"""


def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(folder: Path) -> None:
    config = replace_config(pairs_per_shard=1)
    pack_dataset(folder / "filtered.jsonl", folder / "undisturbed", config)
    started = time.monotonic()
    pack_dataset(folder / "filtered.jsonl", folder / "timed", config)
    duration = time.monotonic() - started
    states = set()
    # Once that many shards are there, and a little later: how fast the machine is does not matter.
    for shards, moment in enumerate(np.random.default_rng(5).uniform(0.0, 0.3, 4), 1):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None and len(list((folder / "killed").glob("*.h5"))) < shards:
            time.sleep(0.001)
        time.sleep(moment * duration)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        states.add(tuple(path.name for path in sorted((folder / "killed").glob("*"))))
        # No half of anything under a final name: what has its final name is whole, and an index comes last.
        for path in (folder / "killed").glob("*.h5"):
            assert path.read_bytes() == (folder / "undisturbed" / path.name).read_bytes()
    pack_dataset(folder / "filtered.jsonl", folder / "killed", config)
    assert len(states) >= 2
    assert contents(folder / "killed") == contents(folder / "undisturbed")


def test_a_run_killed_between_index_and_notes_is_finished(folder: Path) -> None:
    before = contents(folder / "shards")
    index = read_index(folder / "shards")
    (folder / "shards" / "index.json").unlink()
    killed = pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG)
    assert killed.done == 6
    write_index(folder / "shards", index)
    (folder / "shards" / "train-00000-of-00002.h5.json").write_text("{}")
    (folder / "shards" / "index.json.partial").write_text("{")
    (folder / "shards" / "README.md.partial").write_text("#")
    (folder / "shards" / "film.mkv.partial").write_text("mine")
    assert pack_dataset(folder / "filtered.jsonl", folder / "shards", CONFIG).skipped == 6
    (folder / "shards" / "film.mkv.partial").unlink()
    assert contents(folder / "shards") == before


FULL = """
import resource, signal, sys
from pathlib import Path
from sdd_toolkit.errors import InputError
from sdd_toolkit.packing.stage import pack_dataset
from sdd_toolkit.packing.config import PackConfig
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
folder = Path(sys.argv[1])
try:
    pack_dataset(folder / "filtered.jsonl", folder / "full", PackConfig(patch_size=128, pairs_per_shard=2))
except InputError as error:
    print(error.what)
"""


@pytest.mark.parametrize("limit", [3_000, 400_000])
def test_a_disk_that_fills_up_is_an_input_error_and_leaves_no_half_shard(folder: Path, limit: int) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL, str(folder), str(limit)], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith(f"cannot write {folder / 'full' / NAMES[2]}")
    assert child.stderr == ""
    assert contents(folder / "full") == {}
