"""Command line of `sdd hotpixels` and `sdd breathing`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import IN_PATH, json_option, lock_folders, out_option, overwrite_option, run_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.calibration.lens_breathing import LensPairs
    from sdd_toolkit.cli.options import RunOptions


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("Folder of the data set, where the manifests lie.")
@run_options("executor", "overwrite", "as_json")
def hotpixels(manifest: Path, out: Path, run: RunOptions) -> None:
    """Find the hot and dead pixels of every camera."""
    from sdd_toolkit.calibration import hot_pixel_map

    lock_folders(out)
    run.echo(hot_pixel_map.find_hot_pixels(manifest, out, **run.stage))


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("File for the models, JSON; `sdd align --breathing` reads it.")
@overwrite_option
@json_option
def breathing(manifest: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Fit how the lenses breathe: zoom against focus position."""
    from sdd_toolkit.calibration import lens_breathing

    fitted = lens_breathing.fit_lenses_of_manifest(manifest, out, overwrite=overwrite)
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

    from sdd_toolkit.cli.terminal_text import escape_unprintable

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
        table.add_row(Text(escape_unprintable(entry.lens)), focal, str(len(entry.observations)), *cells, left_out)
    Console().print(table)
