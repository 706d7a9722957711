"""The split that the name of a folder, or any folder of a path, stands for."""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def split_of_root(root: Path) -> str | None:
    """The split that the path of a data set names, as it is given: that of its last folder which names one.

    Example:
        >>> split_of_root(Path("Datasets/test/DPDD")), split_of_root(Path("DPDD"))
        ('test', None)
    """
    # `.` and `..` name no folder.
    path = root if root.name and ".." not in root.parts else Path(os.path.abspath(root))
    return next(filter(None, map(split_of_name, reversed(path.parts))), None)
