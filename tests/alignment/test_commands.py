"""`sdd align` as a user types it: three uses, and no traceback whatever is invoke."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from alignment.commands import align
from alignment.transforms import transform as transforms
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_image, write_values
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import FrameMeta, PairKind, PairRecord
from tests.support import planted_pairs
from tests.support.command_line import sdd_in_process
from tests.support.paths import ROOT
from tests.support.planted_motion import plant_pair, write_at_double_size

SHIFTED = transforms.Transform(
    "b.png", "s.png", planted_pairs.SIZE, ((1.0, 0.0, 6.0), (0.0, 1.0, -4.0), (0.0, 0.0, 1.0)), "similarity"
)


def invoke(*words: object) -> Result:
    return CliRunner().invoke(align, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two frames and a manifest of them."""
    folder, pair = tmp_path_factory.mktemp("shots"), plant_pair(30)
    (folder / "sdd.toml").write_text("[align]\nmax_radius_px = 6.0\n")
    frames = (("soft", pair.blur), ("crisp", pair.sharp))
    refs = [write_at_double_size(folder / f"{name}.png", linear) for name, linear in frames]
    record = PairRecord("one", "one", PairKind.FOCUS, *refs, FrameMeta(), FrameMeta())
    manifest.write_manifest(folder / "ingested.jsonl", manifest.Manifest(folder, (record,)))
    return folder


def test_a_manifest_is_aligned_exported_and_applied(shots: Path, tmp_path: Path) -> None:
    how = ("--config", shots / "sdd.toml", "--executor", "serial", "--json")
    done = invoke(shots / "ingested.jsonl", "--out", tmp_path, "--export", tmp_path / "transforms", *how)
    report = json.loads(done.stdout)
    assert (report["stage"], report["done"]) == ("align", 1)
    assert report["outputs"] == [str(tmp_path / "aligned.jsonl"), str(tmp_path / "transforms")]
    for name, source in (("a", tmp_path / "aligned.jsonl"), ("b", tmp_path / "transforms" / "one.json")):
        warp = ("--warp", "homography+flow")
        assert invoke("--apply", source, shots / "soft.png", "--out", tmp_path / name, *warp).exit_code == 0
    first, second = ((tmp_path / name / "soft_aligned.tif").read_bytes() for name in "ab")
    assert first == second


def test_two_photographs_need_no_manifest(shots: Path, tmp_path: Path) -> None:
    done = invoke(shots / "soft.png", shots / "crisp.png", "--out", tmp_path, "--config", shots / "sdd.toml")
    assert done.exit_code == 0
    assert done.stdout.startswith("shift ")
    assert "estimated error 0.0" in done.stdout
    assert f"-> {tmp_path / 'soft.json'}" in done.stdout
    words = ("--apply", tmp_path / "soft.json", shots / "soft.png", "--out", tmp_path / "again")
    assert invoke(*words).exit_code == 0
    again = tmp_path / "again" / "soft_aligned.tif"
    assert np.array_equal(read_image(again), read_image(tmp_path / "soft_aligned.tif"))


def test_the_python_of_the_page_brings_the_blurred_frame_onto_the_sharp_one(
    shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/transforms.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code) == 2
    invoke(shots / "soft.png", shots / "crisp.png", "--out", tmp_path / "aligned", "--config", shots / "sdd.toml")
    (tmp_path / "soft.png").write_bytes((shots / "soft.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in code:
        exec(block, names)
        ours = read_image(tmp_path / "aligned" / "soft_aligned.tif").astype(float)
        theirs = names["aligned"][..., ::-1].astype(float)
        assert np.abs(theirs - ours)[40:-40, 40:-40].mean() < 0.002 * 65535
    assert np.array_equal(read_image(tmp_path / "soft_on_crisp.png").shape, ours.shape)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    transforms.write_transform(tmp_path / "t.json", SHIFTED)
    write_image(tmp_path / "a.png", planted_pairs.texture(1))
    write_values(tmp_path / "depth.tif", np.arange(160 * 240, dtype=np.float32).reshape(160, 240))
    return tmp_path / "t.json"


def test_a_stored_transform_is_applied_and_taken_back(stored: Path) -> None:
    folder = stored.parent
    assert invoke("--apply", stored, folder / "a.png", "--out", folder / "there").exit_code == 0
    words = ("--apply", stored, folder / "there" / "a_aligned.png", "--inverse", "--out", folder / "back")
    assert invoke(*words).exit_code == 0
    back = read_image(folder / "back" / "a_aligned_aligned.png")
    assert np.array_equal(back[4:, :234], planted_pairs.texture(1)[4:, :234])


def test_metadata_are_copied_and_left_out_on_demand(stored: Path) -> None:
    exif = Image.Exif()
    exif[315] = "A. Photographer"
    Image.fromarray(planted_pairs.texture(1)).save(stored.parent / "b.jpg", exif=exif)
    for words, author in (((), "A. Photographer"), (("--strip",), None)):
        out = stored.parent / f"out{len(words)}"
        assert invoke("--apply", stored, stored.parent / "b.jpg", "--out", out, *words).exit_code == 0
        with Image.open(out / "b_aligned.png") as image:
            assert image.getexif().get(315) == author


def test_a_bad_file_among_good_ones_is_reported_and_ends_with_two(stored: Path) -> None:
    folder = stored.parent
    done = invoke("--apply", stored, folder / "missing.png", folder / "a.png", "--out", folder / "out")
    assert done.exit_code == 2
    assert "apply: 1 done, 0 unchanged, 1 rejected of 2" in done.stdout
    assert (folder / "out" / "a_aligned.png").is_file()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("t.json", "a.png", "depth.tif"), "one manifest or two frames"),
        (("a.png",), "give its sharp partner too"),
        (("t.json", "--nearest"), "--nearest cannot be combined with a manifest"),
        (("a.png", "a.png", "--pair-id", "x"), "--pair-id cannot be combined with two frames"),
        (("a.png", "a.png", "--export", "x"), "--export cannot be combined with two frames"),
        (("a.png", "--apply", "t.json", "--mask", "a.png"), "--mask cannot be combined with --apply"),
        (("a.png", "--apply", "t.json", "--warp", "flow"), "'flow' is not one of"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(
    stored: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], what: str
) -> None:
    monkeypatch.chdir(stored.parent)
    done = invoke(*words, "--out", "out")
    assert done.exit_code == 2
    assert what in done.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--warp", "homography+flow"), "no residual flow"),
        (("--pair-id", "x"), "no pair 'x'"),
    ],
)
def test_a_transform_without_the_requested_entry_is_refused(stored: Path, words: tuple[str, ...], what: str) -> None:
    with pytest.raises(InputError, match=what):
        invoke("--apply", stored, stored.parent / "a.png", "--out", stored.parent / "out", *words)


def test_an_unusable_transform_is_two_lines_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"format": "sdd-transform", "version": 1, "gain": []}')
    done = sdd_in_process("align", "--apply", tmp_path / "t.json", tmp_path / "a.png", "--out", tmp_path, check=False)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.strip().splitlines()] == ["error", "hint"]
