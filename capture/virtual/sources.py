"""Reads photographs and depth maps from disk, as scenes for the virtual camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from capture.virtual.picture import Picture, picture_from_distance, picture_from_nearness, synthesise_nearness
from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.formats.containers import IMAGE_SUFFIXES
from sdd_toolkit.formats.decoding import read_coloured_image, read_image
from sdd_toolkit.formats.image_frames import to_linear_srgb
from sdd_toolkit.imaging.encoding import srgb_decode
from sdd_toolkit.storage.system_files import system_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig


@dataclass(frozen=True, slots=True)
class PhotographSource:
    """A photograph and its depth map on disk; without a map, the depth is synthesised."""

    image: Path
    depth: Path | None = None


def find_photographs(image: Path, depth: Path | None = None) -> tuple[PhotographSource, ...]:
    """The photographs of `--image` and `--depth`: one, or all those in a folder in the order of their names.

    Raises:
        InputError: A folder holds no photograph, or is given together with a depth map.
    """
    if not image.is_dir():
        return (PhotographSource(image, depth),)
    if depth is not None:
        raise InputError(f"{image} is a folder, {depth} the depth of one photograph", hint="leave --depth FILE out")
    found = (path for path in image.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not system_file(path.name))
    paths = sorted((path for path in found if path.is_file()), key=_name_key)
    if not paths:
        raise InputError(f"there is no photograph in {image}", hint="PNG, TIFF and JPEG files are looked for")
    return tuple(PhotographSource(path) for path in paths)


def load_picture(source: PhotographSource, config: SimulateConfig, rng: np.random.Generator) -> Picture:
    """Reads a photograph and its depth map.

    The map is a `.npy` of metres (infinity allowed), or an 8/16-bit grey PNG or TIFF linear in inverse depth, where
    0 is `far_m` and the largest number `near_m` of the configuration, or depths chosen for the pair without these.
    Without a map one is drawn from `rng`, see `synthesise_nearness`.

    Raises:
        RawError: A file cannot be read.
        InputError: The map does not fit the photograph or holds impossible distances.
    """
    image, colour = read_coloured_image(source.image)
    if colour.profile is not None:
        linear = to_linear_srgb(image, colour.profile).linear
    else:
        linear = srgb_decode(image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max))
    if source.depth is None:
        return picture_from_nearness(
            linear, synthesise_nearness((linear.shape[0], linear.shape[1]), config.depth, rng), config
        )
    if source.depth.suffix.lower() == ".npy":
        distance = _read_distances(source.depth, config)
        _check_size(source, linear, distance)
        return picture_from_distance(linear, distance)
    values = read_image(source.depth)[..., 0]
    _check_size(source, linear, values)
    return picture_from_nearness(linear, values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max), config)


def _name_key(path: Path) -> tuple[str, str]:
    return path.name.casefold(), path.name


def _read_distances(path: Path, config: SimulateConfig) -> NDArray[np.float64]:
    try:
        distance = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, MemoryError, RuntimeError, BadZipFile) as error:
        raise RawError(
            f"cannot read the depth map {path}: {error}", hint="save it with numpy.save as numbers"
        ) from error
    nearest = 2 * config.focal_mm / 1000.0
    if distance.ndim != 2 or distance.size == 0:
        raise InputError(f"{path} has shape {distance.shape}", hint="a depth map is (height, width)")
    if not np.all(distance >= nearest):
        worst = float(np.nanmin(distance)) if not np.all(np.isnan(distance)) else float("nan")
        raise InputError(
            f"{path} holds {worst:g} m or a NaN", hint=f"depths are metres, at least {nearest:g} (two focal lengths)"
        )
    return distance


def _check_size(
    source: PhotographSource, image: NDArray[np.float32], depth: NDArray[np.float64] | NDArray[np.generic]
) -> None:
    if image.shape[:2] != depth.shape:
        raise InputError(
            f"{source.depth} is {depth.shape[1]}x{depth.shape[0]}, {source.image} is {image.shape[1]}x{image.shape[0]}",
            hint="the depth map must have the photograph's size",
        )
