"""Command line of `sdd verify`, `sdd leakage` and `sdd show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import FOLDER_OR_URL, IN_PATH, echo_report, executor_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.audit.origin import Origin
    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("shards", type=FOLDER_OR_URL)
@click.option("--quick", is_flag=True, help="Compare bytes with the index, decode no pixels.")
@executor_option
@json_option
def verify(shards: Location, quick: bool, executor: str | None, as_json: bool) -> None:
    """Re-read every shard and compare it with the index."""
    from sdd_toolkit.audit.verify import verify_shards
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.execution.spec import default_name

    echo_report(verify_shards(shards, pixels=not quick, executor=executor or default_name(), track=terminal), as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--distance", type=click.IntRange(0, 20), default=None, help="Bits that may differ (default 8).")
@json_option
@click.pass_context
def leakage(context: click.Context, shards: Path, distance: int | None, as_json: bool) -> None:
    """Find scenes of different splits that look alike."""
    from sdd_toolkit.audit.leakage import check_leakage, format_leaks
    from sdd_toolkit.imaging.perceptual_hash import MAX_HAMMING_DISTANCE

    found = check_leakage(shards, MAX_HAMMING_DISTANCE if distance is None else distance)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"leakage: {len(found.leaks)} found among {found.compared} pairs ({found.max_distance} bits)")
        click.echo("".join(f"  {line}\n" for line in format_leaks(found)), nl=False)
    context.exit(1 if found.leaks else 0)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.argument("pair")
@json_option
def show(shards: Path, pair: str, as_json: bool) -> None:
    """Show where a packed pair comes from: source files, every step, its shard."""
    from sdd_toolkit.audit.origin import trace_origin

    origin = trace_origin(shards, pair)
    if as_json:
        click.echo(json.dumps(asdict(origin), ensure_ascii=False))
        return
    _print_origin(origin)


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
