"""Fingerprints of configurations and inputs: the first digits of a SHA-256, equal as long as nothing changes."""

from __future__ import annotations

import hashlib
import json


def fingerprint(value: object) -> str:
    """16 hex digits of a value that JSON can hold; the order of keys does not matter.

    >>> fingerprint({"a": 1, "b": None}) == fingerprint({"b": None, "a": 1})
    True
    """
    return fingerprint_text(json.dumps(value, sort_keys=True))


def fingerprint_text(text: str, digits: int = 16) -> str:
    """The first hex digits of the SHA-256 of `text`.

    >>> fingerprint_text("defocus")
    '818965811318efe9'
    """
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:digits]
