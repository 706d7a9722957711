"""Command line of `sdd filter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions


@click.command("filter")
@click.argument("manifest", type=IN_PATH)
@out_option("Folder for filtered.jsonl.")
@stage_options
def filter_(manifest: Path, out: Path, run: RunOptions) -> None:
    """Measure every pair and keep the good ones, with reasons."""
    from sdd_toolkit.quality import stage
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.raw.development import DevelopConfig

    lock_folders(out)
    config, develop = run.section(FilterConfig, "filter"), run.section(DevelopConfig, "develop")
    run.echo(stage.filter_pairs(manifest, out, config, develop=develop, **run.stage))
