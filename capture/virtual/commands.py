"""`sdd capture simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from sdd_toolkit.options import IN_PATH, echo_report, out_option, stage_options


def _size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int | None, int | None]:
    """(width, height) of `1296x864`; Nones if the option was not given."""
    del context
    if value is None:
        return None, None
    width, _, height = value.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 1296x864", param=option)
    return int(width), int(height)


@click.command("simulate", help="Shoot pairs with the virtual camera, truth beside them.")
@out_option("Folder that receives scene-0001/{blur.dng,sharp.dng,truth.npz} and so on.")
@click.option("--scenes", type=click.IntRange(1, 9999), default=12, show_default=True, help="How many good pairs.")
@click.option(
    "--kind", type=click.Choice(["focus", "aperture"]), default="focus", show_default=True, help="What moves."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--size", callback=_size, metavar="WxH", help="Sensor size in pixels, even numbers (default: 1296x864).")
@click.option("--image", type=IN_PATH, help="Shoot this sharp photograph instead of dead leaves; needs --depth.")
@click.option("--depth", type=IN_PATH, help="Its depth map: .npy in metres, or PNG linear in inverse depth.")
@click.option("--defects", is_flag=True, help="Add one scene for each fault a pipeline must reject.")
@stage_options
def simulate(
    out: Path, scenes: int, kind: str, seed: int, size: tuple[int | None, int | None], image: Path | None,
    depth: Path | None, defects: bool, config: Path | None, executor: str | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Parses, shoots, reports."""
    from capture.virtual.config import SimulateConfig
    from capture.virtual.stage import Source, run
    from sdd_toolkit.config import load_section
    from sdd_toolkit.executor import default_name
    from sdd_toolkit.progress import terminal

    if (image is None) != (depth is None):
        raise click.UsageError("--image and --depth belong together")
    section = load_section(SimulateConfig, "simulate", config, width=size[0], height=size[1])
    source = Source(image, depth) if image is not None and depth is not None else None
    report = run(
        out, section, scenes=scenes, kind=kind, seed=seed, defects=defects, source=source,
        executor=executor or default_name(), overwrite=overwrite, track=terminal,
    )  # fmt: skip
    echo_report(report, as_json)
