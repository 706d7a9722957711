"""Command line of `sdd train`, `evaluate`, `deblur`, `blurmap`, `export-onnx`, `networks`; torch is imported late."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jdrl.checkpoints.arguments import checkpoint_path, default_checkpoint, folder_path, split_checkpoint
from sdd_toolkit.cli.options import IN_PATH, echo_report, json_option, out_option, run_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jdrl.checkpoints.deblurrer import Deblurrer
    from jdrl.evaluation.results import EvaluationResult
    from sdd_toolkit.cli.options import RunOptions

CHECKPOINT = click.types.FuncParamType(checkpoint_path)
CHECKPOINT.name = "path"
_EXTRA = ("torch", "lightning_fabric", "safetensors", "tensorboard")

device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default=None, help="auto (default) takes CUDA if present."
)
tile_option = click.option(
    "--tile",
    type=int,
    default=None,
    help="Side of the tiles, px; by default what keeps it below 4 GB; 0: the whole image.",
)
overlap_option = click.option(
    "--overlap",
    type=int,
    default=None,
    help="Overlap of tiles, px; by default what the network's receptive field needs.",
)
network_option = click.option(
    "--network",
    default=None,
    metavar="NAME",
    help="The network; required for a custom module:factory, whose code is run, and for published weights.",
)


@click.command()
@click.argument("shards", type=IN_PATH)
@out_option("Folder of the run: checkpoints, logs, configuration.")
@click.option("--recipe", default=None, metavar="NAME", help="official, sdd or fine_tune: see docs/training.md.")
@click.option("--resume", is_flag=True, help="Continue from the run's latest checkpoint.")
@click.option(
    "--weights", default=None, metavar="PATH", help="Start from default, a run, a checkpoint or published weights."
)
@click.option(
    "--flow-weights", type=IN_PATH, default=None, help="Published weights of PWC-Net or RAFT, where it is the flow."
)
@click.option("--steps", type=int, default=None, help="Optimiser steps in all.")
@click.option("--epochs", type=float, default=None, help="Passes over the training patches, instead of --steps.")
@click.option("--network", default=None, metavar="NAME", help="See `sdd networks`; or package.module:factory.")
@click.option("--seed", type=int, default=None, help="Every random draw follows from it.")
@device_option
@run_options("config", "overwrite", "as_json")
def train(shards: Path, out: Path, recipe: str | None, resume: bool, run: RunOptions, **flags: object) -> None:
    """Train a deblurring network with JDRL on shards.

    SHARDS is the folder that `sdd pack` wrote. Only its train and val splits are read. Ctrl-C saves a checkpoint.
    Settings: defaults, then --recipe, then --config, then options.
    """
    from jdrl.training.recipe import load_train_config

    with training_extra():
        section = load_train_config(recipe, run.config, **flags)
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        from jdrl.training import train as training

        report = training.train(
            shards,
            out,
            section,
            resume=resume,
            overwrite=run.overwrite,
            track=run.track,
            announce=partial(click.echo, err=True),
        )
    rank_zero_only(run.echo)(report)


@click.command()
@click.argument("paths", type=CHECKPOINT, nargs=-1, required=True, metavar="[CHECKPOINT...] SHARDS")
@out_option("Folder for evaluation.csv, .json and .html, further tables and pictures.")
@click.option(
    "--outputs",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Score the pictures that another method wrote, one a pair; repeatable.",
)
@click.option("--split", default="test", show_default=True, help="Which split of the data set to score on.")
@click.option("--misalignment", is_flag=True, help="Also measure how planted shifts and zooms change the scores.")
@click.option("--pwcnet", type=IN_PATH, default=None, help="Weights of PWC-Net, for the protocol of the official code.")
@click.option(
    "--against", type=IN_PATH, default=None, help="Another evaluation.json: say whether its scores are comparable."
)
@network_option
@device_option
@run_options("config", "overwrite", "as_json")
def evaluate(
    paths: tuple[Path, ...],
    out: Path,
    outputs: tuple[str, ...],
    split: str,
    misalignment: bool,
    network: str | None,
    against: Path | None,
    run: RunOptions,
    **flags: object,
) -> None:
    """Score a checkpoint on the test pairs of a data set.

    CHECKPOINT is the folder of a training run (its best checkpoint counts), one of its step-… folders, or default.
    Several are compared with the first. SHARDS is the folder that `sdd pack` wrote. With --outputs also, or only, the
    pictures of any other method are scored: run it on what `sdd export` writes, and name its pictures by the pairs.
    """
    from jdrl.config import EvaluateConfig

    *checkpoints, shards = paths
    if not checkpoints and not outputs:
        raise click.UsageError("give at least one checkpoint or --outputs, and the folder of shards last")
    section = run.section(EvaluateConfig, "evaluate", **flags)
    with training_extra():
        from jdrl.evaluation import stage
        from jdrl.evaluation.outputs import parse_outputs

        folders = tuple(parse_outputs(text) for text in outputs)
        options = stage.EvaluationOptions(split, network, misalignment, against=against, outputs=folders)
        evaluation = stage.evaluate(
            checkpoints, folder_path(shards), out, section, options, overwrite=run.overwrite, track=run.track
        )
    echo_evaluation(evaluation, run.as_json)


@click.command()
@click.argument("paths", type=CHECKPOINT, nargs=-1, required=True, metavar="[CHECKPOINT] FILES...")
@out_option("Folder for the deblurred images.")
@click.option("--weights", type=CHECKPOINT, default=None, help="Published weights of --network, instead of CHECKPOINT.")
@network_option
@tile_option
@overlap_option
@click.option(
    "--scale",
    type=click.Choice(["auto", "1", "1/2", "1/4"]),
    default=None,
    help="At which the network works; auto (default): by the local blur, from place to place.",
)
@click.option("--strength", type=float, default=None, help="Of the change, 0 (none) … 1 (default) … 1.5.")
@click.option("--everywhere", is_flag=True, help="Also change what is sharp already.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default=None,
    help="float32 (default), or bfloat16: faster where the processor is made for it, other in the last digits.",
)
@click.option("--suffix", default="_deblurred", show_default=True, help="Added to each file's name.")
@click.option("--strip", is_flag=True, help="Copy no metadata but the colour profile, for publishing.")
@device_option
@run_options("overwrite", "as_json")
def deblur(
    paths: tuple[Path, ...], out: Path, weights: Path | None, network: str | None, run: RunOptions, **options: object
) -> None:
    """Deblur photographs: RAW or images of any size.

    With the weights that ship (default), a checkpoint of `sdd train`, or published weights (--weights FILE --network
    NAME). Bit depth, colour profile and metadata are kept (--strip: only the profile); RAW becomes 16-bit TIFF. A file
    that cannot be read does not stop the others.
    """
    from jdrl.config import DeblurConfig
    from sdd_toolkit.config import load_section

    checkpoint, files = split_checkpoint(paths) if weights is None else (None, paths)
    config = load_section(DeblurConfig, "deblur", None, **options)
    with training_extra():
        from jdrl.inference import deblur as inference

        deblurrer = load_deblurrer(checkpoint, weights, network)
        report, failures = inference.deblur_files(
            deblurrer, files, out, config, overwrite=run.overwrite, track=run.track
        )
    run.echo(report)
    if failures:
        raise click.exceptions.Exit(2)


@click.command("export-onnx")
@click.argument("checkpoint", type=CHECKPOINT, required=False)
@out_option("The file, model.onnx.")
@click.option("--weights", type=CHECKPOINT, default=None, help="Published weights of --network, instead of CHECKPOINT.")
@network_option
@run_options("overwrite", "as_json")
def export_onnx(checkpoint: Path | None, out: Path, weights: Path | None, network: str | None, run: RunOptions) -> None:
    """Write a trained network as an ONNX file.

    The network is that of a checkpoint of `sdd train`, the one whose weights ship (default), or that of published
    weights (--weights FILE --network NAME). Its input is one image, RGB in [0, 1], of any size that is a multiple of
    the network's. With onnxruntime installed the file is compared with the network, and not written where they differ.
    """
    if (checkpoint is None) == (weights is None):
        raise click.UsageError("give either a checkpoint or --weights")
    from sdd_toolkit.storage.targets import check_targets

    check_targets([out], [path for path in (checkpoint, weights) if path is not None], overwrite=run.overwrite)
    with training_extra():
        from jdrl.inference import onnx_export as onnx

        exported = onnx.export_onnx(load_deblurrer(checkpoint, weights, network), out, overwrite=run.overwrite)
    if run.as_json:
        click.echo(json.dumps(asdict(exported)))
        return
    difference = exported.largest_difference
    compared = (
        'not compared: onnxruntime is not installed (pip install "sdd-toolkit[onnx]")'
        if difference is None
        else f"onnxruntime's output differs by {difference * 255:.1g}/255 at most"
    )
    click.echo(f"sides: multiples of {exported.size_multiple} px; {compared}\n  -> {exported.path}")


@click.command()
@click.argument("paths", type=CHECKPOINT, nargs=-1, required=True, metavar="[CHECKPOINT] FILES...")
@out_option("Folder for the maps: NAME_blurmap.tif in pixels, NAME_blurmap.png in colours.")
@network_option
@tile_option
@overlap_option
@device_option
@run_options("overwrite", "as_json")
def blurmap(paths: tuple[Path, ...], out: Path, network: str | None, run: RunOptions, **options: object) -> None:
    """Map how blurred photographs are: the radius of the circle of confusion, pixel by pixel.

    CHECKPOINT is a run of `sdd train` or one of its step-… folders; its reblurring network estimates the radius.
    Without one, or with default, the map is the coarse one by which `sdd deblur` chooses its scales. FILES are RAW or
    images of any size. A file that cannot be read does not stop the others.
    """
    from jdrl.config import Tiling
    from sdd_toolkit.config import load_section

    checkpoint, files = split_checkpoint(paths)
    tiling = load_section(Tiling, "blurmap", None, **options)
    with training_extra():
        from jdrl.inference import blur_map

        if checkpoint == default_checkpoint():
            mapper = blur_map.WITHOUT_NETWORK
        else:
            mapper = blur_map.load_blur_mapper(checkpoint, tiling, network)
        report, failures = blur_map.map_blur_of_files(mapper, files, out, overwrite=run.overwrite, track=run.track)
    run.echo(report)
    if failures:
        raise click.exceptions.Exit(2)


@click.command()
@json_option
def networks(as_json: bool) -> None:
    """List the deblurring networks: size, cost, paper, licence.

    Parameters in millions, and 10^9 multiply-accumulates for a megapixel. default is the network whose weights ship.
    For the others the licence is that of the published code and weights, which are not part of this toolkit; its own
    code is written anew. Packages add networks by entry points in the group sdd_toolkit.networks; --network
    package.module:factory takes any other.
    """
    from sdd_toolkit.errors import ConfigError

    with training_extra():
        from jdrl.checkpoints.default_model import describe_default
        from jdrl.networks import listing, network_names

        rows = [describe_default()]
        for name in network_names():
            try:
                rows.append(listing.describe_network(name))
            except ConfigError as error:
                click.echo(f"{name}: {error.what}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("network", title="Deblurring networks")
    for title in ("parameters", "GMAC/MP", "multiple of"):
        table.add_column(title, justify="right")
    for title in ("paper", "licence"):
        table.add_column(title)
    for row in rows:
        cost = "–" if row.gmac_per_megapixel is None else f"{row.gmac_per_megapixel:.0f}"
        table.add_row(
            row.name, f"{row.parameters / 1e6:.2f} M", cost, f"{row.size_multiple} px", row.paper, row.licence
        )
    Console().print(table)
    click.echo(f"default: weights of {rows[0].weights_mb:.1f} MB; what they are, from what, how good: {rows[0].card}")


def load_deblurrer(checkpoint: Path | None, weights: Path | None, network: str | None) -> Deblurrer:
    """Loads the network of a checkpoint, or of published weights."""
    from jdrl.checkpoints.checkpoint import is_single_file
    from jdrl.checkpoints.deblurrer import of_checkpoint, of_weights
    from sdd_toolkit.cli.terminal_text import escape_unprintable

    if checkpoint is None and weights is not None and network is None and is_single_file(weights):
        checkpoint = weights
    if checkpoint is not None:
        return of_checkpoint(checkpoint, network)
    if weights is None or network is None:
        raise click.UsageError("--weights needs --network, the network they belong to; see `sdd networks`")
    deblurrer = of_weights(weights, network)
    for note in deblurrer.notes:
        click.echo(escape_unprintable(f"note: {note}"), err=True)
    return deblurrer


@contextmanager
def training_extra() -> Iterator[None]:
    """Turns a missing torch, or a package installed with it, into an error that names the pip extra."""
    from sdd_toolkit.errors import MissingExtraError

    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise MissingExtraError.of(package, "train") from error


def echo_evaluation(evaluation: EvaluationResult, as_json: bool) -> None:
    """Prints the means: as JSON together with the report, or as tables above it."""
    if as_json:
        content = {
            **asdict(evaluation.report),
            "split": evaluation.split,
            "domain": evaluation.domain,
            "means": [asdict(score) for score in evaluation.means],
            "standings": [asdict(standing) for standing in evaluation.standings],
            "drifts": [asdict(row) for row in evaluation.drifts if row.pair == "mean"],
            "radii": [asdict(row) for row in evaluation.radii.means] if evaluation.radii else [],
            "harm": [asdict(row) for row in evaluation.radii.harm] if evaluation.radii else [],
            "notes": evaluation.notes,
            "card": asdict(evaluation.card) if evaluation.card else None,
        }
        click.echo(json.dumps(content))
        return
    from rich.console import Console

    from jdrl.evaluation.score_card import card_lines
    from jdrl.evaluation.tables import build_tables
    from sdd_toolkit.cli.terminal_text import escape_unprintable

    console = Console()
    for table in build_tables(evaluation):
        console.print(table)
    for note in evaluation.notes:
        click.echo(escape_unprintable(note))
    if evaluation.card is not None:
        click.echo("Score card")
        for name, text in card_lines(evaluation.card):
            click.echo(escape_unprintable(f"  {name:10s} {text}"))
    echo_report(evaluation.report, as_json)
