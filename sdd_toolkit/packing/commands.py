"""The commands of the ground floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, lock_folders, shards_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("manifest", type=IN_PATH)
@shards_option
@click.option("--profile", type=click.Choice(["fast", "small", "raw", "portable"]), help="See [pack] profile.")
@stage_options
def pack(
    manifest: Path,
    out: Location,
    profile: str | None,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Develop, warp and write the kept pairs into HDF5 shards."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.packing.stage import pack_dataset
    from sdd_toolkit.raw.development import DevelopConfig

    lock_folders(out)
    section = load_section(PackConfig, "pack", config, profile=profile)
    develop = load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = pack_dataset(manifest, out, section, develop=develop, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
