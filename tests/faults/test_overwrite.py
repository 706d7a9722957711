"""No command replaces a file that it did not write: its user's files in every place where a result would go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from alignment.transforms.transform import Transform, write_transform
from sdd_toolkit.frames.writing import write_image
from tests.faults import builds
from tests.support.command_line import sdd_in_process
from tests.support.paths import ROOT

MINE = b"written by the user\n"
CHECKPOINT, PHOTO = ROOT / "tests/golden_checkpoint", "in/photo.png"
SCENE = "scene-0001"

# Command, and the results that it refuses to write over: {set} is a whole data set, {in} has photographs.
STAGES = [
    (
        "ingest {in}/raw --out {out} --config {toml}",
        ("ingested.jsonl", "rejected_files.csv", "configurations.json"),
    ),
    ("hotpixels {set}/ingested.jsonl --out {out}", ("hot_pixels.json",)),
    (
        "align {set}/ingested.jsonl --out {out} --config {toml}",
        ("aligned.jsonl", f"flow/{SCENE}.npz", "configurations.json"),
    ),
    ("align {set}/ingested.jsonl --out {new} --export {out} --config {toml}", (f"{SCENE}.json",)),
    ("fuse {set}/ingested.jsonl --out {out} --config {toml}", ("fused.jsonl", "fused/left_out.csv")),
    ("filter {set}/aligned.jsonl --out {out} --config {toml}", ("filtered.jsonl", "configurations.json")),
    ("pack {set}/filtered.jsonl --out {out} --config {toml}", ("index.json", "train-00000-of-00001.h5")),
    ("report {set} --out {out} --config {toml}", ("report.html", "pairs.csv")),
    ("split {set}/shards --out {out}", ("index.json",)),
    ("merge {set}/shards --out {out}", ("index.json",)),
    ("import {in}/plain --blur blur --sharp sharp --out {out}", ("index.json",)),
    (
        "import {in}/plain --blur blur --sharp sharp --manifest --out {out}",
        ("ingested.jsonl", "splits.toml", "rejected_files.csv", "configurations.json"),
    ),
    ("export {set}/shards --layout png --out {out}", ("export.json", "anything.txt")),
    ("export {set}/shards --layout patches --out {out}", ("index.json",)),
    ("breathing {set}/aligned.jsonl --out {out}/lens.json", ("lens.json",)),
    ("capture plan --out {out}/plan.toml", ("plan.toml",)),
    ("capture simulate --scenes 1 --out {out}", ("simulate.json", "scene-0001/blur.dng")),
    ("train {set}/shards --out {out} --config {in}/train.toml", ("config.json", "train.csv", "val.csv", "best")),
    (f"evaluate {CHECKPOINT} {{set}}/shards --out {{out}}", ("evaluation.html", "drift.csv", "pictures/01.png")),
    (f"deblur {CHECKPOINT} {{in}}/photo.png --out {{out}}", ("photo_deblurred.png",)),
    (f"blurmap {CHECKPOINT} {{in}}/photo.png --out {{out}}", ("photo_blurmap.tif", "photo_blurmap.png")),
    (f"export-onnx {CHECKPOINT} --out {{out}}/model.onnx", ("model.onnx",)),
    (
        "align {in}/photo.png {in}/other.png --out {out}",
        ("photo.json", "photo_flow.npz", "photo_aligned.png", "photo_aligned_valid.png", "photo_check.png"),
    ),
    ("align --apply {in}/t.json {in}/photo.png --out {out}", ("photo_aligned.png", "photo_aligned_valid.png")),
    (
        "fuse {in}/photo.png {in}/other.png --out {out}",
        ("fused.png", "fused_origin.png", "fused_check.jpg", "fused.json"),
    ),
]
CASES = [(command, name) for command, names in STAGES for name in names]


@pytest.fixture(scope="module")
def places(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("photo.png", "other.png", "plain/blur/a.png", "plain/sharp/a.png"):
        write_image(folder / name, np.random.default_rng(1).integers(0, 255, (96, 96, 3)).astype(np.uint8))
    (folder / "raw").symlink_to(tiny / "raw")
    (folder / "train.toml").write_text(
        "[train]\ncrop = 32\nreblur_width = 4\nsteps = 1\nnetwork_options = {width = 2}\n"
    )
    rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    write_transform(folder / "t.json", Transform("a.png", "b.png", (96, 96), rows, "identity"))
    return {"set": tiny / "whole", "in": folder, "toml": tiny / "sdd.toml"}


@pytest.mark.parametrize(("command", "name"), CASES, ids=[f"{c.split()[0]}-{n}" for c, n in CASES])
def test_a_file_of_the_user_in_the_place_of_a_result_is_left_and_named(
    places: dict[str, Path], tmp_path: Path, command: str, name: str
) -> None:
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(MINE)
    words = [word.format(out=tmp_path / "out", new=tmp_path / "new", **places) for word in command.split()]
    done = sdd_in_process(*words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert str(tmp_path / "out") in error
    assert error.endswith(("exists already", "edited since", "no export", "an export", "or configuration"))
    assert hint.startswith("hint: ")
    assert theirs.read_bytes() == MINE
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("filter {set}/aligned.jsonl --out {out} --config {toml} --overwrite", "filtered.jsonl"),
        ("report {set} --out {out} --config {toml} --overwrite", "report.html"),
        ("capture plan --out {out}/plan.toml --overwrite", "plan.toml"),
        (f"deblur {CHECKPOINT} {{in}}/photo.png --out {{out}} --overwrite", "photo_deblurred.png"),
        (f"blurmap {CHECKPOINT} {{in}}/photo.png --out {{out}} --overwrite", "photo_blurmap.png"),
        ("import {in}/plain --blur blur --sharp sharp --manifest --out {out} --overwrite", "splits.toml"),
    ],
)
def test_it_is_replaced_on_request(places: dict[str, Path], tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(MINE)
    sdd_in_process(*[word.format(out=tmp_path / "out", **places) for word in command.split()])
    assert (tmp_path / "out" / name).read_bytes() != MINE


BUILT = [
    *("ingested.jsonl", "aligned.jsonl", "filtered.jsonl", "config.json", "configurations.json", "hot_pixels.json"),
    *("rejected_files.csv", "shards/index.json", "shards/README.md", "shards/pairs.csv", "shards/croissant.json"),
    *("report/report.html", "report/pairs.csv"),
]


@pytest.mark.parametrize("name", BUILT)
def test_a_build_is_refused_before_its_first_write(tiny: Path, out: Path, name: str) -> None:
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(MINE)
    done = sdd_in_process("build", tiny / "sdd.toml", "--out", out, check=False)
    assert done.returncode == 2
    assert f"{out / name} was not written by sdd" in done.stderr
    assert [path for path in out.rglob("*") if path.is_file()] == [out / name]
    assert (out / name).read_bytes() == MINE


def test_a_data_set_built_again_replaces_what_it_wrote(tiny: Path, out: Path) -> None:
    shutil.copytree(tiny / "whole", out)
    for words in (("build", tiny / "sdd.toml", "--out", out), ("card", out / "shards", "--config", tiny / "sdd.toml")):
        sdd_in_process(*words)
    assert builds.content(out) == builds.content(tiny / "whole")


def test_an_edited_card_is_left(tiny: Path, out: Path) -> None:
    shutil.copytree(tiny / "whole", out)
    card = out / "shards/README.md"
    card.write_text(card.read_text().replace("\n## ", "\nMy own words.\n\n## ", 1))
    edited = card.read_bytes()
    for words in (("card", out / "shards"), ("build", tiny / "sdd.toml", "--out", out)):
        done = sdd_in_process(*words, check=False)
        assert (done.returncode, card.read_bytes()) == (2, edited)
        assert "or edited since" in done.stderr
    sdd_in_process("card", out / "shards", "--overwrite")
    assert card.read_bytes() == (tiny / "whole/shards/README.md").read_bytes()


def test_another_data_set_is_not_packed_over(places: dict[str, Path], tiny: Path, out: Path) -> None:
    shutil.copytree(tiny / "whole/shards", out / "shards")
    before = builds.content(out)
    plain = ("import", places["in"] / "plain", "--blur", "blur", "--sharp", "sharp", "--out", out / "shards")
    done = sdd_in_process(*plain, check=False)
    assert done.returncode == 2
    assert "holds another data set" in done.stderr
    assert builds.content(out) == before


def test_a_run_and_a_data_set_do_not_replace_each_others_configuration(
    places: dict[str, Path], tiny: Path, out: Path
) -> None:
    for name, words in (
        ("whole", ("train", tiny / "whole/shards", "--out", out, "--config", places["in"] / "train.toml")),
        ("run", ("build", tiny / "sdd.toml", "--out", out)),
    ):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tiny / "whole" if name == "whole" else CHECKPOINT, out)
        before = builds.content(out)
        done = sdd_in_process(*words, check=False)
        assert (done.returncode, builds.content(out)) == (2, before)
        assert f"{out}/config.json was not written by sdd" in done.stderr


def test_photographs_of_one_name_and_their_own_sources_are_refused_together(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is written, not even for the files before the one in question."""
    for name in ("a/x.png", "b/x.png", "b/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(places["in"] / "photo.png", tmp_path / name)
    before = builds.content(tmp_path)
    x, other, y = (tmp_path / name for name in ("a/x.png", "b/x.png", "b/y.png"))
    refused = [
        ("deblur", CHECKPOINT, x, "--suffix", "", "--out", tmp_path / "b"),
        ("deblur", CHECKPOINT, y, x, other, "--out", tmp_path / "out"),
        ("deblur", CHECKPOINT, y, x, other, "--suffix", "", "--out", tmp_path / "b", "--overwrite"),
        ("deblur", CHECKPOINT, y, other, "--suffix", "", "--out", tmp_path / "b", "--overwrite"),
        ("blurmap", CHECKPOINT, y, x, other, "--out", tmp_path / "out"),
        ("align", "--apply", places["in"] / "t.json", x, other, "--out", tmp_path / "out"),
    ]
    for words in refused:
        done = sdd_in_process(*words, check=False)
        assert done.returncode == 2, done.stderr
        assert builds.content(tmp_path) == before
