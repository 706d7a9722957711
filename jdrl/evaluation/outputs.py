"""Pictures that any method wrote, one a pair: found, checked whole before anything is scored, and read.

A folder is scored as it is or not at all: a picture that is missing, left over, ambiguous, of another size or cannot be
read is an error, because means over different pairs are not comparable.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from jdrl.evaluation.methods import round_to_levels
from jdrl.evaluation.output_names import PairNames, match_names
from jdrl.evaluation.score_card import CheckpointInfo
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.formats.colour import read_colour
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, check_is_file
from sdd_toolkit.formats.image_frames import to_linear_srgb
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.layouts.pixels import read_frame
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.system_files import system_file, system_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from jdrl.data.batch import Batch

_LISTED = 20


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A folder of pictures, and the name of the method that wrote them."""

    label: str
    folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class MethodOutputs:
    """The pictures of a method, one for each pair, all of them sound."""

    info: CheckpointInfo
    pictures: Mapping[str, Path]
    encoding: Encoding
    notes: tuple[str, ...]

    def restore(self, pair: str, truth: Batch) -> Tensor:
        """Reads the picture of a pair; see `Method.restore`."""
        return read_output(self.pictures[pair], self.encoding).to(truth.blur.device)


def parse_outputs(text: str) -> OutputFolder:
    """The method's name and folder of `NAME=FOLDER`.

    Raises:
        InputError: It has another form, or there is no such folder.
    """
    label, equals, folder = text.partition("=")
    if not (equals and label.strip() and folder):
        raise InputError(f"--outputs {text} is not NAME=FOLDER", hint="for example --outputs mine=results/mine")
    if not Path(folder).is_dir():
        raise InputError(f"--outputs {text}: no folder {folder}", hint="give the folder of the pictures")
    return OutputFolder(label.strip(), Path(folder))


def load_outputs(
    folders: Sequence[OutputFolder], reader: ShardReader, taken: Sequence[str] = ()
) -> list[MethodOutputs]:
    """Finds and checks the pictures of every folder for all pairs of the reader.

    Args:
        folders: Those to score.
        reader: Of the split that is scored.
        taken: Labels of the other methods.

    Raises:
        InputError: Two methods have one name, or a folder does not fit the pairs; every picture and pair at fault is
            named with its reason.
    """
    labels = [*taken, *(folder.label for folder in folders)]
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if folders and doubled:
        raise InputError(f"two methods are called {doubled[0]!r}", hint="give each --outputs a name of its own")
    return [_load_folder(folder, reader) for folder in folders]


def read_output(path: Path, encoding: Encoding) -> Tensor:
    """A picture as (1, 3, H, W) in [0, 1], values of the data set's encoding, rounded to its levels.

    8 and 16 bits are scaled by their white. A picture with a colour profile other than sRGB is converted; one without
    is taken to hold values like those of the data set.

    Raises:
        RawError: It cannot be decoded, or not as opaque RGB.
    """
    check_is_file(path)
    codes, profile = read_frame(path), read_colour(path).profile
    if profile is not None:
        codes = encode(to_linear_srgb(codes, profile).linear, encoding)
    scaled = codes.astype(np.float32) / np.float32(np.iinfo(codes.dtype).max)
    return round_to_levels(torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None], encoding)


def _load_folder(given: OutputFolder, reader: ShardReader) -> MethodOutputs:
    pictures, others = _list_files(given.folder)
    matches = match_names(pictures, _pair_names(reader))
    problems = list(matches.problems)
    digest = hashlib.sha256()
    for pair, name in matches.pictures.items():
        try:
            codes = _checked_codes(given.folder / name, reader.shape(pair), reader.encoding)
        except RawError as error:
            problems.append((name, error.what))
        else:
            digest.update(codes)
    if problems:
        raise _unfit(given, [(name, _other_suffix(name, reason, others)) for name, reason in problems])
    count = len(matches.pictures)
    info = CheckpointInfo(given.label, pictures=count, pictures_sha256=digest.hexdigest())
    paths = {pair: given.folder / name for pair, name in matches.pictures.items()}
    notes = _notes(given.label, matches.elsewhere, reader.encoding)
    return MethodOutputs(info, paths, reader.encoding, notes)


def _pair_names(reader: ShardReader) -> list[PairNames]:
    """The names of the pairs of all splits; those of other splits are not scored, but their pictures are known."""
    wanted = set(reader.pair_ids)
    with ShardReader(reader.folder) as everything:
        return [
            PairNames(pair, everything.record(pair).blur.path, pair in wanted) for pair in sorted(everything.pair_ids)
        ]


def _list_files(folder: Path) -> tuple[list[str], list[str]]:
    """Pictures and other files below a folder, as sorted relative POSIX paths; those of systems are left out."""
    pictures: list[str] = []
    others: list[str] = []
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not system_folder(name)]
        for name in files:
            if not system_file(name):
                path = (Path(at) / name).relative_to(folder).as_posix()
                (pictures if Path(name).suffix.lower() in IMAGE_SUFFIXES else others).append(path)
    return sorted(pictures), sorted(others)


def _checked_codes(path: Path, size: tuple[int, int], encoding: Encoding) -> bytes:
    """The pixels of a picture as they are scored.

    Raises:
        RawError: It cannot be read, or has another size than its pair.
    """
    image = read_output(path, encoding)
    height, width = image.shape[-2:]
    if (height, width) != size:
        raise RawError(f"is {width}x{height} px, its pair {size[1]}x{size[0]}", hint="write it at the size of its pair")
    return (image * encoding.white).round().to(torch.int32).numpy().tobytes()


def _other_suffix(name: str, reason: str, others: Sequence[str]) -> str:
    like = next((path for path in others if Path(path).stem == name), None)
    return f"{reason}; {like} is no PNG, TIFF or JPEG" if like and reason == "has no picture" else reason


def _unfit(given: OutputFolder, problems: Sequence[tuple[str, str]]) -> InputError:
    listed = "; ".join(f"{name}: {reason}" for name, reason in problems[:_LISTED])
    more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return InputError(
        f"the pictures of {given.label!r} in {given.folder} do not fit the pairs ({len(problems)}): {listed}{more}",
        hint="one picture a pair, of its size, named by the pair's id or blurred source file; see docs/evaluation.md",
    )


def _notes(label: str, elsewhere: int, encoding: Encoding) -> tuple[str, ...]:
    others = f"{label}: {elsewhere} pictures are of pairs of other splits, and are not scored."
    linear = f"{label}: pictures without a colour profile are taken as linear light, like the data set."
    notes = ((elsewhere > 0, others), (encoding is Encoding.LINEAR16, linear))
    return tuple(note for applies, note in notes if applies)
