"""Command line of `sdd pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, set_options, shards_option

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("manifest", type=IN_PATH)
@shards_option
@click.option("--profile", type=click.Choice(["fast", "small", "raw", "portable"]), help="See [pack] profile.")
@set_options
def pack(manifest: Path, out: Location, profile: str | None, run: RunOptions) -> None:
    """Develop, warp and write the kept pairs into HDF5 shards."""
    from sdd_toolkit.packing import stage
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.raw.development import DevelopConfig

    lock_folders(out)
    config = run.set_section(manifest.parent, PackConfig, "pack", profile=profile)
    develop = run.set_section(manifest.parent, DevelopConfig, "develop")
    report = stage.pack_dataset(manifest, out, config, develop=develop, **run.stage)
    run.record_change(manifest.parent, pack=config, develop=develop)
    run.echo(report)
