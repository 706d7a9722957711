"""Command line of `sdd import` and `sdd export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, run_options, stage_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.records import Report

PATCHES = "patches"
_INTO_MANIFEST = "Write a manifest for `sdd align` instead of shards."


@click.command("import")
@click.argument("folder", type=IN_PATH)
@click.option(
    "--layout",
    default="auto",
    metavar="NAME",
    help="auto, dpdd, restormer, nafnet, lfdof, realbokeh, sdd, png, realdof, exported.",
)
@click.option("--blur", metavar="DIR", help="Any two folders: the blurred frames, relative to FOLDER.")
@click.option("--sharp", metavar="DIR", help="The sharp frames of the same names.")
@click.option("--follow-links", is_flag=True, help="Follow links that lead out of FOLDER, and links to folders.")
@click.option("--manifest", "as_manifest", is_flag=True, help=_INTO_MANIFEST)
@out_option("Folder of the shards, or of the manifest.")
@stage_options
def import_(folder: Path, as_manifest: bool, follow_links: bool, out: Path, run: RunOptions, **layout: Any) -> None:
    """Pack the pairs of DPDD, SDD, RealDOF, LFDOF, RealBokeh or any two folders, pixels as they are."""
    from sdd_toolkit.layouts import import_stage
    from sdd_toolkit.packing.config import PackConfig

    lock_folders(out)
    config = run.section(PackConfig, "pack")
    source = import_stage.ImportConfig(**layout)
    if as_manifest:
        run.echo(import_stage.import_as_manifest(folder, out, source, follow_links=follow_links, **run.stage))
        return
    run.echo(import_stage.import_dataset(folder, out, config, source, follow_links=follow_links, **run.stage))


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--layout", required=True, metavar="NAME", help="sdd, dpdd, png, tiff, webdataset or patches.")
@click.option("--split", metavar="NAME", help="Only train, val or test.")
@click.option("--patches", is_flag=True, help="Write the training patches as files, too.")
@click.option("--profile", type=click.Choice(["fast", "small", "raw", "portable"]), help="Of --layout patches.")
@out_option("An empty folder, or the same export.")
@run_options("executor", "overwrite", "as_json")
def export(shards: Path, out: Path, layout: str, profile: str | None, run: RunOptions, **content: Any) -> None:
    """Write packed pairs as PNG, TIFF, WebDataset archives or patches for `datasets`."""
    from sdd_toolkit.errors import InputError
    from sdd_toolkit.layouts import export_stage

    if layout == PATCHES:
        run.echo(_export_patches(shards, out, profile, run, **content))
        return
    if profile is not None:
        raise InputError(f"{layout} takes no --profile", hint="only --layout patches has profiles")
    lock_folders(out)
    run.echo(export_stage.export_dataset(shards, out, layout=layout, **content, **run.stage))


def _export_patches(
    shards: Path, out: Path, profile: str | None, run: RunOptions, *, split: str | None, patches: bool
) -> Report:
    from sdd_toolkit.errors import InputError
    from sdd_toolkit.shards import patch_writer
    from sdd_toolkit.shards.codecs import Profile

    if patches:
        raise InputError("patches takes no --patches", hint="the layout is nothing but patches")
    lock_folders(out)
    stored = None if profile is None else Profile(profile)
    return patch_writer.write_patches(
        shards, out, profile=stored, split=split, overwrite=run.overwrite, track=run.track
    )
