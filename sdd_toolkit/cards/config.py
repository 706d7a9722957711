"""Section `[card]` of the configuration: the description of a data set by its makers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sdd_toolkit.config import Section

if TYPE_CHECKING:
    pass


class CardConfig(Section):
    """What only the makers of a data set can say about it, section `[card]`."""

    name: str | None = Field(default=None, description="Title of the card; the name of the data set if not given.")
    license: str = Field(default="unknown", description="A licence identifier of the Hugging Face Hub.")
    authors: tuple[str, ...] = Field(default=(), description="Who made the data set.")
    description: str = Field(default="", description="What it shows and what it is for, in a few sentences.")
    source: str = Field(default="", description="How and where the photographs were taken.")
    version: str = Field(default="1.0.0", description="Version of the data set, for Croissant.")
    published: str = Field(default="", description="Date of publication, e.g. 2026-05-01, for Croissant.")
    citation: str = Field(default="", description="How to cite it, e.g. as BibTeX; authors and name if not given.")
    url: str = Field(default="", description="Where it is to be found, for Croissant.")
