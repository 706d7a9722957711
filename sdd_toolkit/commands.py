"""The commands of the ground floor."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sdd_toolkit.options import (
    IN_PATH,
    PLACE,
    config_option,
    echo_report,
    executor_option,
    hold,
    json_option,
    out_option,
    overwrite_option,
    shards_option,
    stage_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.lenses import LensPairs
    from sdd_toolkit.locations import Place
    from sdd_toolkit.provenance import Origin

pairs_per_shard_option = click.option(
    "--pairs-per-shard", type=click.IntRange(min=1), default=4, show_default=True, help="Pairs in one HDF5 file."
)


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("Folder of the data set, where the manifests lie.")
@executor_option
@overwrite_option
@json_option
def hotpixels(manifest: Path, out: Path, executor: str | None, overwrite: bool, as_json: bool) -> None:
    """Find the hot and dead pixels of every camera."""
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.hot_pixel_map import run
    from sdd_toolkit.progress import terminal

    hold(out)
    how = executor or default_name()
    echo_report(run(manifest, out, executor=how, overwrite=overwrite, track=terminal), as_json)


@click.command("filter")
@click.argument("manifest", type=IN_PATH)
@out_option("Folder for filtered.jsonl.")
@stage_options
def filter_(
    manifest: Path, out: Path, config: Path | None, executor: str | None, overwrite: bool, as_json: bool
) -> None:
    """Measure every pair and keep the good ones, with reasons."""
    from sdd_toolkit.config import load_section
    from sdd_toolkit.development import DevelopConfig
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.filter import run
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.select import FilterConfig

    hold(out)
    section = load_section(FilterConfig, "filter", config)
    develop = load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = run(manifest, out, section, develop=develop, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)


@click.command()
@click.argument("manifest", type=IN_PATH)
@shards_option
@click.option("--profile", type=click.Choice(["fast", "small", "raw", "portable"]), help="See [pack] profile.")
@stage_options
def pack(
    manifest: Path,
    out: Place,
    profile: str | None,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Develop, warp and write the kept pairs into HDF5 shards."""
    from sdd_toolkit.config import load_section
    from sdd_toolkit.development import DevelopConfig
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.pack import run
    from sdd_toolkit.pack_config import PackConfig
    from sdd_toolkit.progress import terminal

    hold(out)
    section = load_section(PackConfig, "pack", config, profile=profile)
    develop = load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = run(manifest, out, section, develop=develop, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)


@click.command()
@click.argument("shards", type=PLACE)
@click.option("--quick", is_flag=True, help="Compare bytes with the index, decode no pixels.")
@executor_option
@json_option
def verify(shards: Place, quick: bool, executor: str | None, as_json: bool) -> None:
    """Re-read every shard and compare it with the index."""
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.verify import run

    echo_report(run(shards, pixels=not quick, executor=executor or default_name(), track=terminal), as_json)


@click.command()
@click.argument("shards", type=PLACE)
@click.option("--manifest", type=IN_PATH, help="The packed manifest, for what was rejected and why.")
@config_option
@json_option
def card(shards: Place, manifest: Path | None, config: Path | None, as_json: bool) -> None:
    """Write the data card of a packed data set."""
    from sdd_toolkit.cards import CardConfig, run
    from sdd_toolkit.config import load_section
    from sdd_toolkit.select import FilterConfig

    hold(shards)
    thresholds = load_section(FilterConfig, "filter", config) if config is not None else None
    section = load_section(CardConfig, "card", config)
    echo_report(run(shards, section, manifest=manifest, thresholds=thresholds), as_json)


@click.command()
@click.argument("dataset", type=IN_PATH)
@out_option("Folder of report.html and pairs.csv.")
@click.option("--pictures", type=click.IntRange(min=0), default=None, help="How many pairs to picture (default 40).")
@stage_options
def report(
    dataset: Path,
    out: Path,
    pictures: int | None,
    config: Path | None,
    executor: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write one HTML page of statistics and pictures, and a CSV."""
    from sdd_toolkit.config import load_section
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.report import ReportConfig, run

    hold(out)
    section = load_section(ReportConfig, "report", config, max_pictures=pictures)
    how = executor or default_name()
    echo_report(run(dataset, out, section, executor=how, overwrite=overwrite, track=terminal), as_json)


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
    from sdd_toolkit.config import load_section, validate
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.pack_config import PackConfig
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.rearrange import split as run

    hold(out)
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
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.rearrange import merge as run

    hold(out)
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
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.rearrange import subset as run

    hold(out)
    how = executor or default_name()
    report = run(shards, out, where, pairs_per_shard, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--distance", type=click.IntRange(0, 20), default=None, help="Bits that may differ (default 8).")
@json_option
@click.pass_context
def leakage(context: click.Context, shards: Path, distance: int | None, as_json: bool) -> None:
    """Find scenes of different splits that look alike."""
    from sdd_toolkit.leakage import check, told
    from sdd_toolkit.looks import MAX_DISTANCE

    found = check(shards, MAX_DISTANCE if distance is None else distance)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"leakage: {len(found.leaks)} found among {found.compared} pairs ({found.max_distance} bits)")
        click.echo("".join(f"  {line}\n" for line in told(found)), nl=False)
    context.exit(1 if found.leaks else 0)


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("File for the models, JSON; `sdd align --breathing` reads it.")
@json_option
def breathing(manifest: Path, out: Path, as_json: bool) -> None:
    """Fit how the lenses breathe: zoom against focus position."""
    from sdd_toolkit.lenses import run

    fitted = run(manifest, out)
    if as_json:
        facts = [{**asdict(entry), "observations": len(entry.observations)} for entry in fitted]
        click.echo(json.dumps({"lenses": facts, "outputs": [str(out)]}))
        return
    _print_lenses(fitted)
    click.echo(f"  -> {out}")


def _print_lenses(fitted: tuple[LensPairs, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sdd_toolkit.terminal_text import printable

    table = Table("lens", "mm", "pairs", "dioptres", "% per dioptre", "terms", "scatter %", "left out")
    for entry in fitted:
        focal = "?" if entry.focal_mm is None else f"{entry.focal_mm:g}"
        left_out = ", ".join(f"{count} {reason}" for reason, count in entry.left_out.items()) or "–"
        cells = ["–", "–", "–", "–"]
        if (model := entry.model) is not None:
            low, high = model.range_dpt
            slope, scatter = 100 * model.zoom_per_dioptre, 100 * model.scatter
            cells = [f"{low:.2f} … {high:.2f}", f"{slope:+.3f}", str(len(model.coefficients)), f"{scatter:.3f}"]
            left_out += f"; {model.outliers} outliers" if model.outliers else ""
        table.add_row(Text(printable(entry.lens)), focal, str(len(entry.observations)), *cells, left_out)
    Console().print(table)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.argument("pair")
@json_option
def show(shards: Path, pair: str, as_json: bool) -> None:
    """Show where a packed pair comes from: source files, every step, its shard."""
    from sdd_toolkit.provenance import trace

    origin = trace(shards, pair)
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
