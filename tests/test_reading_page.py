"""The code of `docs/reading.md` runs, as it stands, one way to read after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.stage import pack_dataset
from tests.support.paths import ROOT
from tests.support.small_dataset import filtered_manifest

PAGE = ROOT / "docs" / "reading.md"
CHECKS = """
assert window[0].shape == window[1].shape
assert (pair.blur == dataset.reader.read_images(patch.pair, patch.top, patch.left, edge, edge)[0]).all()
assert stream.state_dict()["epoch"] == 2 and state["batch_number"] == len(stream)
assert tuple(batch["blur"].shape) == (8, 3, 64, 64)
assert (rows[0]["blur"] == blur).all() and rows[0]["pair"] == reader.patches[0].pair
"""


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    config = PackConfig(patch_size=64)
    pack_dataset(filtered_manifest(tmp_path / "set", scenes=2, pairs=2), tmp_path / "shards", config)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    root = str(PAGE.parent.parent)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code + CHECKS], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
