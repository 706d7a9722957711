"""The commands of the ground floor."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sdd_toolkit.options import (
    IN_PATH,
    config_option,
    echo_report,
    executor_option,
    hold,
    json_option,
    out_option,
    overwrite_option,
    stage_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.lenses import LensPairs


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
@out_option("Folder of the shards.")
@stage_options
def pack(manifest: Path, out: Path, config: Path | None, executor: str | None, overwrite: bool, as_json: bool) -> None:
    """Develop, warp and write the kept pairs into HDF5 shards."""
    from sdd_toolkit.config import load_section
    from sdd_toolkit.development import DevelopConfig
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.pack import PackConfig, run
    from sdd_toolkit.progress import terminal

    hold(out)
    section = load_section(PackConfig, "pack", config)
    develop = load_section(DevelopConfig, "develop", config)
    how = executor or default_name()
    report = run(manifest, out, section, develop=develop, executor=how, overwrite=overwrite, track=terminal)
    echo_report(report, as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@json_option
def verify(shards: Path, as_json: bool) -> None:
    """Re-read every shard and compare it with the index."""
    from sdd_toolkit.progress import terminal
    from sdd_toolkit.verify import run

    echo_report(run(shards, track=terminal), as_json)


@click.command()
@click.argument("shards", type=IN_PATH)
@click.option("--manifest", type=IN_PATH, help="The packed manifest, for what was rejected and why.")
@config_option
@json_option
def card(shards: Path, manifest: Path | None, config: Path | None, as_json: bool) -> None:
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
