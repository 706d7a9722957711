"""The `align` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.options import IN_PATH, echo_report, out_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("Folder for aligned.jsonl and flow/.")
@stage_options
def align(manifest: Path, out: Path, config: Path | None, executor: str | None, overwrite: bool, as_json: bool) -> None:
    """Register every blurred frame to its sharp partner."""
    from alignment.config import AlignConfig
    from alignment.stage import run
    from sdd_toolkit.config import load_section
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal

    section = load_section(AlignConfig, "align", config)
    name = executor or default_name()
    report = run(manifest, out, section, executor=name, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
