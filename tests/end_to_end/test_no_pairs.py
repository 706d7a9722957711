"""A data set without pairs: every command says so, with the reason, and ends with 2."""

from __future__ import annotations

from pathlib import Path

from sdd_toolkit.pipeline.manifest import Manifest, write_manifest
from tests.support.command_line import sdd_in_process
from tests.support.dng_files import scene_rgb, write_dng


def test_no_pair_is_an_error_of_every_stage(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "set"
    raw.mkdir()
    for number in (1, 2):
        write_dng(raw / f"{number}.dng", scene_rgb(40, 60) * number / 2)
    (tmp_path / "sdd.toml").write_text('[ingest]\npairing = "aperture"\n')
    empty = tmp_path / "empty/aligned.jsonl"
    empty.parent.mkdir()
    write_manifest(empty, Manifest(empty.parent, ()))
    runs = {
        ("ingest", raw, "--pairing", "aperture", "--out", out): "2 files, no pair: no_partner, no frame tells its",
        ("build", tmp_path / "sdd.toml", "--source", raw, "--out", tmp_path / "built"): "2 files, no pair: no_partner",
        ("align", empty, "--out", out): "holds no pair",
        ("fuse", empty, "--out", out): "holds no pair",
        ("filter", empty, "--out", out): "holds no pair",
        ("pack", empty, "--out", out / "shards"): "keeps none of its 0 pairs",
        ("import", raw, "--out", tmp_path / "imported"): "error: ",
    }
    for words, message in runs.items():
        done = sdd_in_process(*words, check=False)
        assert done.returncode == 2, words
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "built/shards").exists()
