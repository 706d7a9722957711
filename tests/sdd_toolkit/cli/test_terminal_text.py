from __future__ import annotations

import logging

from sdd_toolkit.cli.terminal_text import PrintableFormatter, escape_unprintable


def test_control_characters_are_spelt_out_and_other_letters_stay() -> None:
    assert escape_unprintable("Straße 東京 a\tb\r\n\x1b[31m\u2028") == "Straße 東京 a\\tb\\r\\n\\x1b[31m\\u2028"


def test_a_log_record_stays_on_one_line() -> None:
    record = logging.LogRecord("a", logging.WARNING, "p", 1, "cannot read %s", ("x\n\x1b[2Jy",), None)
    assert PrintableFormatter("%(levelname)s %(message)s").format(record) == "WARNING cannot read x\\n\\x1b[2Jy"
