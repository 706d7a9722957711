"""Files that lie in a content-addressed store behind a link: the cache of the Hugging Face Hub, DVC, git-annex.

Such a link leads out of the folder that it lies in. It is safe to follow where the store and the link come as one (the
snapshots and blobs of one Hub repository, a repository and its annex), or where the object's name is the hash of its
content, which `check_stored` compares. Any other link may lead anywhere on this machine, and stays refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.storage.files import check_relative, resolve_inside

_HUB_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DVC_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}")
_DVC_STORES = (("files", "md5"), (".dvc", "cache"))
_ANNEX_KEY = re.compile(r"([A-Z0-9_]+?)E?(?:-[a-zA-Z]\d+)*--([^./]+).*")
_ANNEX_HASHES = {
    "MD5": "md5", "SHA1": "sha1", "SHA224": "sha224", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512",
    "SHA3_224": "sha3_224", "SHA3_256": "sha3_256", "SHA3_384": "sha3_384", "SHA3_512": "sha3_512",
    "BLAKE2B512": "blake2b",
}  # fmt: skip
_GIT_BLOB = "git blob"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The object behind a link.

    Attributes:
        path: The object.
        store: Folder of the store's objects.
        algorithm: Algorithm of the digest in its name; empty if it has none.
        digest: The digest, hex digits.
    """

    path: Path
    store: Path
    algorithm: str
    digest: str


def stored_object(link: Path) -> StoredObject | None:
    """The object of a content-addressed store that a link leads to, by its path; None for any other file."""
    if not link.is_symlink():
        return None
    target, folder = Path(os.path.realpath(link)), Path(os.path.realpath(link.parent))
    if not target.is_file():
        return None
    return _hub_object(target, folder) or _annex_object(target, folder) or _dvc_object(target)


def _hub_object(target: Path, folder: Path) -> StoredObject | None:
    """`REPOSITORY/blobs/DIGEST` of a link below `REPOSITORY/snapshots`; a digest of git or SHA-256."""
    blobs = target.parent
    if blobs.name != "blobs" or not _HUB_NAME.fullmatch(target.name):
        return None
    if not folder.is_relative_to(blobs.parent / "snapshots"):
        return None
    return StoredObject(target, blobs, "sha256" if len(target.name) == 64 else _GIT_BLOB, target.name)


def _annex_object(target: Path, folder: Path) -> StoredObject | None:
    """`REPOSITORY/.git/…/annex/objects/xx/yy/KEY/KEY` of a link below `REPOSITORY`."""
    parts = target.parts
    if len(parts) < 8 or parts[-6:-4] != ("annex", "objects") or parts[-1] != parts[-2] or ".git" not in parts[:-6]:
        return None
    if not folder.is_relative_to(Path(*parts[: parts.index(".git")])):
        return None
    store = target.parents[3]
    key = _ANNEX_KEY.fullmatch(target.name)
    algorithm = "" if key is None else _ANNEX_HASHES.get(key[1], "")
    return StoredObject(target, store, algorithm, key[2] if key is not None and algorithm else "")


def _dvc_object(target: Path) -> StoredObject | None:
    """`…/files/md5/ab/cdef…` or `.dvc/cache/ab/cdef…`, wherever the cache is: the name is the MD5 of the content."""
    name = "/".join(target.parts[-2:])
    if len(target.parts) < 5 or target.parts[-4:-2] not in _DVC_STORES or not _DVC_NAME.fullmatch(name):
        return None
    return StoredObject(target, target.parents[1], "md5", name.replace("/", ""))


def check_stored(stored: StoredObject) -> None:
    """Compares the content of an object with the digest in its name.

    Raises:
        InputError: They differ.
    """
    if not stored.algorithm:
        return
    with stored.path.open("rb") as stream:
        if stored.algorithm == _GIT_BLOB:
            head = hashlib.sha1(b"blob %d\0" % os.fstat(stream.fileno()).st_size, usedforsecurity=False)
            digest = hashlib.file_digest(stream, lambda: head).hexdigest()
        else:
            digest = hashlib.file_digest(stream, stored.algorithm).hexdigest()
    if digest != stored.digest:
        raise InputError(
            f"{stored.path.name[:80]} is not what its name in the store says",
            hint="fetch it again: the store is damaged",
        )


def resolve_source(root: Path, relative: str, *, follow_links: bool = False) -> Path:
    """`root / relative`, as `files.resolve_inside`, but a link into a content-addressed store may leave `root`.

    For files that were found by listing `root`, not for paths that a file names.

    Args:
        root: Folder of a data set.
        relative: A file below it.
        follow_links: Whether any other link may leave it, too.

    Raises:
        ManifestError: The path leaves `root` otherwise.
    """
    try:
        return resolve_inside(root, relative)
    except ManifestError:
        check_relative(relative, str(root))
        path = root / PurePosixPath(relative)
        inside = Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root))
        if follow_links or (inside and stored_object(path) is not None):
            return path
        raise


def locate_source(root: Path, relative: str, *, follow_links: bool = False) -> Path:
    """`resolve_source`, and the object of a store outside `root` compared with its name.

    Raises:
        ManifestError: The path leaves `root` otherwise.
        InputError: The object is not what its name says.
    """
    path = resolve_source(root, relative, follow_links=follow_links)
    if target_folders(root, [relative]) and (stored := stored_object(path)) is not None:
        check_stored(stored)
    return path


def common_root(root: Path, relatives: list[str]) -> Path:
    """The folder that holds a data set and what the links among its files lead to: the root of its manifest."""
    return Path(os.path.commonpath([os.path.realpath(root), *target_folders(root, relatives)]))


def target_folders(root: Path, relatives: list[str]) -> tuple[Path, ...]:
    """The folders outside `root` that its files lie in, links resolved: the stores' own, else the files' parents.

    For sandboxes that grant a worker the folders that it reads.

    Args:
        root: Folder of a data set.
        relatives: Files below it.
    """
    real_root = os.path.realpath(root)
    folders = set()
    for relative in relatives:
        path = root / PurePosixPath(relative)
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(real_root):
            stored = stored_object(path)
            folders.add(target.parent if stored is None else stored.store)
    return tuple(sorted(folders))
