"""Section `[card]` of the configuration: the description of a data set by its authors."""

from __future__ import annotations

from pydantic import Field

from sdd_toolkit.config import Section


class CardConfig(Section):
    """Section `[card]`: facts about a data set that its files do not hold."""

    name: str | None = Field(default=None, description="Title of the card; the name of the data set if not given.")
    license: str = Field(default="unknown", description="A licence identifier of the Hugging Face Hub.")
    authors: tuple[str, ...] = Field(default=(), description="Authors of the data set.")
    description: str = Field(default="", description="Its content and purpose, in a few sentences.")
    source: str = Field(default="", description="Origin of the photographs: place, time, equipment.")
    version: str = Field(default="1.0.0", description="Version of the data set, for Croissant.")
    published: str = Field(default="", description="Date of publication, e.g. 2026-05-01, for Croissant.")
    citation: str = Field(default="", description="Its citation, e.g. as BibTeX; authors and name if not given.")
    url: str = Field(default="", description="Its address, for Croissant.")
