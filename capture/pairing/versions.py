"""Finds the versions of an exposure: the files that a camera, a converter or an editor made of one shot.

Of each exposure one file is used: RAW before DNG, TIFF, PNG and JPEG, a camera's original before an edited file. All
others are versions of it. Names and capture times are the evidence; where they leave a doubt, the pixels decide.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capture.pairing.developments import format_of, is_raw
from capture.pairing.same_exposure import compare_facts, shot_times_s
from capture.pairing.scenes import assign_roles, natural_key
from capture.pairing.version_names import NameLink, parse_version_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence

    from capture.pairing.same_exposure import Doubt, Likeness
    from capture.pairing.scenes import Frame
    from capture.pairing.version_names import VersionName

_MAX_NAMESAKES = 8
"""More files of one name and time, or of one name in neighbouring folders, are numbered alike by chance."""
_FORMAT_ORDER = ("DNG", "TIFF", "PNG", "JPEG")


@dataclass(frozen=True, slots=True)
class Version:
    """One file made of the same exposure as another, which is used.

    Attributes:
        original: Name of the file that is used.
        evidence: In words.
    """

    original: str
    evidence: str


def find_versions(
    frames: Sequence[Frame],
    fixed: Collection[str],
    look_alike: Callable[[Sequence[tuple[str, str, Doubt]]], Sequence[bool]],
) -> dict[str, Version]:
    """Finds the files that are versions of others, by their names.

    Args:
        frames: All readable files, in any order.
        fixed: Names of files that are used in any case.
        look_alike: Compares the pixels of pairs of files: whether they show what the doubt asks for.
    """
    originals = _Originals()
    versions: dict[str, Version] = {}
    doubtful: list[tuple[str, str, Doubt]] = []
    for file in sorted(map(_name_parts, assign_roles(frames)), key=_preference):
        name = file.frame.name
        likenesses = {} if name in fixed else _compare(file, originals)
        certain = next((other for other, likeness in likenesses.items() if likeness.doubt is None), None)
        if certain is not None:
            versions[name] = Version(certain, likenesses[certain].evidence)
            continue
        doubtful += [(name, other, likeness.doubt) for other, likeness in likenesses.items() if likeness.doubt]
        originals.add(file)
    for (name, original, _), alike in zip(doubtful, look_alike(doubtful) if doubtful else (), strict=True):
        if alike:
            versions.setdefault(name, Version(original, "alike in name or time, and in their pixels"))
    return {name: Version(_follow(name, versions), version.evidence) for name, version in versions.items()}


@dataclass(frozen=True, slots=True)
class _NamedFrame:
    """A frame, its folder and the parts of its stem."""

    frame: Frame
    folder: str
    name: VersionName


def _name_parts(frame: Frame) -> _NamedFrame:
    folder, _, name = frame.name.rpartition("/")
    return _NamedFrame(frame, folder, parse_version_name(os.path.splitext(name)[0]))


class _Originals:
    """The files that are no version of an earlier one, by what a version would share with them."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, list[Frame]] = defaultdict(list)

    def add(self, file: _NamedFrame) -> None:
        """Adds a file under all its keys."""
        for stem in {file.name.stem, file.name.source}:
            for key in ((stem, file.folder), *_time_keys(file, stem), *_near_keys(file, stem)):
                self._by_key[key].append(file.frame)
        for key in _instant_keys(file):
            self._by_key[key].append(file.frame)

    def candidates(self, file: _NamedFrame) -> Iterator[tuple[Frame, NameLink | None]]:
        """Files that `file` may be a version of, with the relation of the names; None where the time alone agrees."""
        links = file.name.links
        if file.frame.provenance.raw_name:
            raw_stem = os.path.splitext(file.frame.provenance.raw_name)[0]
            links = ((parse_version_name(raw_stem).stem, NameLink.SAME), *links)
        for stem, link in links:
            for other in self._by_key.get((stem, file.folder), ()):
                yield other, link
            for key in (*_time_keys(file, stem), *_near_keys(file, stem)):
                for other in self._few(key):
                    yield other, link
        for key in _instant_keys(file):
            for other in self._few(key):
                yield other, None

    def _few(self, key: Hashable) -> Sequence[Frame]:
        found = self._by_key.get(key, ())
        return found if len(found) <= _MAX_NAMESAKES else ()


def _compare(file: _NamedFrame, originals: _Originals) -> dict[str, Likeness]:
    """The files that may show the exposure of `file`, by their names, the likeliest first."""
    likenesses: dict[str, Likeness] = {}
    for other, link in originals.candidates(file):
        if other.name not in likenesses:
            likeness = compare_facts(file.frame, other, link)
            if likeness is not None:
                likenesses[other.name] = likeness
    return likenesses


def _preference(file: _NamedFrame) -> tuple[object, ...]:
    """Sort key: the file of an exposure to use comes first."""
    frame, form = file.frame, format_of(file.frame)
    order = _FORMAT_ORDER.index(form) + 1 if form in _FORMAT_ORDER else 0
    original = (not is_raw(frame), frame.provenance.is_demosaiced, file.name.is_edited, form == "DNG")
    return (*original, file.name.numbers, order, natural_key(frame.name))


def _follow(name: str, versions: Mapping[str, Version]) -> str:
    """The file that is used in place of a version of a version."""
    while name in versions:
        name = versions[name].original
    return name


def _near_keys(file: _NamedFrame, stem: str) -> tuple[Hashable, ...]:
    """Keys that files of a folder and its subfolder share, and of `raw/day-1` and `jpg/day-1`: one name differs."""
    parts = file.folder.split("/")
    others = ["/".join((*parts[:index], "*", *parts[index + 1 :])) for index in range(len(parts))]
    return tuple((stem, place, "near") for place in (file.folder, "/".join(parts[:-1]), *others))


def _time_keys(file: _NamedFrame, stem: str) -> tuple[Hashable, ...]:
    """Keys that files of the same second share."""
    return tuple((stem, int(time_s)) for time_s in shot_times_s(file.frame))


def _instant_keys(file: _NamedFrame) -> tuple[Hashable, ...]:
    """Keys that files of the same body and the same fraction of a second share."""
    model = (file.frame.meta.model or "").lower()
    return tuple((model, time_s) for time_s in shot_times_s(file.frame) if time_s % 1) if model else ()
