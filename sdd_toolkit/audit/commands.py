"""Command line of `sdd verify`, `sdd leakage` and `sdd show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import FOLDER_OR_URL, IN_PATH, json_option, run_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.audit.origin import Origin
    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("shards", type=FOLDER_OR_URL)
@click.option("--quick", is_flag=True, help="Compare bytes with the index, decode no pixels.")
@run_options("executor", "as_json")
def verify(shards: Location, quick: bool, run: RunOptions) -> None:
    """Re-read every shard and compare it with the index."""
    from sdd_toolkit.audit import verify

    run.echo(verify.verify_shards(shards, pixels=not quick, executor=run.executor, track=run.track))


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--distance", type=click.IntRange(0, 20), default=None, help="Bits that may differ (default 8).")
@json_option
@click.pass_context
def leakage(context: click.Context, shards: Path, distance: int | None, as_json: bool) -> None:
    """Find scenes of different splits that look alike."""
    from sdd_toolkit.audit import leakage as check
    from sdd_toolkit.imaging.perceptual_hash import MAX_HAMMING_DISTANCE

    found = check.check_leakage(shards, MAX_HAMMING_DISTANCE if distance is None else distance)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"leakage: {len(found.leaks)} found among {found.compared} pairs ({found.max_distance} bits)")
        click.echo("".join(f"  {line}\n" for line in check.format_leaks(found)), nl=False)
    context.exit(1 if found.leaks else 0)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.argument("pair")
@json_option
def show(shards: Path, pair: str, as_json: bool) -> None:
    """Show where a packed pair comes from: source files, every step, its shard."""
    from sdd_toolkit.audit import origin

    traced = origin.trace_origin(shards, pair)
    if as_json:
        click.echo(json.dumps(asdict(traced), ensure_ascii=False))
        return
    _print_origin(traced)


def _print_origin(origin: Origin) -> None:
    # Lines, not a table: hashes and paths must come out whole.
    shard = origin.shard
    lines = [f"{origin.id}  scene {origin.scene}, {origin.split}"]
    lines += [f"  {role:7} {ref['path']}  {ref['bytes']} bytes  {ref['sha256']}" for role, ref in origin.files.items()]
    for step in origin.steps:
        values = "not kept" if step["values"] is None else json.dumps(step["values"], ensure_ascii=False)
        lines.append(f"  {step['stage']:7} toolkit {step['version']}, configuration {step['config']}: {values}")
    if origin.packed is not None:
        lines.append(f"  packed  toolkit {shard['toolkit']}: {json.dumps(origin.packed, ensure_ascii=False)}")
    lines.append(f"  shard   {shard['name']}  {shard['codec']}  {shard['sha256']}")
    lines.append("  with    " + ", ".join(f"{name} {version}" for name, version in origin.libraries.items()))
    click.echo("\n".join(line if line.isprintable() else ascii(line)[1:-1] for line in lines))
