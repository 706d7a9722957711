"""Command line of `sdd filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, set_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions


@click.command("filter")
@click.argument("manifest", type=IN_PATH)
@out_option("Folder for filtered.jsonl.")
@set_options
def filter_(manifest: Path, out: Path, run: RunOptions) -> None:
    """Measure every pair and keep the good ones, with reasons."""
    from sdd_toolkit.quality import stage
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.raw.development import DevelopConfig

    lock_folders(out)
    config = run.set_section(manifest.parent, FilterConfig, "filter")
    develop = run.set_section(manifest.parent, DevelopConfig, "develop")
    report = stage.filter_pairs(manifest, out, config, develop=develop, **run.stage)
    run.record(manifest.parent, out, filter=config, develop=develop)
    run.echo(report)
