"""Writes docs/configuration.md from the configuration classes: `python docs/make_configuration.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_docs import SECTIONS, default_text  # noqa: E402

HEAD = """# Configuration

One TOML file, one section per stage; every command takes it as `--config sdd.toml`, `sdd build` as its argument.
Precedence: the defaults below, then (`sdd train --recipe`) a [recipe](training.md), then the file, then flags that were
given. An unknown key is an error that names the nearest valid one. This page is written by
`python docs/make_configuration.py`; a test compares it with the code.
"""


def table(name: str, target: str) -> str:
    """One section as a Markdown table."""
    module, _, attribute = target.partition(":")
    model = getattr(importlib.import_module(module), attribute)
    summary = (model.__doc__ or "").strip().splitlines()[0]
    rows = [f"\n## [{name}]\n", summary, "", "| key | default | meaning |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{key}` | `{default_text(field.get_default(call_default_factory=True))}` | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = HEAD + "".join(table(name, target) for name, target in SECTIONS.items())
    (ROOT / "docs/configuration.md").write_text(page, encoding="utf-8")
