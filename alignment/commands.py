"""Command line of `sdd align` (a manifest, two photographs or a stored transform) and `sdd fuse` (focal stacks)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sdd_toolkit.cli.options import IN_PATH, OUT_PATH, lock_folders, out_option, set_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.records import Report

WITH_FLOW = "homography+flow"
_MANIFEST_OPTIONS = ("mask", "export", "breathing")
_TWO_FRAMES_OPTIONS = ("mask", "warp", "strip")
_TRANSFORM_OPTIONS = ("pair_id", "warp", "inverse", "nearest", "strip")


@click.command()
@click.argument("files", type=IN_PATH, nargs=-1, required=True, metavar="MANIFEST | BLUR SHARP | FILE...")
@out_option("Folder of the results.")
@click.option(
    "--mask", type=IN_PATH, help="White pixels are used to align: an image, or for a manifest a folder of ID.png."
)
@click.option("--export", type=OUT_PATH, help="Folder for the transform of every aligned pair, as JSON.")
@click.option("--breathing", type=IN_PATH, help="Lens models of `sdd breathing`, which predict the zoom of a pair.")
@click.option("--apply", "transform", type=IN_PATH, help="Transform (.json) or aligned.jsonl to apply to the FILEs.")
@click.option("--pair-id", metavar="ID", help="Pair of aligned.jsonl whose transform is applied.")
@click.option(
    "--warp", type=click.Choice(["homography", WITH_FLOW]), help="Motion to apply: without or with the residual flow."
)
@click.option("--inverse", is_flag=True, help="Apply from the sharp frame's grid to the blurred one's.")
@click.option("--nearest", is_flag=True, help="Copy the nearest value: for masks, label maps and depth maps.")
@click.option("--strip", is_flag=True, help="Copy no metadata but the colour profile, for publishing.")
@set_options
def align(files: tuple[Path, ...], out: Path, run: RunOptions, transform: Path | None, **options: Any) -> None:
    """Register every blurred frame to its sharp partner.

    \b
    sdd align MANIFEST               every pair of an ingested.jsonl
    sdd align BLUR SHARP             two photographs: transform, aligned frame, check picture
    sdd align --apply JSON FILE...   other files, by a stored transform

    Files are RAW or images. Aligned frames keep their bit depth (RAW becomes 16-bit TIFF), their colour profile
    and their metadata.
    """
    if transform is not None:
        report = _apply_transform(transform, files, out, run, **_select_options(_TRANSFORM_OPTIONS, "--apply", options))
    elif len(files) == 1:
        report = _align_manifest(files[0], out, run, **_select_options(_MANIFEST_OPTIONS, "a manifest", options))
    elif len(files) == 2:
        report = _align_two_frames(*files, out, run, **_select_options(_TWO_FRAMES_OPTIONS, "two frames", options))
    else:
        raise click.UsageError("give one manifest or two frames; more files go with --apply")
    run.echo(report)
    if transform is not None and report.rejected:
        raise click.exceptions.Exit(2)


def _align_manifest(
    manifest: Path, out: Path, run: RunOptions, *, mask: Path | None, export: Path | None, breathing: Path | None
) -> Report:
    from alignment.config import AlignConfig
    from alignment.registration import stage
    from alignment.transforms import transform as transforms
    from sdd_toolkit.calibration import lens_breathing
    from sdd_toolkit.formats.containers import is_candidate
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.storage.targets import check_targets

    if is_candidate(manifest):
        raise click.UsageError(f"{manifest} is a photograph: give its sharp partner too.")
    if export is not None:
        check_targets(transforms.exported_files(manifest, export), overwrite=run.overwrite)
    lock_folders(out)
    models = None if breathing is None else lens_breathing.read_models(breathing)
    config = run.set_section(manifest.parent, AlignConfig, "align", breathing=models)
    develop = run.set_section(manifest.parent, DevelopConfig, "develop")
    report = stage.align_pairs(manifest, out, config, masks=mask, develop=develop, **run.stage)
    run.record(manifest.parent, out, align=config, develop=develop)
    if export is None:
        return report
    transforms.export_transforms(out / stage.OUTPUT, export)
    return replace(report, outputs=(*report.outputs, str(export)))


def _align_two_frames(
    blur: Path, sharp: Path, out: Path, run: RunOptions, *, mask: Path | None, warp: str | None, strip: bool
) -> Report:
    from alignment.config import AlignConfig
    from alignment.registration import photograph_pair
    from alignment.transforms.transform import describe_transform

    config = run.section(AlignConfig, "align")
    report, transform = photograph_pair.align_photographs(
        blur, sharp, out, config, mask=mask, follow_flow=warp == WITH_FLOW, strip=strip, overwrite=run.overwrite
    )
    if not run.as_json:
        click.echo(describe_transform(transform))
    return report


def _apply_transform(
    transform: Path,
    files: tuple[Path, ...],
    out: Path,
    run: RunOptions,
    *,
    pair_id: str | None,
    warp: str | None,
    **options: bool,
) -> Report:
    from alignment.transforms import apply
    from alignment.transforms import transform as transforms
    from sdd_toolkit.errors import InputError

    stored, flow_file = transforms.load_transform(transform, pair_id)
    if warp == WITH_FLOW and flow_file is None:
        raise InputError(f"{transform} has no residual flow", hint="leave out --warp")
    if warp != WITH_FLOW:
        flow_file = None
    report, _ = apply.apply_to_files(
        stored,
        files,
        out,
        flow_file=flow_file,
        options=apply.ApplyOptions(**options),
        overwrite=run.overwrite,
        track=run.track,
    )
    return report


def _select_options(names: tuple[str, ...], mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that belong to a mode; others that were given are refused."""
    for name, value in options.items():
        if name not in names and value not in (None, False):
            raise click.UsageError(f"--{name.replace('_', '-')} cannot be combined with {mode}.")
    return {name: options[name] for name in names}


@click.command()
@click.argument("files", type=IN_PATH, nargs=-1, required=True, metavar="MANIFEST | FRAME...")
@out_option("Folder of the data set, for fused.jsonl and fused/; of FRAMEs: folder of the picture.")
@click.option("--reference", type=IN_PATH, help="Of FRAMEs: the one that gives the framing (default: the sharpest).")
@click.option("--strip", is_flag=True, help="Of FRAMEs: copy no metadata to the picture, for publishing.")
@set_options
def fuse(files: tuple[Path, ...], out: Path, reference: Path | None, strip: bool, run: RunOptions) -> None:
    """Make all-in-focus pictures of focal stacks, with a map of origins.

    \b
    sdd fuse MANIFEST                every stack of an ingested.jsonl; its frames become pairs with the picture
    sdd fuse FRAME FRAME...          one stack, no manifest
    """
    from alignment.config import AlignConfig
    from alignment.fusion import stage
    from sdd_toolkit.formats.containers import is_candidate
    from sdd_toolkit.raw.development import DevelopConfig

    if len(files) > 1:
        align = run.section(AlignConfig, "align")
        run.echo(stage.fuse_frames(files, out, align, reference=reference, strip=strip, overwrite=run.overwrite))
        return
    if reference is not None or strip or is_candidate(files[0]):
        raise click.UsageError("give one manifest, or several frames; --reference and --strip are for frames only.")
    lock_folders(out)
    folder = files[0].parent
    align = run.set_section(folder, AlignConfig, "align")
    config, develop = (
        run.set_section(folder, stage.FuseConfig, "fuse"),
        run.set_section(folder, DevelopConfig, "develop"),
    )
    report = stage.fuse_stacks(files[0], out, config, align, develop=develop, **run.stage)
    run.record(folder, out, fuse=config, align=align, develop=develop)
    run.echo(report)
