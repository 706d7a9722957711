"""Command line of `sdd split`, `sdd merge` and `sdd subset`."""

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
    pairs_per_shard_option,
    stage_options,
)

if TYPE_CHECKING:
    from pathlib import Path


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
def split(
    shards: Path,
    out: Path,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
    **shares: float | None,
) -> None:
    """Share the scenes of a packed set out anew, copying."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section, validate
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.rearranging.operations import split_dataset as run

    lock_folders(out)
    section = load_section(PackConfig, "pack", config)
    given = {name: share for name, share in shares.items() if share is not None}
    sharing = validate(type(section.split), {**section.split.model_dump(), **given}, where="options [pack.split]")
    section = section.model_copy(update={"split": sharing})
    how = executor or default_name()
    echo_report(run(shards, out, section, executor=how, overwrite=overwrite, track=terminal), as_json)


@click.command()
@click.argument("shards", type=IN_PATH, nargs=-1, required=True)
@out_option("Folder of the new set.")
@click.option("--prefix", multiple=True, help="Put before ids and scenes; once for each set, in their order.")
@pairs_per_shard_option
@executor_option
@overwrite_option
@json_option
def merge(
    shards: tuple[Path, ...],
    out: Path,
    prefix: tuple[str, ...],
    pairs_per_shard: int,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make one packed set of several, copying."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.rearranging.operations import merge_datasets as run

    lock_folders(out)
    how = executor or default_name()
    report = run(shards, out, prefix, pairs_per_shard, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--where", required=True, help='Condition, e.g. "blur_gain > 2 and residual_px < 0.5".')
@out_option("Folder of the new set.")
@pairs_per_shard_option
@executor_option
@overwrite_option
@json_option
def subset(
    shards: Path, where: str, out: Path, pairs_per_shard: int, executor: str | None, overwrite: bool, as_json: bool
) -> None:
    """Take the pairs of a packed set that fulfil a condition, copying."""
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.execution.spec import default_name
    from sdd_toolkit.rearranging.operations import subset_dataset as run

    lock_folders(out)
    how = executor or default_name()
    report = run(shards, out, where, pairs_per_shard, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)
