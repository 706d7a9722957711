"""Fuzzes one target guided by coverage (atheris): `python -m tests.fuzz.coverage_guided INTACT TARGET FINDINGS CORPUS`.

Every new kind of failure (type and place of the exception) is written to the folder of findings, and the search goes
on; a crash, a hang or too much memory ends the process, and libFuzzer writes the input there.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import traceback
from pathlib import Path

import atheris
import click

from sdd_toolkit.errors import SddError

with atheris.instrument_imports(include=["sdd_toolkit", "alignment", "capture"], enable_loader_override=False):
    from tests.fuzz.targets import targets

from tests.fuzz.cases import Target


class Search:
    """Tries inputs on a target and keeps the first of each kind of failure."""

    def __init__(self, target: Target, findings: Path, scratch: Path) -> None:
        self._target = target
        self._findings = findings
        self._path = scratch / target.file
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._known: set[tuple[str, str, int | None]] = set()

    def try_input(self, content: bytes) -> None:
        """Reads one input; anything but a result or an `SddError` is a finding."""
        self._path.write_bytes(self._target.seal(content))
        try:
            self._target.read(self._path)
        except SddError:
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = (type(error).__name__, place.filename, place.lineno)
            if kind not in self._known:
                self._known.add(kind)
                save_finding(self._findings, content)
                click.echo(f"finding: {kind[0]}: {str(error)[:200]} at {place.filename}:{place.lineno}")


def save_finding(folder: Path, content: bytes) -> Path:
    """Writes an input under the first digits of its hash, so that equal findings are one file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return path


def main() -> None:
    """Searches until libFuzzer's own flags, which follow the four arguments, end it."""
    intact, name, findings, corpus = sys.argv[1:5]
    known = targets(Path(intact) / "tiny/whole", (Path(intact) / "small.dng").read_bytes())
    target = next(target for target in known if target.name == name)
    Path(corpus).mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        save_finding(Path(corpus), seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        search = Search(target, Path(findings), Path(scratch))
        atheris.Setup([sys.argv[0], corpus, *sys.argv[5:]], search.try_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
