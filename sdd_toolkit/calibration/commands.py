"""Command line of `sdd hotpixels` and `sdd breathing`."""

from __future__ import annotations

import json
from dataclasses import asdict
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
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.calibration.lens_breathing import LensPairs


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("Folder of the data set, where the manifests lie.")
@executor_option
@overwrite_option
@json_option
def hotpixels(manifest: Path, out: Path, executor: str | None, overwrite: bool, as_json: bool) -> None:
    """Find the hot and dead pixels of every camera."""
    from sdd_toolkit.calibration.hot_pixel_map import find_hot_pixels
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.execution.spec import default_name

    lock_folders(out)
    how = executor or default_name()
    echo_report(find_hot_pixels(manifest, out, executor=how, overwrite=overwrite, track=terminal), as_json)


@click.command()
@click.argument("manifest", type=IN_PATH)
@out_option("File for the models, JSON; `sdd align --breathing` reads it.")
@json_option
def breathing(manifest: Path, out: Path, as_json: bool) -> None:
    """Fit how the lenses breathe: zoom against focus position."""
    from sdd_toolkit.calibration.lens_breathing import fit_manifest

    fitted = fit_manifest(manifest, out)
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

    from sdd_toolkit.cli.terminal_text import printable

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
