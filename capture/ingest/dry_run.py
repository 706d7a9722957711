"""What a dry run shows: the pairs with what speaks for them, the files left over, and the clocks; text or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from capture.pairing.scenes import natural_key
from sdd_toolkit.cli.terminal_text import escape_unprintable

if TYPE_CHECKING:
    from capture.ingest.stage import IngestResult
    from sdd_toolkit.records import PairRecord


def format_text(found: IngestResult) -> str:
    """One line a pair and one a file left over, names whole: for people and for grep."""
    lines = [
        f"{pair.id}: {pair.blur.path} -> {pair.sharp.path} ({found.evidence[pair.id]})" for pair in _sorted_pairs(found)
    ]
    lines += [f"  {entry.path}: {entry.reason.value}, {entry.detail}" for entry in found.rejected]
    lines += [f"clock of {note}" for note in found.clock_notes]
    return "\n".join(map(escape_unprintable, [*lines, _summary_line(found)]))


def format_json(found: IngestResult) -> str:
    """The same as one JSON object: `pairs`, `rejected`, `clocks`, `files`."""
    pairs = [
        {
            "id": pair.id,
            "scene": pair.scene,
            "kind": pair.kind.value,
            "blur": pair.blur.path,
            "sharp": pair.sharp.path,
            "why": found.evidence[pair.id],
        }
        for pair in _sorted_pairs(found)
    ]
    rejected = [{"path": entry.path, "reason": entry.reason.value, "detail": entry.detail} for entry in found.rejected]
    told = {"pairs": pairs, "rejected": rejected, "clocks": list(found.clock_notes), "files": found.files}
    return json.dumps(told, ensure_ascii=False)


def format_table(found: IngestResult, width: int) -> str:
    """Two tables drawn for a terminal of `width` columns; long names go on in the next line, nothing is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(escape_unprintable(text))

    console = Console(width=width, force_terminal=True)
    pairs = Table("pair", "blurred", "sharp", "why", title=f"{len(found.pairs.records)} pairs", title_justify="left")
    for pair in _sorted_pairs(found):
        pairs.add_row(*map(cell, (pair.id, pair.blur.path, pair.sharp.path, found.evidence[pair.id])))
    left = Table("file", "reason", "detail", title=f"{len(found.rejected)} files in no pair", title_justify="left")
    for entry in found.rejected:
        left.add_row(*map(cell, (entry.path, entry.reason.value, entry.detail)))
    for table in (pairs, left):
        for column in table.columns:
            column.overflow = "fold"
    with console.capture() as drawn:
        console.print(pairs)
        console.print(left)
    return drawn.get() + "\n".join(
        [*(escape_unprintable(f"clock of {note}") for note in found.clock_notes), _summary_line(found)]
    )


def _sorted_pairs(found: IngestResult) -> list[PairRecord]:
    return sorted(found.pairs.records, key=lambda record: natural_key(record.id))


def _summary_line(found: IngestResult) -> str:
    return f"{len(found.pairs.records)} pairs; {len(found.rejected)} of {found.files} files in none"
