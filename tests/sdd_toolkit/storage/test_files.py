from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.storage.files import replace_atomically, resolve_inside, sha256_of, write_csv, write_error, write_text


def test_a_writer_that_fails_leaves_the_old_file_and_no_partial(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replace_atomically(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_says_so_and_what_to_do() -> None:
    error = write_error(Path("shards/a.h5"), OSError(28, "No space left on device"))
    assert isinstance(error, InputError)
    assert "no space left while writing shards/a.h5" in error.what


def test_a_full_disk_met_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no space left"), replace_atomically(tmp_path / "a") as partial:
        partial.write_bytes(b"x")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_csv_file_quotes_what_would_end_a_field_or_a_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("path", "detail"), [('a"b', None), ("c,d", 1.5), ("e\rf", " g"), ("h\ni", "")])
    text = (tmp_path / "a.csv").read_bytes().decode()
    assert text == 'path,detail\n"a""b",\n"c,d",1.5\n"e\rf", g\n"h\ni",\n'


def test_sha256_is_the_one_everybody_computes(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "hello")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"hello").hexdigest()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a/..", "a\0b"])
def test_a_path_that_leaves_its_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ManifestError, match="leaves its root"):
        resolve_inside(tmp_path, path)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(tmp_path, root / "out")
    with pytest.raises(ManifestError, match="through a link"):
        resolve_inside(root, "out/secret")


@given(st.text(max_size=30))
def test_no_text_whatever_leads_out_of_the_root(text: str) -> None:
    root = Path("/nonexistent/root")
    try:
        path = resolve_inside(root, text)
    except ManifestError:
        return
    assert path.resolve().is_relative_to(root)
