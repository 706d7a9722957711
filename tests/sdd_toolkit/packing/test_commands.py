from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdd_toolkit.audit.commands import verify
from sdd_toolkit.cards.commands import card
from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.packing.commands import pack
from tests.support.small_dataset import filtered_manifest


def test_pack_verify_and_card_walk_from_manifest_to_card(tmp_path: Path) -> None:
    manifest, shards = filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "shards"
    (tmp_path / "sdd.toml").write_text('[pack]\nencoding = "linear16"\n[card]\nlicense = "cc0-1.0"\n')
    given = ["--config", str(tmp_path / "sdd.toml"), "--json"]
    packed = CliRunner().invoke(pack, [str(manifest), "--out", str(shards), "--executor", "serial", *given])
    assert json.loads(packed.stdout)["done"] == 2
    assert json.loads(CliRunner().invoke(verify, [str(shards), "--json"]).stdout)["done"] == 2
    written = CliRunner().invoke(card, [str(shards), "--manifest", str(manifest), *given])
    assert json.loads(written.stdout)["outputs"] == [
        str(shards / name) for name in ("README.md", "pairs.csv", "croissant.json")
    ]
    text = (shards / "README.md").read_text(encoding="utf-8")
    assert 'license: "cc0-1.0"' in text
    assert "| `max_residual_px` | 1 |" in text
    assert "`linear16`" in text


def test_verify_of_a_damaged_folder_ends_with_an_integrity_error(tmp_path: Path) -> None:
    manifest, shards = filtered_manifest(tmp_path / "set", scenes=2, pairs=1), tmp_path / "shards"
    CliRunner().invoke(pack, [str(manifest), "--out", str(shards), "--executor", "serial"])
    next(shards.glob("train*.h5")).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        CliRunner().invoke(verify, [str(shards)], catch_exceptions=False)
