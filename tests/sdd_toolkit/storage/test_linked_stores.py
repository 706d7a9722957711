from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.storage.linked_stores import (
    check_stored,
    common_root,
    locate_source,
    resolve_source,
    stored_object,
    target_folders,
)

CONTENT = b"a picture"


def link(path: Path, target: Path, *, absolute: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target if absolute else os.path.relpath(target, path.parent))
    return path


def write(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hub(folder: Path, name: str, content: bytes = CONTENT, digest: str = "") -> Path:
    """A file of a snapshot in the cache of the Hugging Face Hub; returns the snapshot."""
    repository = folder / "hub/datasets--someone--pairs"
    blob = write(repository / "blobs" / (digest or hashlib.sha256(content).hexdigest()), content)
    snapshot = repository / "snapshots/0123abcd"
    link(snapshot / name, blob)
    return snapshot


def dvc(folder: Path, name: str, content: bytes = CONTENT, digest: str = "", store: str = "cache/files/md5") -> Path:
    """A file that DVC links absolutely from a repository to a cache beside it; returns the repository."""
    digest = digest or hashlib.md5(content, usedforsecurity=False).hexdigest()
    link(folder / "repository" / name, write(folder / store / digest[:2] / digest[2:], content), absolute=True)
    return folder / "repository"


def annex(folder: Path, name: str, content: bytes = CONTENT, key: str = "") -> Path:
    """A file of a repository with git-annex; returns the folder `data` in it."""
    key = key or f"SHA256E-s{len(content)}--{hashlib.sha256(content).hexdigest()}{Path(name).suffix}"
    link(folder / "repo/data" / name, write(folder / "repo/.git/annex/objects/aB/cD" / key / key, content))
    return folder / "repo/data"


@pytest.mark.parametrize("store", [hub, dvc, annex])
def test_the_file_behind_a_link_into_a_store_is_a_source(tmp_path: Path, store: object) -> None:
    root = store(tmp_path, "train/1.png")  # type: ignore[operator]
    assert resolve_source(root, "train/1.png") == root / "train/1.png"
    assert locate_source(root, "train/1.png").read_bytes() == CONTENT
    (folder,) = target_folders(root, ["train/1.png"])
    assert os.path.realpath(root / "train/1.png").startswith(str(folder))
    assert common_root(root, ["train/1.png"]) in folder.parents


@pytest.mark.parametrize("store", [hub, dvc, annex])
def test_a_link_into_a_store_that_lies_in_the_data_set_is_inside(tmp_path: Path, store: object) -> None:
    root = store(tmp_path, "1.png")  # type: ignore[operator]
    relative = f"{root.relative_to(tmp_path).as_posix()}/1.png"
    assert target_folders(tmp_path, [relative]) == ()
    assert common_root(tmp_path, [relative]) == tmp_path
    assert locate_source(tmp_path, relative).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("store", "name"),
    [
        (hub, "0" * 64),
        (hub, "0" * 40),
        (dvc, "0" * 32),
        (annex, f"SHA256E-s9--{'0' * 64}.png"),
        (annex, f"MD5-s9--{'0' * 32}"),
    ],
)
def test_an_object_that_is_not_what_its_name_says_is_refused(tmp_path: Path, store: object, name: str) -> None:
    root = store(tmp_path, "1.png", CONTENT, name)  # type: ignore[operator]
    with pytest.raises(InputError, match="is not what its name in the store says"):
        locate_source(root, "1.png")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha384", "sha512", "sha3_256", "blake2b"])
def test_every_hash_of_git_annex_is_compared(tmp_path: Path, algorithm: str) -> None:
    backend = {"blake2b": "BLAKE2B512"}.get(algorithm, algorithm.upper())
    digest = hashlib.new(algorithm, CONTENT, usedforsecurity=False).hexdigest()
    root = annex(tmp_path, "1.png", key=f"{backend}E-s9--{digest}.png")
    found = stored_object(root / "1.png")
    assert found is not None
    assert (found.algorithm, found.digest) == (algorithm, digest)
    check_stored(found)


def test_files_of_git_in_the_hub_and_old_caches_of_dvc_are_known(tmp_path: Path) -> None:
    git_blob = hashlib.sha1(b"blob 9\0" + CONTENT, usedforsecurity=False).hexdigest()
    assert locate_source(hub(tmp_path, "a.json", digest=git_blob), "a.json").read_bytes() == CONTENT
    assert locate_source(dvc(tmp_path, "b.png", store="repository/.dvc/cache"), "b.png").read_bytes() == CONTENT
    assert locate_source(annex(tmp_path, "c.png", key="WORM-s9-m1--c.png"), "c.png").read_bytes() == CONTENT


def refused_links(folder: Path) -> list[Path]:
    """Links of a hostile data set to files that are not its own, and how close they come to those of a store."""
    secret = write(folder / "home/.ssh/id_rsa.png")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    other_blob = write(folder / "other/blobs" / sha256)
    key = f"SHA256E-s9--{sha256}.png"
    other_annex = write(folder / "other/.git/annex/objects/aB/cD" / key / key)
    near_dvc = write(folder / "home/files/md5/ab/secret")
    loose = write(folder / "home" / sha256)
    blob_link = link(folder / "set/blobs" / sha256, secret)
    return [
        link(folder / "set/snapshots/a" / f"{number}.png", target)
        for number, target in enumerate((secret, other_blob, other_annex, near_dvc, loose, blob_link))
    ]


def test_links_to_anything_else_stay_refused(tmp_path: Path) -> None:
    for path in refused_links(tmp_path):
        assert stored_object(path) is None, path.name
        with pytest.raises(ManifestError, match="leaves its root"):
            resolve_source(path.parent, path.name)
        assert resolve_source(path.parent, path.name, follow_links=True).read_bytes() == CONTENT


def test_no_option_lets_a_path_lead_out_by_itself_or_through_a_folder(tmp_path: Path) -> None:
    root = hub(tmp_path, "1.png")
    (root / "up").symlink_to(tmp_path)
    dvc(tmp_path, "2.png")
    for relative in ("../0123abcd/1.png", "/etc/passwd", "a/../../x", "x\0y", ""):
        with pytest.raises(ManifestError):
            resolve_source(root, relative, follow_links=True)
    with pytest.raises(ManifestError):
        resolve_source(root, "up/repository/2.png")
    link(tmp_path / "plain/gone.png", tmp_path / "nowhere")
    assert stored_object(tmp_path / "plain/gone.png") is None
