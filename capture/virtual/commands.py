"""Command line of `sdd capture simulate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sdd_toolkit.cli.options import IN_PATH, lock_folders, out_option, stage_options

if TYPE_CHECKING:
    from sdd_toolkit.cli.options import RunOptions


def _parse_size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int | None, int | None]:
    """(width, height) of `1296x864`; Nones if the option was not given."""
    del context
    if value is None:
        return None, None
    width, _, height = value.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 1296x864", param=option)
    return int(width), int(height)


def _parse_depth(context: click.Context, option: click.Parameter, value: str | None) -> Path | str | None:
    """`layers` and `ramp` as they are, anything else a path."""
    del context, option
    return value if value is None or value in ("layers", "ramp") else Path(value)


@click.command("simulate", help="Shoot pairs with the virtual camera, truth beside them.")
@out_option("Folder that receives scene-0001/{blur.dng,sharp.dng,truth.npz} and so on.")
@click.option("--scenes", type=click.IntRange(1, 9999), help="Number of good pairs (default: 12, or one a photograph).")
@click.option(
    "--kind",
    type=click.Choice(["focus", "aperture"]),
    default="focus",
    show_default=True,
    help="Setting that differs.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--size", callback=_parse_size, metavar="WxH", help="Sensor size in pixels, even numbers (default: 1296x864)."
)
@click.option("--image", type=IN_PATH, help="Shoot this sharp photograph, or all those in this folder.")
@click.option(
    "--depth",
    callback=_parse_depth,
    metavar="layers|ramp|FILE",
    help="Depth in steps or continuous; or the photograph's: .npy in metres, PNG linear in inverse depth.",
)
@click.option("--defects", is_flag=True, help="Add one scene for each defect that a pipeline must reject.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Short for --executor local:N.")
@stage_options
def simulate(
    *,
    out: Path,
    size: tuple[int | None, int | None],
    image: Path | None,
    depth: Path | str | None,
    workers: int | None,
    run: RunOptions,
    **series: Any,
) -> None:
    """Shoots with the virtual camera and prints the report."""
    from capture.virtual import sources, stage
    from capture.virtual.config import SimulateConfig

    if isinstance(depth, Path) and image is None:
        raise click.UsageError("--depth FILE needs --image: it is the depth of a photograph")
    if workers is not None:
        if click.get_current_context().get_parameter_source("executor") is not ParameterSource.DEFAULT:
            raise click.UsageError("--workers and --executor say the same thing: give one of them")
        run = replace(run, executor=f"local:{workers}")
    lock_folders(out)
    mode, file = (None, depth) if isinstance(depth, Path) else (depth, None)
    config = run.section(SimulateConfig, "simulate", width=size[0], height=size[1], depth=mode)
    photographs = () if image is None else sources.find_photographs(image, file)
    run.echo(stage.simulate_pairs(out, config, stage.Series(photographs=photographs, **series), **run.stage))
