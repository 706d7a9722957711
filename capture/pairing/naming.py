"""Names that are safe in every file system, unique, and the same however the files are listed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from sdd_toolkit.storage.fingerprint import fingerprint_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_LENGTH = 100


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """A name of `[a-z0-9._-]` for each of `names`; those that would look alike get part of their hash."""
    slugs = {name: _slug(name) for name in sorted(set(names))}
    counts = Counter(slugs.values())
    return {
        name: f"{slug}-{_digest(name)}" if slug and counts[slug] > 1 else slug or f"scene-{_digest(name)}"
        for name, slug in slugs.items()
    }


def number_ids(scenes: Sequence[str]) -> list[str]:
    """An id for each pair, given its scene: the scene's name, then with -2, -3 and so on."""
    taken = set(scenes)
    counts: Counter[str] = Counter()
    ids = []
    for scene in scenes:
        counts[scene] += 1
        while counts[scene] > 1 and f"{scene}-{counts[scene]}" in taken:
            counts[scene] += 1
        name = scene if counts[scene] == 1 else f"{scene}-{counts[scene]}"
        taken.add(name)
        ids.append(name)
    return ids


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-.")
    return slug if len(slug) <= _MAX_LENGTH else f"{slug[: _MAX_LENGTH - 9]}-{_digest(name)}"


def _digest(name: str) -> str:
    return fingerprint_text(name, digits=8)
