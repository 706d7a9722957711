"""Formats the result of a dry run: pairs with their evidence, files left over, clock corrections; text or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from capture.pairing.scenes import natural_key
from sdd_toolkit.cli.terminal_text import escape_unprintable

if TYPE_CHECKING:
    from capture.ingest.pairs import IngestResult
    from sdd_toolkit.records import PairRecord


def format_text(result: IngestResult) -> str:
    """One line a pair and one a file left over, names in full: for reading and for grep."""
    lines = [
        f"{pair.id}: {pair.blur.path} -> {pair.sharp.path} ({result.evidence[pair.id]})"
        for pair in _sorted_pairs(result)
    ]
    lines += [f"  {entry.path}: {entry.reason.value}, {entry.detail}" for entry in result.rejected]
    lines += [f"clock of {note}" for note in result.clock_notes]
    return "\n".join(map(escape_unprintable, [*lines, _summary_line(result)]))


def format_json(result: IngestResult) -> str:
    """The same as one JSON object: `pairs`, `rejected`, `clocks`, `files`."""
    pairs = [
        {
            "id": pair.id,
            "scene": pair.scene,
            "kind": pair.kind.value,
            "blur": pair.blur.path,
            "sharp": pair.sharp.path,
            "why": result.evidence[pair.id],
        }
        for pair in _sorted_pairs(result)
    ]
    rejected = [{"path": entry.path, "reason": entry.reason.value, "detail": entry.detail} for entry in result.rejected]
    content = {"pairs": pairs, "rejected": rejected, "clocks": list(result.clock_notes), "files": result.files}
    return json.dumps(content, ensure_ascii=False)


def format_table(result: IngestResult, width: int) -> str:
    """Two tables for a terminal of `width` columns; long names are folded, never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(escape_unprintable(text))

    console = Console(width=width, force_terminal=True)
    pairs = Table("pair", "blurred", "sharp", "why", title=f"{len(result.pairs.records)} pairs", title_justify="left")
    for pair in _sorted_pairs(result):
        pairs.add_row(*map(cell, (pair.id, pair.blur.path, pair.sharp.path, result.evidence[pair.id])))
    unpaired = Table("file", "reason", "detail", title=f"{len(result.rejected)} files in no pair", title_justify="left")
    for entry in result.rejected:
        unpaired.add_row(*map(cell, (entry.path, entry.reason.value, entry.detail)))
    for table in (pairs, unpaired):
        for column in table.columns:
            column.overflow = "fold"
    with console.capture() as tables:
        console.print(pairs)
        console.print(unpaired)
    notes = [escape_unprintable(f"clock of {note}") for note in result.clock_notes]
    return tables.get() + "\n".join([*notes, _summary_line(result)])


def _sorted_pairs(result: IngestResult) -> list[PairRecord]:
    return sorted(result.pairs.records, key=lambda record: natural_key(record.id))


def _summary_line(result: IngestResult) -> str:
    own = f"; {result.side_files} other files of the toolkit" if result.side_files else ""
    return f"{len(result.pairs.records)} pairs; {len(result.rejected)} of {result.files} files in none{own}"
