"""The program `sdd`, also as `python -m sdd_toolkit`: checks whose modules it would import, then runs `cli.py`."""

from __future__ import annotations

from sdd_toolkit.cli.lazy_group import end_with_error
from sdd_toolkit.own_modules import find_foreign_module


def main() -> None:
    """Runs `sdd`; a module of another project in the place of one of the toolkit's own is named in two lines."""
    if foreign := find_foreign_module():
        end_with_error(foreign)
    # Only now: the module may be one of another project.
    from cli import main as run

    run()


if __name__ == "__main__":
    main()
