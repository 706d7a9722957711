"""Checkpoints on the command line: the name `default` for the weights that ship, and which argument is a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jdrl
from sdd_toolkit.errors import CheckpointError, InputError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES, RAW_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "default"
"""The name of the network whose weights ship inside the package; a folder of that name is `./default`."""
_FOLDER = Path(jdrl.__file__).with_name("weights")
MODEL_CARD = _FOLDER / f"{DEFAULT}.md"
_FILE = _FOLDER / f"{DEFAULT}.safetensors"
_SINGLE_FILE_SUFFIX = ".safetensors"
_PHOTOGRAPHS = frozenset({*IMAGE_SUFFIXES, *RAW_SUFFIXES})


def default_checkpoint() -> Path:
    """The default network, a checkpoint in one file inside the package.

    Raises:
        CheckpointError: The installation lacks it.
    """
    if not _FILE.is_file():
        raise CheckpointError(f"{_FILE} is missing: the installation lacks it", hint="install the toolkit again")
    return _FILE


def checkpoint_path(text: str) -> Path:
    """The path that an argument means: `default` is the default network, `./default` a folder of that name.

    Example:
        >>> checkpoint_path("default").name, checkpoint_path("./default").name
        ('default.safetensors', 'default')
    """
    return _FILE if text == DEFAULT else Path(text)


def folder_path(path: Path) -> Path:
    """The folder that an argument read by `checkpoint_path` means where no checkpoint can stand."""
    return Path(DEFAULT) if path == _FILE else path


def split_checkpoint(paths: Sequence[Path]) -> tuple[Path, tuple[Path, ...]]:
    """Splits `[CHECKPOINT] PHOTOGRAPHS...`, read by `checkpoint_path`, into the checkpoint and the photographs.

    The first argument is the checkpoint if it is a folder, a safetensors file, or a name that is neither that of a file
    nor ends as a photograph's. Without one the default network is used.

    Raises:
        InputError: No photograph is given, or a checkpoint or a folder stands among them.
    """
    checkpoint, files = (paths[0], tuple(paths[1:])) if paths and _may_be_checkpoint(paths[0]) else (None, tuple(paths))
    if not files:
        what = f"{checkpoint} is taken for the checkpoint: no photograph is given"
        raise InputError(
            "no photograph is given" if checkpoint is None else what,
            hint="give photographs after it; those of a folder as FOLDER/*.jpg",
        )
    for path in files:
        if path == _FILE:
            raise InputError(f"{DEFAULT} stands among the photographs", hint="the checkpoint comes first")
        if path.is_dir() or path.suffix.lower() == _SINGLE_FILE_SUFFIX:
            kind = "a folder" if path.is_dir() else "a file of weights"
            raise InputError(
                f"{path} is {kind}, no photograph",
                hint="the checkpoint comes first, before the photographs; those of a folder are given as FOLDER/*.jpg",
            )
    return checkpoint or default_checkpoint(), files


def _may_be_checkpoint(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() == _SINGLE_FILE_SUFFIX:
        return True
    return not path.is_file() and path.suffix.lower() not in _PHOTOGRAPHS
