"""The paths inside a data set folder, and section `[build]` of the configuration.

The order of the stages of `sdd build` is in `cli.py`, the only module that may import every package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.errors import ConfigError
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.locations import Location, parse_location


class BuildConfig(Section):
    """Sources and destination of `sdd build`, section `[build]`."""

    LATER_KEYS: ClassVar[frozenset[str]] = frozenset({"leakage"})

    sources: tuple[str, ...] = Field((), description="Folders with RAW files, relative to the configuration file.")
    out: str | None = Field(None, description="Folder of the data set, relative to the configuration file.")
    shards: str | None = Field(
        None,
        description="Folder of the shards, relative to the configuration file, or URL (s3://, gs://); "
        "if not given, shards in out.",
    )
    fuse_stacks: bool = Field(
        False, description="Whether focal stacks get an all-in-focus picture as their sharp frame, as by `sdd fuse`."
    )
    leakage: Literal["refuse", "warn"] = Field(
        "refuse", description="A split in which scenes of different splits look alike: refused, or a warning only."
    )


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """The paths inside the folder of a data set.

    Attributes:
        folder: The folder.
        shards_location: Folder of the shards, where it is another one than `shards` in `folder`.
    """

    folder: Path
    shards_location: Location | None = None

    @property
    def ingested(self) -> Path:
        """Manifest after `sdd ingest`."""
        return self.folder / "ingested.jsonl"

    @property
    def fused(self) -> Path:
        """Manifest after `sdd fuse`; the pictures lie in `fused/` beside it."""
        return self.folder / "fused.jsonl"

    @property
    def aligned(self) -> Path:
        """Manifest after `sdd align`; the residual flows lie in `flow/` beside it."""
        return self.folder / "aligned.jsonl"

    @property
    def filtered(self) -> Path:
        """Manifest after `sdd filter`."""
        return self.folder / "filtered.jsonl"

    @property
    def shards(self) -> Location:
        """Folder of the shards, their index and the data card."""
        return self.folder / "shards" if self.shards_location is None else self.shards_location

    @property
    def report(self) -> Path:
        """Folder of the HTML report and its CSV."""
        return self.folder / "report"

    @property
    def outputs(self) -> tuple[Location, ...]:
        """The files of fixed names that a build writes."""
        names = ("rejected_files.csv", "hot_pixels.json", "configurations.json", "fused/left_out.csv")
        return (
            *(self.ingested, self.fused, self.aligned, self.filtered, self.config),
            *(self.folder / name for name in names),
            *(self.shards / name for name in ("index.json", "README.md", "pairs.csv", "croissant.json")),
            *(self.report / name for name in ("report.html", "pairs.csv")),
        )

    @property
    def config(self) -> Path:
        """The resolved configuration of the last build, as JSON."""
        return self.folder / "config.json"


def resolve_paths(
    config: Path, source: tuple[Path, ...], out: Path | None, values: BuildConfig
) -> tuple[list[Path], DatasetFolder]:
    """Sources and destination: flags as given, otherwise the file's, relative to the file.

    Raises:
        ConfigError: Neither names a source or a destination.
    """
    sources = list(source) or [config.parent / entry for entry in values.sources]
    if not sources:
        raise ConfigError(f"{config} names no sources", hint='set sources = ["raw"] in [build] or pass --source DIR')
    if out is None and values.out is None:
        raise ConfigError(f"{config} names no destination", hint='set out = "dataset" in [build] or pass --out DIR')
    shards = None if values.shards is None else parse_location(values.shards)
    if isinstance(shards, Path):
        shards = config.parent / shards
    return sources, DatasetFolder(out if out is not None else config.parent / str(values.out), shards)


def write_config(dataset: DatasetFolder, sections: dict[str, Section]) -> None:
    """Writes the resolved configuration beside the data set, so that a card can state every threshold."""
    write_text(dataset.config, to_json({name: section.model_dump(mode="json") for name, section in sections.items()}))
