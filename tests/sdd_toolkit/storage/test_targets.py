from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.recorded_config import record_sections
from sdd_toolkit.storage.targets import check_own, check_targets, is_own, sealed
from tests.support.paths import ROOT


def refusal(*targets: Path, inputs: tuple[Path, ...] = (), overwrite: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        check_targets(targets, inputs, overwrite=overwrite)
    return caught.value.what


def test_results_that_exist_are_named_and_counted_unless_they_may_be_replaced(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    check_targets(paths)
    for path in paths:
        path.write_bytes(b"mine")
    assert refusal(paths[0]) == f"{paths[0]} exists already"
    assert refusal(*paths) == f"{paths[0]}, {paths[1]}, {paths[2]} and 2 more exist already"
    check_targets(paths, overwrite=True)


def test_a_link_that_leads_nowhere_exists(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere")
    assert "exists already" in refusal(tmp_path / "a.png")


def test_an_input_is_never_replaced_under_whatever_name(tmp_path: Path) -> None:
    photo = tmp_path / "card" / "photo.png"
    photo.parent.mkdir()
    photo.write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "folder").symlink_to(photo.parent)
    os.link(photo, tmp_path / "twin.png")
    targets = (photo, tmp_path / "card/../card/photo.png", tmp_path / "folder/photo.png", tmp_path / "twin.png")
    for target in targets:
        assert refusal(target, inputs=(photo,), overwrite=True) == f"{target} would replace an input"
    assert "would replace an input" in refusal(photo, inputs=(tmp_path / "link.png",), overwrite=True)


@pytest.mark.parametrize("other", ["photo.png", "PHOTO.png", "../out/photo.png"])
def test_two_results_of_one_name_are_refused_with_overwrite_too(tmp_path: Path, other: str) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out"
    assert "the result of two files" in refusal(out / "photo.png", out / other, overwrite=True)


def test_two_unicode_spellings_are_one_name(tmp_path: Path) -> None:
    assert "the result of two files" in refusal(tmp_path / "f\u00fcr.png", tmp_path / "fu\u0308r.png")


FOREIGN = {
    "README.md": b"# My pictures\n",
    "pairs.csv": b"blur,sharp\na.png,b.png\n",
    "config.json": b'{"_name_or_path": "model"}',
    "splits.toml": b'[pack.split]\ntest = ["mine"]\n',
    "index.json": b'{"files": []}',
    "report.html": b"<html>mine</html>",
    "ingested.jsonl": b'{"a": 1}\n',
    "hot_pixels.json": b"[]",
    "rejected_files.csv": b"file,why\n",
    "latest": b"v1\n",
    "train-00000-of-00001.h5": b"\x89HDF\r\n\x1a\n" + bytes(5000),
    "flow.npz": b"PK\x03\x04" + bytes(26) + b"arr_0.npy",
    "photo.png": b"\x89PNG",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_are_told_from_own_ones(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert is_own(path)
    path.write_bytes(b"")
    assert is_own(path)
    path.write_bytes(FOREIGN[name])
    assert not is_own(path)
    with pytest.raises(InputError, match="was not written by sdd"):
        check_own([path, tmp_path / "missing"])
    check_own([path], overwrite=True)


def test_own_files_are_recognised() -> None:
    names = ("index.json", "train-00000-of-00001.h5")
    found = [path for path in (ROOT / "tests").glob("golden_*/**/*") if path.name in names]
    assert len(found) > 6
    assert [path for path in found if not is_own(path)] == []


def test_the_configuration_of_a_run_is_not_that_of_a_data_set(tmp_path: Path) -> None:
    run, data_set = ROOT / "tests/golden_checkpoint/config.json", tmp_path / "config.json"
    data_set.write_text('{"ingest":{"pairing":"focus"}}')
    assert [is_own(path, "run") for path in (run, data_set)] == [True, False]
    assert [is_own(path) for path in (run, data_set)] == [False, True]


@pytest.mark.parametrize(
    "text", ['{"scripts":{"test":"x"}}', '{"card":3}', '{"cards":{}}', '{"x":{},"pack":{}}', '{"pack": {}}']
)
def test_a_compact_json_of_others_is_no_configuration_of_a_data_set(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert not is_own(path)
    for section in ("ingest", "develop", "fuse", "align", "filter", "pack", "card", "report"):
        record_sections(tmp_path / section, {section: {}})
        assert is_own(tmp_path / section / "config.json")


@pytest.mark.parametrize("name", ["README.md", "splits.toml"])
def test_a_sealed_text_is_own_until_it_is_edited(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(text := sealed("# Card\n", path.suffix))
    assert is_own(path)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert is_own(path)
    for edited in (text.replace("Card", "My card"), text + "more\n", text + text, "# Card\n"):
        path.write_text(edited)
        assert not is_own(path)


def test_a_link_and_a_folder_are_not_own(tmp_path: Path) -> None:
    (tmp_path / "index.json").symlink_to("nowhere")
    (tmp_path / "README.md").mkdir()
    assert not is_own(tmp_path / "index.json")
    assert not is_own(tmp_path / "README.md")
