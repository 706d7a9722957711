"""Escapes control characters in text from untrusted files before it is printed to a terminal."""

from __future__ import annotations

import logging


def escape_unprintable(text: str) -> str:
    """`text` on one line, with line ends, escape sequences and other control characters spelt out.

    >>> escape_unprintable("IMG\\x1b[2J.dng")
    'IMG\\\\x1b[2J.dng'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class PrintableFormatter(logging.Formatter):
    """Formats log records with their message escaped; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's own name
        """The escaped message of a record."""
        return escape_unprintable(super().formatMessage(record))
