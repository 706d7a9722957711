"""`sdd blurmap`: the circle of confusion of photographs, pixel by pixel.

A checkpoint's two networks tell it: D = F(B), and the weights of the kernels that turn D into B have a radius. Where
nothing is to be seen, no blur is to be seen either: there the map is a guess from its surroundings. Along the outline
of an object in front, whose blur spills over what lies behind, no kernel fits, and it is off by pixels.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from jdrl.checkpoints import deblurrer
from jdrl.checkpoints.checkpoint import HEADER, TRAINING, Header, locate, read_header, read_part
from jdrl.config import TrainConfig
from jdrl.device import device_name
from jdrl.inference import tiles
from jdrl.inference.deblur import Failure, deblur, each_file, read_photograph
from jdrl.inference.tiles import ramp, spans
from jdrl.networks import fitting, load_published
from jdrl.reblurring import blur_estimator
from jdrl.reblurring.network import ReblurNetwork, reblur_network_of
from jdrl.reblurring.reblur import coc_radius_px
from sdd_toolkit.config import validate
from sdd_toolkit.errors import CheckpointError, ConfigError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from jdrl.config import Tiling
    from sdd_toolkit.execution.progress import Track

_KEYS = ("reblur_radius_px", "reblur_width", "reblur_basis", "reblur_scale")
_PICTURE_WIDTH_IN = 9.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlurMapper:
    """What sees how blurred an image is.

    Attributes:
        encoding: Of the images it was trained on.
        largest_px: The largest radius it can tell.
        radius_px: (3, H, W) in [0, 1] → (H, W) circle-of-confusion radius in pixels, float32, both on the CPU.
    """

    encoding: Encoding
    largest_px: int
    radius_px: Callable[[Tensor], Tensor]


def of_checkpoint(path: Path, tiling: Tiling, network: str | None = None) -> BlurMapper:
    """What sees blur of a checkpoint folder, or of that of a training run.

    That is its own estimator where it was trained with one (method = "triplet"); else deblurring and reblurring.

    Args:
        path: The folder.
        tiling: How large images go through the networks, and on which device.
        network: As for `jdrl.checkpoints.checkpoint.load_network`.

    Raises:
        CheckpointError: Missing, malformed, or it has no reblurring network.
        InputError: CUDA was asked for and there is none.
    """
    folder = locate(path)
    header = read_header(folder)
    trained = deblurrer.of_checkpoint(folder, network)
    device = device_name(tiling.device)
    alone = blur_estimator.estimator_of(trained.network)
    if alone is not None:
        tile, overlap = tiles.tiling(alone.to(device), tiling)
        estimate = partial(radius_at_sight, alone, tile=tile, overlap=overlap)
        return BlurMapper(trained.encoding, alone.largest_px, estimate)
    built = trained.network.to(device)
    tile, overlap = tiles.tiling(built, tiling)
    reblur_network = load_reblur_network(folder, header).to(device)
    estimate = partial(radius_by_reblurring, built, reblur_network, tile=tile, overlap=overlap)
    return BlurMapper(trained.encoding, reblur_network.radius_px, estimate)


def load_reblur_network(folder: Path, header: Header) -> ReblurNetwork:
    """The reblurring network of a checkpoint, in evaluation mode on the CPU; nothing else of it is read.

    Raises:
        CheckpointError: It has none, or one that does not fit its header.
    """
    known = {key: header.config[key] for key in _KEYS if key in header.config}
    weights = read_part(folder / TRAINING, "reblur")
    if not weights:
        raise CheckpointError(f"{folder} holds no reblurring network", hint="take a checkpoint of `sdd train`")
    try:
        config = validate(TrainConfig, known, where=str(folder / HEADER))
        # Without memory first: a header may name a network of any size, the weights are as large as their file.
        with torch.device("meta"):
            fitting(reblur_network_of(config), weights)
    except (ConfigError, RuntimeError) as error:
        what = error.what if isinstance(error, ConfigError) else f"{folder / HEADER}: {error}"
        raise CheckpointError(what, hint="take another checkpoint of the run, or train again") from error
    network = reblur_network_of(config)
    load_published(network, weights)
    return network.eval()


def radius_by_reblurring(
    network: nn.Module, reblur_network: ReblurNetwork, image: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """The radius of the kernels that turn the deblurred image into the image again.

    Args:
        network: Deblurs; in evaluation mode.
        reblur_network: On the same device.
        image: (3, H, W) in [0, 1], on the CPU.
        tile: As for `jdrl.inference.deblur.deblur`.
        overlap: As for `jdrl.inference.deblur.deblur`.

    Returns:
        (H, W) pixels, float32, on the CPU.

    Raises:
        InputError: A tile does not fit into memory.
    """
    return kernel_radius(
        reblur_network, deblur(network, image, tile=tile, overlap=overlap), image, tile=tile, overlap=overlap
    )


def radius_at_sight(estimator: blur_estimator.BlurEstimator, image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """What an estimator sees in an image, (3, H, W), alone; for the rest see `radius_by_reblurring`."""
    return _in_tiles(estimator, estimator.radius_px, (image,), blur_estimator.CELL_PX, tile, overlap)


def kernel_radius(
    reblur_network: ReblurNetwork, deblurred: Tensor, blurred: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """The radius of the kernels between two images, (3, H, W) each; for the rest see `radius_by_reblurring`."""

    def radius_px(*pieces: Tensor) -> Tensor:
        return coc_radius_px(reblur_network(*pieces), reblur_network.basis)

    return _in_tiles(reblur_network, radius_px, (deblurred, blurred), reblur_network.scale, tile, overlap)


@torch.inference_mode()
def _in_tiles(
    network: nn.Module,
    radius_px: Callable[..., Tensor],
    images: tuple[Tensor, ...],
    multiple: int,
    tile: int,
    overlap: int,
) -> Tensor:
    """(H, W) of what `radius_px` tells of tiles of the images, (3, H, W) each, on the device of its network."""
    device = next(network.parameters()).device
    height, width = images[0].shape[-2:]
    rows, columns = (spans(length, tile, overlap, multiple) for length in (height, width))
    total, weights = torch.zeros(height, width), torch.zeros(height, width)
    for top, bottom in rows:
        down = ramp(top, bottom, height, overlap)
        for left, right in columns:
            place = (..., slice(top, bottom), slice(left, right))
            radius = radius_px(*(image[None][place].to(device) for image in images))[0, 0].float().cpu()
            weight = down[:, None] * ramp(left, right, width, overlap)[None]
            total[place] += weight * radius
            weights[place] += weight
    return total / weights


def map_blur_of_files(
    mapper: BlurMapper, files: Sequence[Path], out: Path, *, track: Track = silent
) -> tuple[Report, tuple[Failure, ...]]:
    """Writes NAME_blurmap.tif (float32, pixels) and NAME_blurmap.png (in colours) for every photograph NAME.

    A bad file stops none of the others.

    Args:
        mapper: See `of_checkpoint`.
        files: RAW or PNG, TIFF, JPEG.
        out: Folder for the results.
        track: Shows progress.

    Returns:
        What was done, and the files that failed.
    """
    return each_file("blurmap", files, lambda path: out / f"{path.stem}_blurmap.tif", partial(map_file, mapper), track)


def map_file(mapper: BlurMapper, path: Path, target: Path) -> None:
    """One photograph from file to map, and the picture of the map beside it.

    Raises:
        RawError: The file is missing, damaged or of no known kind.
        InputError: The result cannot be written.
    """
    display = read_photograph(path).display
    values = srgb_decode(display) if mapper.encoding is Encoding.LINEAR16 else display
    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    radius_px = mapper.radius_px(image).numpy()
    write_values(target, radius_px)
    draw_blur_map(radius_px, mapper.largest_px, target.with_suffix(".png"))


def draw_blur_map(radius_px: NDArray[np.float32], largest_px: float, path: Path) -> None:
    """(H, W) radii in colours from 0 to `largest_px`, with a bar that names them, as a PNG."""
    height, width = radius_px.shape
    # No lower than the bar's label is long.
    tall = min(max(_PICTURE_WIDTH_IN * height / width, 2.5), 2 * _PICTURE_WIDTH_IN)
    figure = Figure(figsize=(_PICTURE_WIDTH_IN + 1.0, tall), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(radius_px, cmap="viridis", vmin=0, vmax=largest_px)
    axes.set_axis_off()
    figure.colorbar(picture, ax=axes, label="circle of confusion, radius in px")
    with replace_atomically(path) as partial_path:
        figure.savefig(partial_path, format="png", metadata={"Software": None})
