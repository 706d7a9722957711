"""Pictures of other methods: matched to pairs, refused whole where one does not fit, and scored like checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli import cli
from jdrl.config import EvaluateConfig
from jdrl.evaluation.output_names import PairNames, match_names
from jdrl.evaluation.outputs import OutputFolder, load_outputs, parse_outputs, read_output
from jdrl.evaluation.stage import EvaluationOptions, evaluate
from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.colour import colour_of_encoding
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards.reader import ShardReader
from tests.support.planted_shards import MakeShards

CONFIG = EvaluateConfig(device="cpu", pictures=0, bootstrap=100)


def names(*sources: str, wanted: bool = True) -> list[PairNames]:
    return [PairNames(f"p{number}", source, wanted) for number, source in enumerate(sources)]


@pytest.fixture(scope="module")
def pairs(make_shards: MakeShards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test pairs and one for training."""
    return make_shards(tmp_path_factory.mktemp("pairs"), scenes={"train": 1, "test": 2})


@pytest.fixture
def pictures(pairs: Path, tmp_path: Path) -> Path:
    """A folder with the sharp frames of the test pairs as pictures of a perfect method."""
    with ShardReader(pairs, split="test") as reader:
        for pair in reader.pair_ids:
            write_image(tmp_path / "perfect" / f"{pair}.png", reader.read(pair).sharp)
    return tmp_path / "perfect"


def reason(folder: Path, pairs: Path) -> str:
    with ShardReader(pairs, split="test") as reader, pytest.raises(InputError) as caught:
        load_outputs([OutputFolder("mine", folder)], reader)
    return caught.value.what


def test_export_method_and_scores_are_a_round_trip(pairs: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    shots = tmp_path / "shots"
    exported = run(cli, ["export", str(pairs), "--layout", "png", "--split", "test", "--out", str(shots)])
    assert exported.exit_code == 0, exported.output
    (tmp_path / "mine").mkdir()
    for path in (shots / "test" / "blur").iterdir():
        cv2.imwrite(str(tmp_path / "mine" / path.name), cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 1))
    config = tmp_path / "sdd.toml"
    config.write_text("[evaluate]\npictures = 0\nbootstrap = 100\n")
    folders = [f"--outputs=same={shots / 'test' / 'blur'}", f"--outputs=soft={tmp_path / 'mine'}"]
    options = [*folders, "--config", str(config), "--json", "--out", str(tmp_path / "out")]
    scored = run(cli, ["evaluate", str(pairs), *options])
    assert scored.exit_code == 0, scored.output
    printed = json.loads(scored.stdout)
    means = {(row["checkpoint"], row["protocol"]): row["psnr_db"] for row in printed["means"]}
    assert means["same", "aligned"] == means["", "aligned"] > means["soft", "aligned"] + 0.3
    gains = {row["checkpoint"]: row["gain_db"] for row in printed["radii"] if row["radius"] == "all"}
    assert (gains["same"], gains["soft"] < 0) == (0, True)
    assert "soft" in (tmp_path / "out" / "evaluation.html").read_text()
    assert [row["pictures"] for row in printed["card"]["checkpoints"]] == [2, 2]


def test_a_perfect_method_beats_its_input_and_is_listed_beside_others(
    pairs: Path, pictures: Path, tmp_path: Path
) -> None:
    options = EvaluationOptions(outputs=(OutputFolder("perfect", pictures),))
    found = evaluate([], pairs, tmp_path / "out", CONFIG, options)
    assert [model.label for model in found.models] == ["perfect"]
    assert (found.checkpoint, found.step) == ("perfect", None)
    ssim = {(row.checkpoint, row.protocol): row.ssim for row in found.means}
    assert ssim["perfect", "unwarped"] == pytest.approx(1)


def test_names_are_ids_or_blurred_sources_and_the_longest_common_path_counts() -> None:
    found = match_names(["out/p0.png", "IMG_2.tif"], names("raw/IMG_1.CR2", "raw/IMG_2.CR2"))
    assert (found.pictures, found.problems) == ({"p0": "out/p0.png", "p1": "IMG_2.tif"}, ())
    found = match_names(["a/1.png", "b/1.png"], names("raw/a/1.CR2", "raw/b/1.CR2"))
    assert found.pictures == {"p0": "a/1.png", "p1": "b/1.png"}


@pytest.mark.parametrize(
    ("pictures", "pairs", "problem"),
    [
        (["1.png"], names("a/1.CR2", "b/1.CR2"), ("1.png", "the name of 'p0' and of 'p1'")),
        (["p0.png", "x/p0.tif"], names("1.CR2"), ("p0", "has several pictures: p0.png, x/p0.tif")),
        (["p0.png"], names("1.CR2", "p0.CR2"), ("p0.png", "the name of 'p0' and of 'p1'")),
        (["p0.png"], names("1.CR2", "2.CR2"), ("p1", "has no picture")),
        (["p0.png", "p00.png"], names("1.CR2"), ("p00.png", "the name of no pair")),
    ],
)
def test_ambiguous_missing_and_left_over_pictures_are_named(
    pictures: list[str], pairs: list[PairNames], problem: tuple[str, str]
) -> None:
    assert match_names(pictures, pairs).problems == (problem,)


def test_pictures_of_other_splits_are_counted_and_leave_the_name_to_the_split() -> None:
    both = [*names("train/blur/1.png", wanted=False), PairNames("q", "test/blur/1.png", wanted=True)]
    found = match_names(["1.png", "train/blur/1.png"], both)
    assert (found.pictures, found.problems, found.elsewhere) == ({"q": "1.png"}, (), 1)


def test_every_picture_that_does_not_fit_is_named_with_its_reason(pairs: Path, pictures: Path) -> None:
    write_image(pictures / "scene-01.png", np.zeros((90, 128, 3), np.uint8))
    content = (pictures / "scene-02.png").read_bytes()
    (pictures / "scene-02.png").write_bytes(content[: len(content) // 2])
    write_image(pictures / "cover.png", np.zeros((8, 8, 3), np.uint8))
    (pictures / "notes.txt").write_text("not a picture")
    what = reason(pictures, pairs)
    assert "(3)" in what
    assert "scene-01.png: is 128x90 px, its pair 128x96" in what
    assert "cover.png: the name of no pair" in what
    assert "scene-02.png" in what


def test_a_picture_in_another_format_is_missing_and_named(pairs: Path, pictures: Path) -> None:
    (pictures / "scene-02.png").rename(pictures / "scene-02.webp")
    assert "scene-02: has no picture; scene-02.webp is no PNG, TIFF or JPEG" in reason(pictures, pairs)


def test_nothing_is_written_where_a_picture_does_not_fit(pairs: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "scene-02.png").unlink()
    arguments = ["evaluate", str(pairs), "--outputs", f"mine={pictures}", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="scene-02: has no picture"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_bit_depth_and_colour_become_those_of_the_data_set(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    write_image(tmp_path / "8.png", codes)
    write_image(tmp_path / "16.png", codes.astype(np.uint16) * 257)
    eight, sixteen = (read_output(tmp_path / name, Encoding.SRGB8) for name in ("8.png", "16.png"))
    assert torch.equal(eight, sixteen)
    assert torch.equal((255 * eight[0]).round().to(torch.uint8), torch.from_numpy(codes).permute(2, 0, 1))
    linear = np.random.default_rng(2).integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    write_image(tmp_path / "tagged.png", linear, colour=colour_of_encoding(Encoding.LINEAR16))
    write_image(tmp_path / "plain.png", linear)
    tagged, plain = (read_output(tmp_path / name, Encoding.LINEAR16) for name in ("tagged.png", "plain.png"))
    assert (tagged - plain).abs().max() < 2e-4
    brightened = read_output(tmp_path / "tagged.png", Encoding.SRGB16)
    assert (brightened - plain).min() > -1e-4
    assert (brightened - plain).mean() > 0.1


def test_two_methods_of_one_name_and_what_is_no_name_and_folder_are_refused(pairs: Path, pictures: Path) -> None:
    twice = [OutputFolder("mine", pictures)] * 2
    with ShardReader(pairs, split="test") as reader, pytest.raises(InputError, match="two methods are called 'mine'"):
        load_outputs(twice, reader)
    for text in ("mine", "=folder", "mine="):
        with pytest.raises(InputError, match="is not NAME=FOLDER"):
            parse_outputs(text)
    with pytest.raises(InputError, match="no folder"):
        parse_outputs(f"mine={pictures / 'none'}")
