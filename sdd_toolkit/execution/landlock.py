"""Least rights of worker processes: Linux's Landlock lets them read the sources and write the output, nothing else.

The decoders of workers (LibRaw, libjpeg, libtiff, HDF5) are the code that meets foreign bytes first. Where one of them
is taken over by a file, the kernel still refuses what the stage does not need. The kernel's documentation:
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import site
import stat
import struct
import sys
import sysconfig
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.storage.locations import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 1, 38
# Rights on files and folders: https://docs.kernel.org/userspace-api/landlock.html#filesystem-flags
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM, _REFER = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12, 1 << 13
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
# Of TCP: bind, connect. Scopes: abstract sockets of others, signals to others.
_TCP, _SCOPES = 3, 3

_PROGRAMS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
_SYSTEM = (
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/perl", "/dev/urandom", "/sys/devices/system"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
)
# Of a worker that uses a store by URL: names of hosts, certificates, and the credentials of the stores' clients.
_NETWORK = (
    *("/etc", "/etc/resolv.conf", "/run/systemd/resolve", "/run/secrets", "/var/run/secrets"),
    *("~/.aws", "~/.config/gcloud", "~/.azure", "~/.netrc", "~/.config/rclone", "~/.config/fsspec"),
)
# Variables whose value is the path of such a file: AWS_CONFIG_FILE, GOOGLE_APPLICATION_CREDENTIALS, SSL_CERT_FILE ...
_NETWORK_VARIABLE = re.compile(
    r"(AWS|AZURE|BOTO|CLOUDSDK|CURL|FSSPEC|GOOGLE|REQUESTS|SSL_CERT)(_\w+)?_(FILE|DIR|PATH|BUNDLE|CONFIG|CREDENTIALS)|NETRC"
)
_ON_DISK = ("file", "local")  # protocols of URLs
_CODE_VARIABLES = ("PYTHONPATH", "LD_LIBRARY_PATH")
_MAX_FOLDERS = 1000
_TOOLKIT = ("sdd_toolkit", "capture", "alignment", "jdrl", "cli.py")


@dataclass(frozen=True, slots=True)
class FileAccess:
    """The files that the tasks of a stage may use, besides those of Python and the system.

    Attributes:
        read: Files and folders that are read, with everything in them; links are resolved.
        write: Folders that are written and read, created if missing.
        run: Programs that are run, with what lies beside them.
    """

    read: tuple[Location, ...] = ()
    write: tuple[Location, ...] = ()
    run: tuple[Path, ...] = ()


def folders_of(paths: Collection[str | Path]) -> tuple[Path, ...]:
    """The folders that hold these files; where they are more than a thousand, the folders that hold those.

    Never, in place of others, `/`, the user's own folder or one that holds it: they hold much else.
    """
    folders = {os.path.dirname(path) for path in paths}
    folders |= {os.path.dirname(os.path.realpath(path)) for path in paths if os.path.islink(path)}
    while len(folders) > _MAX_FOLDERS:
        inside = Counter(parent for parent in map(os.path.dirname, folders) if not _holds_home(parent))
        if not inside:
            break
        deepest = max(parent.count(os.sep) for parent in inside)
        crowded = {parent for parent, count in inside.items() if count > len(folders) / _MAX_FOLDERS}
        wider = crowded or {parent for parent in inside if parent.count(os.sep) == deepest}
        folders = {parent if (parent := os.path.dirname(folder)) in wider else folder for folder in folders}
    return tuple(map(Path, sorted(folders)))


def _holds_home(folder: str) -> bool:
    """Whether a folder is the user's own, or one that holds it, such as `/`."""
    return os.path.join(os.path.expanduser("~"), "").startswith(os.path.join(folder, ""))


@cache
def version() -> int:
    """The version of the kernel's Landlock interface; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


@cache
def report_missing() -> None:
    """Says once, in the log, that workers are not restricted, where that is so."""
    if not version():
        log.info("this system has no Landlock: worker processes may use every file that you may")


def create_folders(access: FileAccess) -> None:
    """Creates the folders to write: a rule holds for what exists."""
    for folder in _local(access.write):
        folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a worker; made in the main process, as that takes longer than to apply them.

    Attributes:
        rights: Rights on the files below each path.
        network: Whether connections are allowed.
    """

    rights: tuple[tuple[str, int], ...]
    network: bool


def rules_of(access: FileAccess, modules: Iterable[str] = ()) -> Rules:
    """The rules that allow `access`, and what Python, the toolkit and the packages of `modules` need."""
    rights: dict[str, int] = {}
    for allowed, paths in _allowed(access, modules):
        for path in paths:
            if os.path.exists(path):
                real = os.path.realpath(path)
                rights[real] = rights.get(real, 0) | allowed
    return Rules(tuple(_without_repetition(rights)), _uses_network(access))


def _without_repetition(rights: dict[str, int]) -> Iterator[tuple[str, int]]:
    """The rights on each path, unless a folder that holds it gives them already."""
    for path, own in sorted(rights.items()):
        given = 0
        for folder in Path(path).parents:
            given |= rights.get(str(folder), 0)
        if own & ~given:
            yield path, own


def restrict_process(rules: Rules) -> bool:
    """Takes all rights to files from this process, and from those that it starts, but those of `rules`.

    It must have one thread: others would keep their rights. What is open stays open.

    Returns:
        Whether the kernel has Landlock.

    Raises:
        OSError: The kernel refuses.
    """
    if not version():
        return False
    ruleset = _create_ruleset(version(), rules.network)
    try:
        for path, rights in (*rules.rights, ("/proc/self", _READ)):
            _allow(ruleset, path, rights & _rights_of(version()))
        if _library().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allowed(access: FileAccess, modules: Iterable[str]) -> Iterator[tuple[int, Iterable[str | Path]]]:
    named = _paths_of_variables(_CODE_VARIABLES.__contains__)
    code = [path for path in named if not _holds_home(os.path.realpath(path))]
    yield _READ | _EXECUTE, (*_PROGRAMS, *_python(), *code, *(path.resolve().parent for path in access.run))
    yield _READ, (*_SYSTEM, *_packages(modules), *_local(access.read))
    yield _READ_FILE | _WRITE_FILE | _TRUNCATE, ("/dev/null",)
    yield _WRITE, _local(access.write)
    if _uses_network(access):
        yield _READ, tuple(map(os.path.expanduser, (*_NETWORK, *_paths_of_variables(_NETWORK_VARIABLE.fullmatch))))
    if any(isinstance(location, Remote) for location in access.write):
        # A file for a store is written whole before it is brought there.
        yield _WRITE, (tempfile.gettempdir(),)


def _local(locations: Iterable[Location]) -> tuple[Path, ...]:
    """The folders on disks, also those that are given as a URL."""
    paths = []
    for location in locations:
        if isinstance(location, Path):
            paths.append(location)
        elif location.protocol in _ON_DISK:
            paths.append(Path(location.url.partition("://")[2]))
    return tuple(paths)


def _uses_network(access: FileAccess) -> bool:
    locations = (*access.read, *access.write)
    return any(isinstance(location, Remote) and location.protocol not in _ON_DISK for location in locations)


def _paths_of_variables(is_wanted: Callable[[str], object]) -> Iterator[str]:
    """The paths that environment variables of these names hold, one or several each."""
    for name, value in os.environ.items():
        if is_wanted(name):
            yield from filter(None, value.split(os.pathsep))


@cache
def _python() -> tuple[str, ...]:
    """The folders of the interpreter, its library and installed packages."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *site.getsitepackages()}
    folders |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    return tuple(sorted(folder for folder in folders if folder.strip("/")))


def _packages(modules: Iterable[str]) -> Iterator[Path]:
    """The code of the toolkit, and the packages of other modules whose functions are called."""
    root = Path(__file__).parents[2]
    yield from (root / name for name in _TOOLKIT)
    for name in modules:
        package = sys.modules.get(name.partition(".")[0])
        files = getattr(package, "__path__", None) or [getattr(package, "__file__", None)]
        yield from (Path(file) for file in files if file)


def _rights_of(interface: int) -> int:
    """All rights on files that the kernel knows."""
    bits = 13 if interface < 2 else 14 if interface < 3 else 15 if interface < 5 else 16
    return (1 << bits) - 1


def _create_ruleset(interface: int, network: bool) -> int:
    attributes = [_rights_of(interface)]
    if interface >= 4:
        attributes.append(0 if network else _TCP)
    if interface >= 6:
        attributes.append(_SCOPES)
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    return _call(_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is gone: there is nothing to allow
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_library().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {errno.errorcode.get(code, code)}")
    return result
