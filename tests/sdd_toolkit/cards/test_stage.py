from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.cards.stage import markdown_text, write_card, yaml_text
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset as pack
from sdd_toolkit.pipeline.manifest import read_manifest, write_manifest
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.raw.development import Demosaic, DevelopConfig, LensCorrection
from sdd_toolkit.records import Reason, Step, Verdict
from sdd_toolkit.shards.index import Brightness, Warp
from tests.support.small_dataset import filtered_manifest

HOSTILE = 'a: "b"\n---\n# | <script>alert(1)</script> `x` \x07 \u2028 {{ 7 * 7 }} 💥'


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes with two pairs, one pair rejected, packed into `shards` beside the manifest."""
    folder = tmp_path_factory.mktemp("original") / "set"
    path = filtered_manifest(folder)
    source = read_manifest(path)
    last = replace(source.records[-1], verdict=Verdict(keep=False, reason=Reason.MISALIGNED, detail="2 px"))
    write_manifest(path, replace(source, records=(*source.records[:-1], last)))
    pack(path, folder / "shards", PackConfig(name="Kellerbilder", patch_size=128))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "set"))


def front_matter(folder: Path) -> dict[str, Any]:
    values = yaml.safe_load((folder / "shards" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert isinstance(values, dict)
    return values


def card(folder: Path, **values: Any) -> str:
    write_card(folder / "shards", CardConfig(**values))
    return (folder / "shards" / "README.md").read_text(encoding="utf-8")


def test_the_front_matter_holds_the_real_counts(folder: Path) -> None:
    card(folder, license="cc-by-4.0")
    values = front_matter(folder)
    assert values["license"] == "cc-by-4.0"
    assert values["pretty_name"] == "Kellerbilder"
    assert values["task_categories"] == ["image-to-image"]
    assert values["size_categories"] == ["n<1K"]
    splits = {split["name"]: split["num_examples"] for split in values["dataset_info"]["splits"]}
    assert splits == {"train": 4, "test": 1}
    sizes = [path.stat().st_size for path in (folder / "shards").glob("*.h5")]
    assert values["dataset_info"]["dataset_size"] == sum(sizes)


def test_every_data_file_pattern_matches_a_shard(folder: Path) -> None:
    card(folder)
    for entry in front_matter(folder)["configs"][0]["data_files"]:
        assert list((folder / "shards").glob(entry["path"]))


def test_the_card_lists_cameras_exposures_misalignment_and_rejections(folder: Path) -> None:
    text = card(folder, authors=("Ada", "Grace"), source="Shot in a cellar.")
    assert "| Pentacon Six | 5 |" in text
    assert "| f-number | 2.8 (2.8 to 2.8) | 2.8 (2.8 to 2.8) |" in text
    assert "| displacement before alignment, median of a pair, px | 3 | 3 | 3 |" in text
    assert "| `misaligned` | the residual displacement after alignment is too large | 1 |" in text
    assert "Made by Ada, Grace." in text
    assert "Shot in a cellar." in text


def test_thresholds_come_from_the_recorded_configuration(folder: Path) -> None:
    assert "The thresholds of the filter were not recorded." in card(folder)
    recorded = {"filter": {"max_residual_px": 0.625}}
    (folder / "config.json").write_text(json.dumps(recorded))
    assert "| `max_residual_px` | 0.625 |" in card(folder)


def test_thresholds_that_are_given_win(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"filter": {"max_residual_px": 0.625}}))
    write_card(folder / "shards", CardConfig(), thresholds=FilterConfig(max_residual_px=0.5))
    assert "| `max_residual_px` | 0.5 |" in (folder / "shards" / "README.md").read_text(encoding="utf-8")


def test_rejected_files_are_counted_by_reason(folder: Path) -> None:
    lines = ["path,reason,detail", "a.txt,unsupported,", "b.nef,unreadable,cut", "c.txt,unsupported,"]
    (folder / "rejected_files.csv").write_text("\n".join(lines) + "\n")
    assert "| `unsupported` | not a RAW or image file this toolkit reads | 2 |" in card(folder)
    (folder / "rejected_files.csv").write_text("path,reason\na,because\n")
    with pytest.raises(ManifestError, match=r"rejected_files\.csv"):
        card(folder)


def test_hostile_values_stay_values(folder: Path) -> None:
    text = card(folder, name=HOSTILE, license=HOSTILE, description=HOSTILE, authors=(HOSTILE,), source=HOSTILE)
    values = front_matter(folder)
    assert (values["pretty_name"], values["license"]) == (HOSTILE, HOSTILE)
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "{{ 7 * 7 }}" not in body.replace("\\", "x")
    assert "\n---\n" not in body


def test_a_card_without_a_manifest_says_so(folder: Path) -> None:
    shutil.move(folder / "shards", folder.parent / "alone")
    write_card(folder.parent / "alone", CardConfig())
    assert "was not available" in (folder.parent / "alone" / "README.md").read_text(encoding="utf-8")


def test_a_manifest_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_card(folder / "shards", CardConfig(), manifest=folder / "nowhere.jsonl")


def test_the_same_shards_give_the_same_card(folder: Path) -> None:
    assert card(folder) == card(folder)


def test_the_reading_example_of_the_card_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = card(folder).split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder / "shards")
    exec(compile(code, "README.md", "exec"), {})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_yaml(text: str) -> None:
    assert yaml.safe_load(yaml_text(text)) == text


@given(st.text())
def test_any_text_is_one_line_of_markdown_without_tags(text: str) -> None:
    line = markdown_text(text)
    assert "\n" not in line
    assert "<" not in line


def test_the_card_says_how_the_frames_were_brought_together(folder: Path) -> None:
    text = card(folder)
    assert 'by the homography alone (`warp = "homography"`)' in text
    assert 'by the gain (`brightness = "gain"`)' in text
    config = PackConfig(patch_size=128, warp=Warp.HOMOGRAPHY_FLOW, brightness=Brightness.FULL)
    pack(folder / "filtered.jsonl", folder / "shards", config)
    text = card(folder)
    assert 'homography and, where it is reliable, the residual flow (`warp = "homography+flow"`)' in text
    assert '(`brightness = "full"`)' in text
    assert "The residuals above are those before it was applied." in text


def test_a_card_says_of_how_many_pairs_the_sharp_frame_is_a_fusion(folder: Path) -> None:
    assert "focal stack" not in card(folder)
    path = folder / "filtered.jsonl"
    source = read_manifest(path)
    fused = replace(source.records[0], history=(*source.records[0].history, Step("fuse", "0.1.0", "a" * 16, "b" * 16)))
    write_manifest(path, replace(source, records=(fused, *source.records[1:])))
    pack(path, folder / "shards", PackConfig(name="Kellerbilder", patch_size=128))
    assert "The sharp frame of 1 pairs is not a single exposure" in card(folder)


def test_the_card_says_how_the_frames_were_developed(folder: Path) -> None:
    assert 'Mosaics were interpolated by AHD (`demosaic = "ahd"`)' in card(folder)
    develop = DevelopConfig(demosaic=Demosaic.HALF, lens_correction=LensCorrection.LENSFUN_IF_KNOWN)
    pack(folder / "filtered.jsonl", folder / "shards", PackConfig(patch_size=64, min_size_px=64), develop=develop)
    text = card(folder)
    assert "frames and flow have half the size" in text
    assert '(`lens_correction = "lensfun-if-known"`' in text
