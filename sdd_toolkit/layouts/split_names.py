"""The split of a pair by the names of folders: within its data set, of the data set and around it."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
# `train_c` of DPDD, `train_data` of LFDOF, `train_patches` of SDD, `train_crops` of Restormer.
_ENDING = re.compile(r"([-_ ]?(data|set)|[-_ ](c|patches|crops|images?))$")


def split_of_name(name: str) -> str | None:
    """The split of a folder by its name; None if it names none.

    Example:
        >>> split_of_name("Validation"), split_of_name("test_c"), split_of_name("attest")
        ('val', 'test', None)
    """
    lower = name.lower()
    return _SPLITS.get(lower) or _SPLITS.get(_ENDING.sub("", lower))


def split_within(path: str) -> str | None:
    """The split that a path within a data set names: that of its outermost folder which names one."""
    return next(filter(None, map(split_of_name, PurePosixPath(path).parts)), None)


def choose_split(named: str | None, root: Path, of_layout: str | None = None) -> str | None:
    """The split of a pair; it does not depend on how the path of the data set is written.

    The folders around the data set count last, inner ones first.

    Args:
        named: The split that a folder within the data set names; it counts most.
        root: Folder of the data set: the split that its own name stands for comes next.
        of_layout: The split of all data sets of this layout.

    Example:
        >>> choose_split(None, Path("Datasets/test/DPDD")), choose_split(None, Path("test/DPDD/../DPDD/train_c"))
        ('test', 'train')
    """
    *around, own = Path(os.path.abspath(root)).parts
    outer = filter(None, map(split_of_name, reversed(around)))
    return named or split_of_name(own) or of_layout or next(outer, None)
