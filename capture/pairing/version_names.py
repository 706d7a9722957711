"""Names of edited, exported and copied photographs: which file such a file was made from.

Programs append a word to the name of their source (`IMG_1-Edit.tif`, `IMG_1_DxO.jpg`, `IMG_1 - Kopie.jpg`), or a number
(`IMG_1 (2).jpg`, `IMG_1-2.jpg`), which on its own proves nothing: shots are numbered, too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum

from sdd_toolkit.formats.containers import RAW_SUFFIXES


class NameLink(IntEnum):
    """The relation of a file's name to that of its source, the surest first."""

    SAME = 0
    EDITED = 1
    NUMBERED = 2


@dataclass(frozen=True, slots=True)
class VersionName:
    """The parts of a stem, in lower case.

    Attributes:
        stem: All of it.
        source: Without what editors add and without numbers of copies behind it; equal to `stem` if there is nothing.
        unnumbered: Without the number of a copy alone; equal to `stem` if there is none.
        numbers: How many such numbers there are, one behind the other.
    """

    stem: str
    source: str
    unnumbered: str
    numbers: int

    @property
    def is_edited(self) -> bool:
        """Whether the name is that of an edited or copied file."""
        return self.source != self.stem

    @property
    def links(self) -> tuple[tuple[str, NameLink], ...]:
        """The stems that a source of the file may have, the likeliest first."""
        links = [(self.stem, NameLink.SAME), (self.source, NameLink.EDITED), (self.unnumbered, NameLink.NUMBERED)]
        return tuple((stem, link) for stem, link in links if link is NameLink.SAME or stem != self.stem)


def parse_version_name(stem: str) -> VersionName:
    """The parts of a file's stem.

    >>> parse_version_name("IMG_0001-Edit-2").source
    'img_0001'
    >>> parse_version_name("IMG_0001 (2)")
    VersionName(stem='img_0001 (2)', source='img_0001 (2)', unnumbered='img_0001', numbers=1)
    """
    whole = " ".join(unicodedata.normalize("NFC", stem).lower().split())
    unnumbered = [whole]
    while (numbered := _NUMBER.fullmatch(unnumbered[-1])) is not None:
        unnumbered.append(numbered["source"])
    return VersionName(whole, _strip_edits(whole), unnumbered[min(1, len(unnumbered) - 1)], len(unnumbered) - 1)


# Words of editors, file managers and cloud services, in the languages of their menus.
_WORDS = (
    *("edit", "edits", "edited", "editado", "editada", "modifie", "modifié", "modifiée", "modificato", "bearbeitet"),
    *("bewerkt", "effects", "retouch", "retouched", "copy", "copie", "kopie", "kopia", "kopio", "copia", "cópia"),
    *("копия", "副本", "拷贝", "コピー", "enhanced", "denoise", "denoised", "denoiseai", "denoiseraw", "sharpenai"),
    *("topaz", "dxo", "pureraw", "affinity", "luminar", "hdr", "pano", "export", "exported", "processed", "resized"),
    *("lowres", "fullres", "highres", "proxy", "jpeg", "jpg", "tif", "tiff", "png", "srgb", "adobergb", "prophoto"),
    *("8bit", "16bit"),
)
_RAW_WORDS = sorted(suffix[1:] for suffix in RAW_SUFFIXES)
_WORD = "|".join(sorted(map(re.escape, (*_WORDS, *_RAW_WORDS)), key=len, reverse=True))
_SEPARATOR = r"[\s_.\-~(\[]+"
_AFTER = rf"(?:{_SEPARATOR}(?:nr|sr|rd|dp|\d{{1,3}}))*[)\]]*"  # Enhanced-NR, copy 2, Edit-3, Kopie (2)
_SUFFIX = re.compile(rf"(?P<source>.*[^\s_.\-~(\[]){_SEPARATOR}(?:{_WORD})[)\]]*{_AFTER}")
_PREFIX = re.compile(r"(?:copy of|kopie von|copie de|copia de|cópia de|kopia|копия|edited)[\s_\-]+(?P<source>.+)")
_PHONE_EDIT = re.compile(r"img_e(?P<number>\d{4,})")
_NUMBER = re.compile(r"(?P<source>.*[^\s_.\-~(])(?:\s*\(\d{1,3}\)|[\s_\-~]\d{1,2})")


def _strip_edits(stem: str) -> str:
    while True:
        match = _SUFFIX.fullmatch(stem) or _PREFIX.fullmatch(stem)
        if match is None:
            phone = _PHONE_EDIT.fullmatch(stem)
            return f"img_{phone['number']}" if phone else stem
        stem = match["source"]
