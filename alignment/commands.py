"""The commands `align`, of a manifest, of two photographs or of a stored transform, and `fuse`, of focal stacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sdd_toolkit.cli.options import IN_PATH, OUT_PATH, echo_report, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.records import Report

WITH_FLOW = "homography+flow"
_OF_A_MANIFEST = ("mask", "export", "breathing")
_OF_TWO_FRAMES = ("mask", "warp")
_OF_A_TRANSFORM = ("pair_id", "warp", "inverse", "nearest")


@click.command()
@click.argument("files", type=IN_PATH, nargs=-1, required=True, metavar="MANIFEST | BLUR SHARP | FILE...")
@out_option("Folder for what is written.")
@click.option("--mask", type=IN_PATH, help="White: where to align by. An image, or a folder of ID.png for a manifest.")
@click.option("--export", type=OUT_PATH, help="Folder for the transform of every aligned pair, as JSON.")
@click.option("--breathing", type=IN_PATH, help="Lens models of `sdd breathing`: the zoom to expect of a pair.")
@click.option("--apply", "transform", type=IN_PATH, help="Transform (.json) or aligned.jsonl to apply to the FILEs.")
@click.option("--pair-id", metavar="ID", help="Which pair of aligned.jsonl to apply.")
@click.option(
    "--warp", type=click.Choice(["homography", WITH_FLOW]), help="Whether what is warped follows the residual flow too."
)
@click.option("--inverse", is_flag=True, help="Apply from the sharp frame's grid to the blurred one's.")
@click.option("--nearest", is_flag=True, help="Copy the nearest number: for masks, label maps and depth maps.")
@stage_options
def align(
    files: tuple[Path, ...],
    out: Path,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
    transform: Path | None,
    **options: Any,
) -> None:
    """Register every blurred frame to its sharp partner.

    \b
    sdd align MANIFEST               every pair of an ingested.jsonl
    sdd align BLUR SHARP             two photographs: transform, aligned frame, check picture
    sdd align --apply JSON FILE...   other files, by a stored transform

    Files are RAW or images. What is aligned keeps its bit depth (RAW becomes 16-bit TIFF) and its metadata.
    """
    if transform is not None:
        report = _transform(transform, files, out, overwrite, **_only(_OF_A_TRANSFORM, "--apply", options))
    elif len(files) == 1:
        options = _only(_OF_A_MANIFEST, "a manifest", options)
        report = _manifest(files[0], out, config, executor, overwrite, **options)
    elif len(files) == 2:
        report = _two_frames(*files, out, config, overwrite, as_json, **_only(_OF_TWO_FRAMES, "two frames", options))
    else:
        raise click.UsageError("give one manifest or two frames; more files go with --apply")
    echo_report(report, as_json)
    if transform is not None and report.rejected:
        raise click.exceptions.Exit(2)


def _manifest(
    manifest: Path,
    out: Path,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    mask: Path | None,
    export: Path | None,
    breathing: Path | None,
) -> Report:
    from alignment.config import AlignConfig
    from alignment.registration.stage import OUTPUT, align_pairs
    from alignment.transforms import transform as transforms
    from sdd_toolkit.calibration import lens_breathing
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.frames.reading import is_candidate
    from sdd_toolkit.raw.development import DevelopConfig

    if is_candidate(manifest):
        raise click.UsageError(f"{manifest} is a photograph: give its sharp partner too.")
    lock_folders(out)
    known = None if breathing is None else lens_breathing.read_models(breathing)
    section = load_section(AlignConfig, "align", config, breathing=known)
    develop = load_section(DevelopConfig, "develop", config)
    name = executor or default_name()
    report = align_pairs(
        manifest, out, section, masks=mask, develop=develop, executor=name, overwrite=overwrite, track=terminal
    )
    if export is None:
        return report
    transforms.export_transform(out / OUTPUT, export)
    return replace(report, outputs=(*report.outputs, str(export)))


def _two_frames(
    blur: Path,
    sharp: Path,
    out: Path,
    config: Path | None,
    overwrite: bool,
    as_json: bool,
    mask: Path | None,
    warp: str | None,
) -> Report:
    from alignment.config import AlignConfig
    from alignment.registration.photograph_pair import align_photographs
    from alignment.transforms.transform import in_words
    from sdd_toolkit.config import load_section

    section = load_section(AlignConfig, "align", config)
    report, transform = align_photographs(
        blur, sharp, out, section, mask=mask, follow_flow=warp == WITH_FLOW, overwrite=overwrite
    )
    if not as_json:
        click.echo(in_words(transform))
    return report


def _transform(
    transform: Path,
    files: tuple[Path, ...],
    out: Path,
    overwrite: bool,
    pair_id: str | None,
    warp: str | None,
    inverse: bool,
    nearest: bool,
) -> Report:
    from alignment.transforms import transform as transforms
    from alignment.transforms.apply import apply_to_files
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.errors import InputError

    stored, flow_file = transforms.load_transform(transform, pair_id)
    if warp == WITH_FLOW and flow_file is None:
        raise InputError(f"{transform} comes with no residual flow", hint="leave out --warp")
    if warp != WITH_FLOW:
        flow_file = None
    return apply_to_files(
        stored, files, out, flow_file=flow_file, inverse=inverse, nearest=nearest, overwrite=overwrite, track=terminal
    )[0]


def _only(names: tuple[str, ...], mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that belong to a mode; refuses others that were given."""
    for name, value in options.items():
        if name not in names and value not in (None, False):
            raise click.UsageError(f"--{name.replace('_', '-')} does not go with {mode}.")
    return {name: options[name] for name in names}


@click.command()
@click.argument("files", type=IN_PATH, nargs=-1, required=True, metavar="MANIFEST | FRAME...")
@out_option("Folder of the data set: fused.jsonl and fused/ are written there; of FRAMEs: folder of the picture.")
@click.option("--reference", type=IN_PATH, help="Of FRAMEs: the one whose framing the picture has (default: sharpest).")
@stage_options
def fuse(
    files: tuple[Path, ...], out: Path, reference: Path | None, config: Path | None, executor: str | None,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make all-in-focus pictures of focal stacks, with a map of origins.

    \b
    sdd fuse MANIFEST                every stack of an ingested.jsonl; its frames become pairs with the picture
    sdd fuse FRAME FRAME...          one stack, no manifest
    """
    from alignment.config import AlignConfig
    from alignment.fusion.stage import FuseConfig, fuse_frames, fuse_stacks
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.formats.containers import is_candidate
    from sdd_toolkit.raw.development import DevelopConfig

    align = load_section(AlignConfig, "align", config)
    if len(files) > 1:
        echo_report(fuse_frames(files, out, align, reference=reference, overwrite=overwrite), as_json)
        return
    if reference is not None or is_candidate(files[0]):
        raise click.UsageError("give one manifest, or several frames; --reference goes with frames.")
    lock_folders(out)
    section, develop = load_section(FuseConfig, "fuse", config), load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = fuse_stacks(
        files[0], out, section, align, develop=develop, executor=how, overwrite=overwrite, track=terminal
    )
    echo_report(report, as_json)
