"""What a terminal is shown, and never obeys: names of files, cameras and lenses come from strangers."""

from __future__ import annotations

import logging


def escape_unprintable(text: str) -> str:
    """`text` on one line; line ends, escape sequences and other characters a terminal obeys are spelt out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class PrintableFormatter(logging.Formatter):
    """Log records whose message is `printable`; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's own name
        """The line of a record."""
        return escape_unprintable(super().formatMessage(record))
