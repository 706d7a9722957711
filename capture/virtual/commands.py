"""`sdd capture simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from sdd_toolkit.cli.options import IN_PATH, echo_report, lock_folders, out_option, stage_options


def _size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int | None, int | None]:
    """(width, height) of `1296x864`; Nones if the option was not given."""
    del context
    if value is None:
        return None, None
    width, _, height = value.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 1296x864", param=option)
    return int(width), int(height)


def _depth(context: click.Context, option: click.Parameter, value: str | None) -> Path | str | None:
    """`layers` and `ramp` as they are, anything else a path."""
    del context, option
    return value if value is None or value in ("layers", "ramp") else Path(value)


@click.command("simulate", help="Shoot pairs with the virtual camera, truth beside them.")
@out_option("Folder that receives scene-0001/{blur.dng,sharp.dng,truth.npz} and so on.")
@click.option("--scenes", type=click.IntRange(1, 9999), help="How many good pairs (default: 12, or one a photograph).")
@click.option(
    "--kind", type=click.Choice(["focus", "aperture"]), default="focus", show_default=True, help="What moves."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--size", callback=_size, metavar="WxH", help="Sensor size in pixels, even numbers (default: 1296x864).")
@click.option("--image", type=IN_PATH, help="Shoot this sharp photograph, or all those in this folder.")
@click.option(
    "--depth",
    callback=_depth,
    metavar="layers|ramp|FILE",
    help="Depth in steps or continuous; or the photograph's: .npy in metres, PNG linear in inverse depth.",
)
@click.option("--defects", is_flag=True, help="Add one scene for each fault a pipeline must reject.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Short for --executor local:N.")
@stage_options
def simulate(
    out: Path, scenes: int | None, kind: str, seed: int, size: tuple[int | None, int | None], image: Path | None,
    depth: Path | str | None, defects: bool, workers: int | None, config: Path | None, executor: str | None,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Parses, shoots, reports."""
    from capture.virtual.config import SimulateConfig
    from capture.virtual.sources import sources
    from capture.virtual.stage import simulate_pairs
    from sdd_toolkit.cli.progress_bar import terminal
    from sdd_toolkit.config import load_section
    from sdd_toolkit.execution.spec import default_name

    if isinstance(depth, Path) and image is None:
        raise click.UsageError("--depth FILE needs --image: it is the depth of a photograph")
    if workers is not None and executor is not None:
        raise click.UsageError("--workers and --executor say the same thing: give one of them")
    lock_folders(out)
    mode, file = (None, depth) if isinstance(depth, Path) else (depth, None)
    section = load_section(SimulateConfig, "simulate", config, width=size[0], height=size[1], depth=mode)
    report = simulate_pairs(
        out, section, scenes=scenes, kind=kind, seed=seed, defects=defects,
        photographs=() if image is None else sources(image, file),
        executor=f"local:{workers}" if workers else executor or default_name(),
        overwrite=overwrite, track=terminal,
    )  # fmt: skip
    echo_report(report, as_json)
