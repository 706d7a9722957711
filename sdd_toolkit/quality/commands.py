"""Command line of `sdd filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("filter")
@click.argument("manifest", type=IN_PATH)
@out_option("Folder for filtered.jsonl.")
@stage_options
def filter_(
    manifest: Path, out: Path, config: Path | None, executor: str | None, overwrite: bool, as_json: bool
) -> None:
    """Measure every pair and keep the good ones, with reasons."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.quality.stage import filter_pairs
    from sdd_toolkit.raw.development import DevelopConfig

    lock_folders(out)
    section = load_section(FilterConfig, "filter", config)
    develop = load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = filter_pairs(manifest, out, section, develop=develop, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
