"""Command line of `sdd split`, `sdd merge` and `sdd subset`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import (
    IN_PATH,
    lock_folders,
    out_option,
    pairs_per_shard_option,
    run_options,
    stage_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions


@click.command()
@click.argument("shards", type=IN_PATH)
@out_option("Folder of the new set.")
@click.option(
    "--train", "train_fraction", type=float, help="Share of scenes to train on; instead of [pack.split] train_fraction."
)
@click.option("--val", "val_fraction", type=float, help="Share of scenes to choose checkpoints by.")
@click.option("--test", "test_fraction", type=float, help="Share of scenes to report figures on.")
@click.option("--seed", type=int, help="Another seed is another shuffle of the scenes.")
@stage_options
def split(shards: Path, out: Path, run: RunOptions, **shares: float | None) -> None:
    """Share the scenes of a packed set out anew, copying."""
    from sdd_toolkit.config import validate
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.rearranging import operations

    lock_folders(out)
    config = run.section(PackConfig, "pack")
    given = {name: share for name, share in shares.items() if share is not None}
    fractions = validate(type(config.split), {**config.split.model_dump(), **given}, where="options [pack.split]")
    config = config.model_copy(update={"split": fractions})
    run.echo(operations.split_dataset(shards, out, config, **run.stage))


@click.command()
@click.argument("shards", type=IN_PATH, nargs=-1, required=True)
@out_option("Folder of the new set.")
@click.option("--prefix", multiple=True, help="Put before ids and scenes; once for each set, in their order.")
@pairs_per_shard_option
@run_options("executor", "overwrite", "as_json")
def merge(shards: tuple[Path, ...], out: Path, prefix: tuple[str, ...], pairs_per_shard: int, run: RunOptions) -> None:
    """Make one packed set of several, copying."""
    from sdd_toolkit.rearranging import operations

    lock_folders(out)
    run.echo(operations.merge_datasets(shards, out, prefix, pairs_per_shard, **run.stage))


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--where", required=True, help='Condition, e.g. "blur_gain > 2 and residual_px < 0.5".')
@out_option("Folder of the new set.")
@pairs_per_shard_option
@run_options("executor", "overwrite", "as_json")
def subset(shards: Path, where: str, out: Path, pairs_per_shard: int, run: RunOptions) -> None:
    """Take the pairs of a packed set that fulfil a condition, copying."""
    from sdd_toolkit.rearranging import operations

    lock_folders(out)
    run.echo(operations.subset_dataset(shards, out, where, pairs_per_shard, **run.stage))
