"""The front door: command names, where they live, one line of help each. Nothing heavy is imported here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from sdd_toolkit.cli.lazy_group import CommandSpec, LazyGroup, run_cli
from sdd_toolkit.cli.options import (
    IN_PATH,
    OUT_PATH,
    echo_report,
    executor_option,
    json_option,
    lock_folders,
    overwrite_option,
)
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import Report

WORKER_MODULES = (
    "capture.ingest.stage",
    "sdd_toolkit.calibration.hot_pixel_map",
    "alignment.registration.stage",
    "sdd_toolkit.quality.stage",
    "sdd_toolkit.packing.stage",
    "sdd_toolkit.report.pictures",
)
"""Where the tasks are that a build has for worker processes."""

CAPTURE_COMMANDS = (
    CommandSpec("plan", "capture.tether.commands:plan", "Write a commented shot list to edit."),
    CommandSpec("run", "capture.tether.commands:run", "Shoot a plan with a tethered camera, resuming."),
    CommandSpec(
        "cameras", "capture.tether.commands:cameras", "List connected cameras and, on request, their settings."
    ),
    CommandSpec(
        "simulate", "capture.virtual.commands:simulate", "Shoot pairs with the virtual camera, truth beside them."
    ),
)

COMMANDS = (
    CommandSpec("ingest", "capture.commands:ingest", "Find RAW files and images and form pairs: the manifest."),
    CommandSpec(
        "hotpixels", "sdd_toolkit.calibration.commands:hotpixels", "Find the hot and dead pixels of every camera."
    ),
    CommandSpec(
        "fuse", "alignment.commands:fuse", "Make all-in-focus pictures of focal stacks, with a map of origins."
    ),
    CommandSpec("align", "alignment.commands:align", "Register every blurred frame to its sharp partner."),
    CommandSpec(
        "breathing",
        "sdd_toolkit.calibration.commands:breathing",
        "Fit how the lenses breathe: zoom against focus position.",
    ),
    CommandSpec(
        "filter", "sdd_toolkit.quality.commands:filter_", "Measure every pair and keep the good ones, with reasons."
    ),
    CommandSpec(
        "pack", "sdd_toolkit.packing.commands:pack", "Develop, warp and write the kept pairs into HDF5 shards."
    ),
    CommandSpec("verify", "sdd_toolkit.audit.commands:verify", "Re-read every shard and compare it with the index."),
    CommandSpec(
        "split", "sdd_toolkit.rearranging.commands:split", "Share the scenes of a packed set out anew, copying."
    ),
    CommandSpec("merge", "sdd_toolkit.rearranging.commands:merge", "Make one packed set of several, copying."),
    CommandSpec(
        "subset",
        "sdd_toolkit.rearranging.commands:subset",
        "Take the pairs of a packed set that fulfil a condition, copying.",
    ),
    CommandSpec("leakage", "sdd_toolkit.audit.commands:leakage", "Find scenes of different splits that look alike."),
    CommandSpec("card", "sdd_toolkit.cards.commands:card", "Write the data card of a packed data set."),
    CommandSpec(
        "show",
        "sdd_toolkit.audit.commands:show",
        "Show where a packed pair comes from: source files, every step, its shard.",
    ),
    CommandSpec(
        "report", "sdd_toolkit.report.commands:report", "Write one HTML page of statistics and pictures, and a CSV."
    ),
    CommandSpec("build", "cli:build", "Run all stages from a configuration file, resuming."),
    CommandSpec(
        "import",
        "sdd_toolkit.layouts.commands:import_",
        "Pack the pairs of DPDD, SDD, RealDOF, LFDOF, RealBokeh or any two folders, pixels as they are.",
    ),
    CommandSpec(
        "export",
        "sdd_toolkit.layouts.commands:export",
        "Write packed pairs as PNG, TIFF, WebDataset archives or patches for `datasets`.",
    ),
    CommandSpec("train", "jdrl.commands:train", "Train a deblurring network with JDRL on shards."),
    CommandSpec("evaluate", "jdrl.commands:evaluate", "Score a checkpoint on the test pairs of a data set."),
    CommandSpec("deblur", "jdrl.commands:deblur", "Deblur photographs: RAW or images of any size."),
    CommandSpec(
        "blurmap",
        "jdrl.commands:blurmap",
        "Map how blurred photographs are: the radius of the circle of confusion, pixel by pixel.",
    ),
    CommandSpec("export-onnx", "jdrl.commands:export_onnx", "Write a trained network as an ONNX file."),
    CommandSpec("networks", "jdrl.commands:networks", "List the deblurring networks: size, cost, paper, licence."),
)


class StageOptions(TypedDict):
    """How a stage is run, whichever it is."""

    executor: str
    overwrite: bool
    track: Track


@click.group(
    cls=LazyGroup,
    specs=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=False,
)
@click.version_option(__version__, prog_name="sdd")
def cli() -> None:
    """Make a defocus-deblurring data set from RAW pairs, and train and evaluate JDRL on it."""


@cli.group(
    "capture",
    cls=LazyGroup,
    specs=CAPTURE_COMMANDS,
    help="Shoot pairs: with a tethered camera, or with the virtual one.",
    invoke_without_command=False,
)
def capture() -> None:
    """Groups the commands that shoot."""


@click.command("build")
@click.argument("config", type=IN_PATH)
@click.option("--source", type=IN_PATH, multiple=True, help="Folder with RAW files; instead of [build] sources.")
@click.option("--out", type=OUT_PATH, help="Folder of the data set; instead of [build] out.")
@click.option("--breathing", type=IN_PATH, help="Lens models of `sdd breathing`: the zoom to expect of a pair.")
@click.option("--mask", type=IN_PATH, help="White: where to align by. An image, or a folder of ID.png.")
@executor_option
@overwrite_option
@json_option
def build(
    config: Path,
    source: tuple[Path, ...],
    out: Path | None,
    breathing: Path | None,
    mask: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run all stages from a configuration file, resuming.

    Ingest, hotpixels, align, filter, pack, verify, card, report. Every stage skips what an earlier run has done.
    """
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.execution.spec import default_name

    reports = build_dataset(config, source, out, executor or default_name(), overwrite, terminal, breathing, mask)
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports]))
        return
    for report in reports:
        echo_report(report, as_json=False)


def build_dataset(
    config: Path,
    source: tuple[Path, ...],
    out: Path | None,
    executor: str,
    overwrite: bool,
    track: Track,
    breathing: Path | None = None,
    mask: Path | None = None,
) -> list[Report]:
    """The recipe: every stage from RAW files to the report, in order.

    Args:
        config: `sdd.toml`; each stage reads its own section.
        source: Folders with RAW files; empty means those of `[build]`.
        out: Folder of the data set; None means that of `[build]`.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Do everything again.
        track: Shows progress.
        breathing: File of `sdd breathing`; None means `[align] breathing`.
        mask: Where to align by: an image for all pairs, or a folder of `ID.png`.
    """
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.executor import start_workers_early
    from sdd_toolkit.pipeline.dataset_folder import BuildConfig, record_config, resolve

    recipe = load_section(BuildConfig, "build", config)
    sources, dataset = resolve(config, source, out, recipe)
    if not dataset.ingested.exists():
        # Workers import as long as this process does.
        start_workers_early(executor, WORKER_MODULES)
    import alignment.config
    import alignment.fusion.stage
    import alignment.registration.stage
    import capture.config
    import capture.ingest.stage
    from sdd_toolkit.audit import verify
    from sdd_toolkit.calibration import hot_pixel_map, lens_breathing
    from sdd_toolkit.cards import stage as cards
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.errors import SddError
    from sdd_toolkit.packing import stage as pack
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.quality import stage as filter
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.report import stage as report

    lock_folders(dataset.folder, dataset.shards, dataset.report)
    ingest = load_section(capture.config.IngestConfig, "ingest", config)
    develop = load_section(DevelopConfig, "develop", config)
    fuse = load_section(alignment.fusion.stage.FuseConfig, "fuse", config)
    known = None if breathing is None else lens_breathing.read_models(breathing)
    align = load_section(alignment.config.AlignConfig, "align", config, breathing=known)
    select = load_section(FilterConfig, "filter", config)
    packing = load_section(PackConfig, "pack", config)
    card = load_section(CardConfig, "card", config)
    page = load_section(report.ReportConfig, "report", config)
    record_config(
        dataset,
        {
            "ingest": ingest,
            "develop": develop,
            "fuse": fuse,
            "align": align,
            "filter": select,
            "pack": packing,
            "card": card,
            "report": page,
        },
    )
    # Positional: manifest (or folder) in, folder out, configuration. The keywords are the same for every stage.
    how: StageOptions = {"executor": executor, "overwrite": overwrite, "track": track}
    done = [capture.ingest.stage.ingest_photographs(sources, dataset.folder, ingest, **how)]
    if develop.hot_pixels:
        done.append(hot_pixel_map.find_hot_pixels(dataset.ingested, dataset.folder, **how))
    if recipe.fuse_stacks:
        done.append(
            alignment.fusion.stage.fuse_stacks(dataset.ingested, dataset.folder, fuse, align, develop=develop, **how)
        )
    pairs = dataset.fused if recipe.fuse_stacks else dataset.ingested
    done += [
        alignment.registration.stage.align_pairs(pairs, dataset.folder, align, masks=mask, develop=develop, **how),
        filter.filter_pairs(dataset.aligned, dataset.folder, select, develop=develop, **how),
    ]
    try:
        done.append(pack.pack_dataset(dataset.filtered, dataset.shards, packing, develop=develop, **how))
        # Pack has decoded what it wrote and hashed all shards: `sdd verify` does both once more.
        done.append(verify.verify_shards(dataset.shards, pixels=False, hashes=False, executor=executor, track=track))
        done.append(cards.write_card(dataset.shards, card, manifest=dataset.filtered))
    except SddError as error:
        # A build that ends without a data set needs the page that says why most of all.
        cards.remove_card(dataset.shards)
        shown = report.write_report(dataset.folder, dataset.report, page, shards=dataset.shards, **how)
        raise type(error)(error.what, hint=f"{error.hint}; see {shown.outputs[0]}") from error
    return [*done, report.write_report(dataset.folder, dataset.report, page, shards=dataset.shards, **how)]


def main() -> None:
    """The `sdd` program."""
    # Looking for other packages' pydantic plug-ins takes longer than reading the configuration.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    run_cli(cli)


if __name__ == "__main__":
    main()
