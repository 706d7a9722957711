"""The program `sdd`: its table of commands, and `sdd build`, which runs all stages. Imports nothing heavy."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.lazy_group import CommandSpec, LazyGroup, run_cli, verbose_option
from sdd_toolkit.cli.options import IN_PATH, OUT_PATH, lock_folders, run_options
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from alignment.config import AlignConfig
    from alignment.fusion.stage import FuseConfig
    from capture.config import IngestConfig
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.pipeline.dataset_folder import DatasetFolder
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.records import Report
    from sdd_toolkit.report.stage import ReportConfig

WORKER_MODULES = (
    "capture.ingest.stage",
    "sdd_toolkit.calibration.hot_pixel_map",
    "alignment.registration.stage",
    "sdd_toolkit.quality.stage",
    "sdd_toolkit.packing.stage",
    "sdd_toolkit.report.pictures",
)
"""Modules whose tasks a build sends to worker processes."""

CAPTURE_COMMANDS = (
    CommandSpec("plan", "capture.tether.commands:plan", "Write a commented shot list to edit."),
    CommandSpec("run", "capture.tether.commands:shoot", "Shoot a plan with a tethered camera, resuming."),
    CommandSpec(
        "cameras", "capture.tether.commands:cameras", "List connected cameras and, on request, their settings."
    ),
    CommandSpec(
        "simulate", "capture.virtual.commands:simulate", "Shoot pairs with the virtual camera, truth beside them."
    ),
)

BENCH_COMMANDS = (
    CommandSpec(
        "vsdd",
        "sdd_toolkit.bench.commands:vsdd",
        "Train on displaced virtual pairs in many ways, and score by the truth.",
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


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of `sdd.toml` that `sdd build` needs, each named as in the file."""

    ingest: IngestConfig
    develop: DevelopConfig
    fuse: FuseConfig
    align: AlignConfig
    filter: FilterConfig
    pack: PackConfig
    card: CardConfig
    report: ReportConfig


@click.group(
    cls=LazyGroup,
    specs=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=False,
)
@click.version_option(__version__, prog_name="sdd")
def cli() -> None:
    """Make a defocus-deblurring data set from RAW pairs, and train and evaluate JDRL on it."""


cli.params.append(verbose_option())


@cli.group(
    "capture",
    cls=LazyGroup,
    specs=CAPTURE_COMMANDS,
    help="Shoot pairs: with a tethered camera, or with the virtual one.",
    invoke_without_command=False,
)
def capture() -> None:
    """Groups the commands that shoot."""


@cli.group(
    "bench",
    cls=LazyGroup,
    specs=BENCH_COMMANDS,
    help="Benchmarks of whole methods, against the truth.",
    invoke_without_command=False,
)
def bench() -> None:
    """Groups the benchmarks."""


@click.command("build")
@click.argument("config", type=IN_PATH)
@click.option("--source", type=IN_PATH, multiple=True, help="Folder with RAW files; instead of [build] sources.")
@click.option("--out", type=OUT_PATH, help="Folder of the data set; instead of [build] out.")
@click.option("--breathing", type=IN_PATH, help="Lens models of `sdd breathing`: the zoom to expect of a pair.")
@click.option("--mask", type=IN_PATH, help="White: where to align by. An image, or a folder of ID.png.")
@run_options("executor", "overwrite", "as_json")
def build(
    config: Path,
    source: tuple[Path, ...],
    out: Path | None,
    breathing: Path | None,
    mask: Path | None,
    run: RunOptions,
) -> None:
    """Run all stages from a configuration file, resuming.

    Ingest, hotpixels, align, filter, pack, verify, card, report. Every stage skips what an earlier run has done.
    """
    reports = build_dataset(config, source, out, run, breathing=breathing, mask=mask)
    if run.as_json:
        click.echo(json.dumps([asdict(report) for report in reports]))
        return
    for report in reports:
        run.echo(report)


def build_dataset(
    config: Path,
    source: tuple[Path, ...],
    out: Path | None,
    run: RunOptions,
    *,
    breathing: Path | None = None,
    mask: Path | None = None,
) -> list[Report]:
    """Runs every stage from RAW files to the report, in order.

    Args:
        config: `sdd.toml`; each stage reads its own section.
        source: Folders with RAW files; empty means those of `[build]`.
        out: Folder of the data set; None means that of `[build]`.
        run: Executor, `overwrite` and progress of every stage.
        breathing: File of `sdd breathing`; None means `[align] breathing`.
        mask: Area to align by: an image for all pairs, or a folder of `ID.png`.

    Returns:
        The report of each stage.

    Raises:
        SddError: A stage failed; the report page of the data set exists all the same, and the hint names it.
    """
    from sdd_toolkit.errors import SddError
    from sdd_toolkit.execution.executor import start_workers_early
    from sdd_toolkit.pipeline.dataset_folder import BuildConfig, resolve_paths, write_config

    run = replace(run, config=config)
    recipe = run.section(BuildConfig, "build")
    sources, dataset = resolve_paths(config, source, out, recipe)
    if not dataset.ingested.exists():
        # The workers import their modules while this process imports its own.
        start_workers_early(run.executor, WORKER_MODULES)
    from sdd_toolkit.cards import stage as cards
    from sdd_toolkit.report import stage as report
    from sdd_toolkit.storage.targets import check_own

    lock_folders(dataset.folder, dataset.shards, dataset.report)
    check_own(dataset.outputs, overwrite=run.overwrite)
    sections = _load_sections(run, breathing)
    write_config(dataset, {section.name: getattr(sections, section.name) for section in fields(sections)})
    write_report = partial(
        report.write_report, dataset.folder, dataset.report, sections.report, shards=dataset.shards, **run.stage
    )
    reports = [step() for step in _manifest_steps(sources, dataset, recipe.fuse_stacks, sections, run, mask)]
    try:
        reports += [step() for step in _shard_steps(dataset, sections, run, refuse_leakage=recipe.leakage == "refuse")]
    except SddError as error:
        # The page explains the missing data set: it is needed most where the build fails.
        cards.remove_card(dataset.shards)
        page = write_report().outputs[0]
        raise type(error)(error.what, hint=f"{error.hint}; see {page}") from error
    return [*reports, write_report()]


def _load_sections(run: RunOptions, breathing: Path | None) -> Sections:
    from alignment.config import AlignConfig
    from alignment.fusion.stage import FuseConfig
    from capture.config import IngestConfig
    from sdd_toolkit.calibration import lens_breathing
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.quality.criteria import FilterConfig
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.report.stage import ReportConfig

    models = None if breathing is None else lens_breathing.read_models(breathing)
    return Sections(
        ingest=run.section(IngestConfig, "ingest"),
        develop=run.section(DevelopConfig, "develop"),
        fuse=run.section(FuseConfig, "fuse"),
        align=run.section(AlignConfig, "align", breathing=models),
        filter=run.section(FilterConfig, "filter"),
        pack=run.section(PackConfig, "pack"),
        card=run.section(CardConfig, "card"),
        report=run.section(ReportConfig, "report"),
    )


def _manifest_steps(
    sources: list[Path],
    dataset: DatasetFolder,
    fuse_stacks: bool,
    sections: Sections,
    run: RunOptions,
    mask: Path | None,
) -> list[Callable[[], Report]]:
    """The stages from RAW files to the filtered manifest."""
    import alignment.fusion.stage as fusion
    import alignment.registration.stage as registration
    import capture.ingest.stage as ingest
    from sdd_toolkit.calibration import hot_pixel_map
    from sdd_toolkit.quality import stage as quality

    folder, develop = dataset.folder, sections.develop
    pairs = dataset.fused if fuse_stacks else dataset.ingested

    def form_pairs() -> Report:
        report = ingest.ingest_photographs(sources, folder, sections.ingest, **run.stage)
        ingest.check_has_pairs(folder, sections.ingest.pairing)
        return report

    steps: list[Callable[[], Report]] = [form_pairs]
    if develop.hot_pixels:
        steps.append(partial(hot_pixel_map.find_hot_pixels, dataset.ingested, folder, **run.stage))
    if fuse_stacks:
        fuse, align = sections.fuse, sections.align
        steps.append(partial(fusion.fuse_stacks, dataset.ingested, folder, fuse, align, develop=develop, **run.stage))
    return [
        *steps,
        partial(registration.align_pairs, pairs, folder, sections.align, masks=mask, develop=develop, **run.stage),
        partial(quality.filter_pairs, dataset.aligned, folder, sections.filter, develop=develop, **run.stage),
    ]


def _shard_steps(
    dataset: DatasetFolder, sections: Sections, run: RunOptions, *, refuse_leakage: bool
) -> list[Callable[[], Report]]:
    """The stages from the filtered manifest to the published shards and their card."""
    from sdd_toolkit.audit.leakage import refuse_unpublished
    from sdd_toolkit.audit.verify import verify_shards
    from sdd_toolkit.cards.stage import write_card
    from sdd_toolkit.packing.stage import pack_dataset

    shards = dataset.shards
    accept = partial(refuse_unpublished, shards) if refuse_leakage else None
    return [
        partial(
            pack_dataset, dataset.filtered, shards, sections.pack, develop=sections.develop, accept=accept, **run.stage
        ),
        # Packing has decoded and hashed all it wrote; `sdd verify` does both again.
        partial(verify_shards, shards, pixels=False, hashes=False, executor=run.executor, track=run.track),
        partial(write_card, shards, sections.card, manifest=dataset.filtered),
    ]


def main() -> None:
    """The `sdd` program."""
    # Looking for other packages' pydantic plug-ins takes longer than reading the configuration.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    run_cli(cli)


if __name__ == "__main__":
    main()
