"""Pair and scene names that are unique, safe in every file system, and independent of the order of the files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from sdd_toolkit.storage.fingerprint import fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_LENGTH = 100
_DIGITS = 8


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Maps names to `[a-z0-9._-]`; names that would become equal get a part of their hash.

    >>> safe_names(["Köln/Dom 1", "shelf"])
    {'Köln/Dom 1': 'koln-dom-1', 'shelf': 'shelf'}
    >>> safe_names(["a b", "a-b"])
    {'a b': 'a-b-c8687a08', 'a-b': 'a-b-d44362d6'}
    """
    slugs = {name: _slug(name) for name in sorted(set(names))}
    counts = Counter(slugs.values())
    return {
        name: f"{slug}-{_digest(name)}" if slug and counts[slug] > 1 else slug or f"scene-{_digest(name)}"
        for name, slug in slugs.items()
    }


def number_ids(scenes: Sequence[str]) -> list[str]:
    """A unique id for each pair from its scene: the scene's name, then with -2, -3 and so on.

    >>> number_ids(["shelf", "shelf", "table"])
    ['shelf', 'shelf-2', 'table']
    """
    used = set(scenes)
    counts: Counter[str] = Counter()
    ids = []
    for scene in scenes:
        counts[scene] += 1
        while counts[scene] > 1 and f"{scene}-{counts[scene]}" in used:
            counts[scene] += 1
        name = scene if counts[scene] == 1 else f"{scene}-{counts[scene]}"
        used.add(name)
        ids.append(name)
    return ids


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-.")
    return slug if len(slug) <= _MAX_LENGTH else f"{slug[: _MAX_LENGTH - _DIGITS - 1]}-{_digest(name)}"


def _digest(name: str) -> str:
    return fingerprint_text(name, _DIGITS)
