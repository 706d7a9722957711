"""Names of frames in any language: equal names in different Unicode forms, and ids that are safe in file names."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from sdd_toolkit.storage.fingerprint import fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_HASH_DIGITS = 8


def composed(name: str) -> str:
    """A name in the composed Unicode form (NFC): macOS stores `é` as `e` and an accent, other systems as one character.

    Example:
        >>> composed("caf" + chr(0x65) + chr(0x301)) == "caf" + chr(0xE9)
        True
    """
    return unicodedata.normalize("NFC", name)


def unprintable_reason(path: str) -> str:
    """Why a path cannot be listed or written into text files; empty if it can.

    Spaces of any kind, tabs, joined emoji, marks of writing direction and characters of newer Unicode versions can.
    """
    kinds = {unicodedata.category(character) for character in path if not character.isprintable() and character != "\t"}
    return "its name is not printable" if kinds & {"Cc", "Cs"} or "\\" in path else ""


def equal_names(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """The names that both sides have, as (first, second), sorted: identical ones, then equal ones in another form.

    Of several names of one side that differ only in their form, none is paired with a name of a third form.
    """
    mine, theirs = set(first), set(second)
    same = mine & theirs
    forms = [by_form(names - same) for names in (mine, theirs)]
    others = [(name, forms[1][form]) for form, name in forms[0].items() if form in forms[1]]
    return sorted([*((name, name) for name in same), *others])


def by_form(names: Iterable[str]) -> dict[str, str]:
    """The names by their composed form, those left out that share one."""
    forms: dict[str, list[str]] = {}
    for name in names:
        forms.setdefault(composed(name), []).append(name)
    return {form: members[0] for form, members in forms.items() if len(members) == 1}


def safe_ids(names: Iterable[str]) -> dict[str, str]:
    """An id for each name: composed, slashes as hyphens, spaces of any kind as spaces, without invisible characters.

    Names whose ids would become equal through that get a part of their hash.

    Example:
        >>> safe_ids(["a/1", "b" + chr(0xA0) + "2"])
        {'a/1': 'a-1', 'b\xa02': 'b 2'}
    """
    ids = {name: _safe_id(name) for name in sorted(set(names))}
    counts: dict[str, int] = {}
    for safe in ids.values():
        counts[safe] = counts.get(safe, 0) + 1
    return {
        name: f"{safe}-{fingerprint_text(name, _HASH_DIGITS)}" if counts[safe] > 1 and safe != name else safe
        for name, safe in ids.items()
    }


def _safe_id(name: str) -> str:
    spaced = ["-" if c == "/" else " " if c == "\t" or unicodedata.category(c)[0] == "Z" else c for c in composed(name)]
    plain = "".join(character for character in spaced if character.isprintable()).strip(" ")
    # A name of nothing but invisible characters, or one that would be hidden.
    return f"_{plain}" if not plain or plain.startswith(".") else plain
