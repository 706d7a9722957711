"""The front door: command names, where they live, one line of help each. Nothing heavy is imported here."""

from __future__ import annotations

import click

from sdd_toolkit import __version__
from sdd_toolkit.lazy import Door, LazyGroup, run_cli

CAPTURE_DOORS = (
    Door("simulate", "capture.virtual.commands:simulate", "Shoot pairs with the virtual camera, truth beside them."),
)

DOORS = (
    Door("ingest", "capture.commands:ingest", "Find RAW files and images and form pairs: the manifest."),
    Door("align", "alignment.commands:align", "Register every blurred frame to its sharp partner."),
    Door("filter", "sdd_toolkit.commands:filter_", "Measure every pair and keep the good ones, with reasons."),
    Door("pack", "sdd_toolkit.commands:pack", "Develop, warp and write the kept pairs into HDF5 shards."),
    Door("verify", "sdd_toolkit.commands:verify", "Re-read every shard and compare it with the index."),
    Door("card", "sdd_toolkit.commands:card", "Write the data card of a packed data set."),
    Door("report", "sdd_toolkit.commands:report", "Write one HTML page of statistics and pictures, and a CSV."),
    Door("build", "sdd_toolkit.commands:build", "Run all stages from a configuration file, resuming."),
    Door("train", "jdrl.commands:train", "Train a deblurring network with JDRL on shards."),
    Door("evaluate", "jdrl.commands:evaluate", "Score a checkpoint on the test pairs of a data set."),
    Door("deblur", "jdrl.commands:deblur", "Deblur photographs: RAW or images of any size."),
)


@click.group(
    cls=LazyGroup,
    doors=DOORS,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=False,
)
@click.version_option(__version__, prog_name="sdd")
def cli() -> None:
    """Make a defocus-deblurring data set from RAW pairs, and train and evaluate JDRL on it."""


@cli.group(
    "capture",
    cls=LazyGroup,
    doors=CAPTURE_DOORS,
    help="Shoot pairs with the virtual camera.",
    invoke_without_command=False,
)
def capture() -> None:
    """Groups the commands that shoot."""


def main() -> None:
    """The `sdd` program."""
    run_cli(cli)


if __name__ == "__main__":
    main()
