"""Finds modules of other projects that Python would import in the place of the toolkit's own `cli` or packages."""

from __future__ import annotations

import os
from importlib.util import find_spec

from sdd_toolkit.errors import InputError

_MODULES = ("cli", "alignment", "capture", "jdrl")
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def find_foreign_module() -> InputError | None:
    """An error that names the first module found elsewhere than beside this package; None if there is none."""
    for name in _MODULES:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            spec = None
        file = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
        if file is None:
            return InputError(
                f"the toolkit in {_ROOT} lacks its module {name!r}", hint="install it again: pip install sdd-toolkit"
            )
        own = os.path.join(_ROOT, f"{name}.py" if name == "cli" else os.path.join(name, "__init__.py"))
        if os.path.realpath(file) != os.path.realpath(own):
            return InputError(
                f"{file} takes the place of the toolkit's own {name!r} in {_ROOT}",
                hint="take its folder out of PYTHONPATH, or run `sdd` from another folder",
            )
    return None
