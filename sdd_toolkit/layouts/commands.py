"""The commands that take data sets in and give them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import (
    IN_PATH,
    echo_report,
    executor_option,
    json_option,
    lock_folders,
    out_option,
    overwrite_option,
    stage_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.records import Report

PATCHES = "patches"
_INTO_MANIFEST = "Write a manifest for `sdd align` instead of shards."


@click.command("import")
@click.argument("folder", type=IN_PATH)
@click.option(
    "--layout", default="auto", metavar="NAME", help="auto, dpdd, lfdof, realbokeh, sdd, png, realdof, exported."
)
@click.option("--blur", metavar="DIR", help="Any two folders: the blurred frames, relative to FOLDER.")
@click.option("--sharp", metavar="DIR", help="The sharp frames of the same names.")
@click.option("--manifest", "as_manifest", is_flag=True, help=_INTO_MANIFEST)
@out_option("Folder of the shards, or of the manifest.")
@stage_options
def import_(
    folder: Path,
    layout: str,
    blur: str | None,
    sharp: str | None,
    as_manifest: bool,
    out: Path,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack the pairs of DPDD, SDD, RealDOF, LFDOF, RealBokeh or any two folders, pixels as they are."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.layouts.import_stage import RunOptions, import_as_manifest, import_dataset
    from sdd_toolkit.packing.config import PackConfig

    lock_folders(out)
    section = load_section(PackConfig, "pack", config)
    how: RunOptions = {"layout": layout, "blur": blur, "sharp": sharp, "track": terminal}
    how["executor"] = executor or default_name()
    if as_manifest:
        echo_report(import_as_manifest(folder, out, **how), as_json)
        return
    echo_report(import_dataset(folder, out, section, overwrite=overwrite, **how), as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--layout", required=True, metavar="NAME", help="sdd, dpdd, png, tiff, webdataset or patches.")
@click.option("--split", metavar="NAME", help="Only train, val or test.")
@click.option("--patches", is_flag=True, help="Write the training patches as files, too.")
@click.option("--profile", type=click.Choice(["fast", "small", "raw", "portable"]), help="Of --layout patches.")
@out_option("An empty folder, or the same export.")
@executor_option
@overwrite_option
@json_option
def export(
    shards: Path,
    layout: str,
    split: str | None,
    patches: bool,
    profile: str | None,
    out: Path,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write packed pairs as PNG, TIFF, WebDataset archives or patches for `datasets`."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.errors import InputError
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.layouts.export_stage import export_dataset

    if layout == PATCHES:
        echo_report(_patch_shards(shards, out, split, patches, profile, overwrite), as_json)
        return
    if profile is not None:
        raise InputError(f"{layout} takes no --profile", hint="only --layout patches has profiles")
    lock_folders(out)
    how = executor or default_name()
    report = export_dataset(
        shards, out, layout=layout, split=split, patches=patches, executor=how, overwrite=overwrite, track=terminal
    )
    echo_report(report, as_json)


def _patch_shards(
    shards: Path, out: Path, split: str | None, patches: bool, profile: str | None, overwrite: bool
) -> Report:
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.errors import InputError
    from sdd_toolkit.shards.codecs import Profile
    from sdd_toolkit.shards.patch_layout import write_patches

    if patches:
        raise InputError("patches takes no --patches", hint="the layout is nothing but patches")
    lock_folders(out)
    stored = None if profile is None else Profile(profile)
    return write_patches(shards, out, profile=stored, split=split, overwrite=overwrite, track=terminal)
