"""`sdd blurmap`: maps of the circle of confusion of photographs, pixel by pixel.

A checkpoint's two networks estimate it: D = F(B), and the kernels that turn D into B have a radius. Without texture the
radius cannot be measured and the map continues its surroundings. Along the outline of a foreground object, whose blur
overlaps the background, no kernel fits, and the error is some pixels.
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
from torch.nn import functional as F

from jdrl.checkpoints import deblurrer
from jdrl.checkpoints.checkpoint import HEADER, TRAINING, CheckpointHeader, locate, read_header, read_part
from jdrl.config import TrainConfig
from jdrl.device import resolve_device
from jdrl.image_checks import check_same_shape, colour_image
from jdrl.inference import local_blur, tiles
from jdrl.inference.deblur import FailedFile, deblur, process_files, read_photograph
from jdrl.inference.local_blur import estimate_blur_map
from jdrl.inference.tiles import blend_weights, tile_spans
from jdrl.networks import load_published, match_weights
from jdrl.reblurring import blur_estimator
from jdrl.reblurring.network import ReblurNetwork, build_reblur_network
from jdrl.reblurring.reblur import coc_radius_px
from sdd_toolkit.config import validate
from sdd_toolkit.errors import CheckpointError, ConfigError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.frames.writing import write_values
from sdd_toolkit.imaging.encoding import Encoding, srgb_decode
from sdd_toolkit.records import Report
from sdd_toolkit.storage.files import replace_atomically
from sdd_toolkit.storage.targets import check_targets

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
    """Estimates the blur map of an image.

    Attributes:
        encoding: Of the images it was trained on.
        max_radius_px: The largest radius it can express.
        estimate_radius_px: (3, H, W) in [0, 1] → (H, W) circle-of-confusion radius in pixels, float32, both on the CPU.
    """

    encoding: Encoding
    max_radius_px: int
    estimate_radius_px: Callable[[Tensor], Tensor]


def load_blur_mapper(path: Path, tiling: Tiling, network: str | None = None) -> BlurMapper:
    """Loads the blur mapper of a checkpoint or of a training run.

    It uses the checkpoint's blur estimator where there is one (method = "triplet"), else deblurring and reblurring.

    Args:
        path: The folder.
        tiling: Tiles of large images, and the device.
        network: As for `jdrl.checkpoints.checkpoint.load_network`.

    Raises:
        CheckpointError: The checkpoint is missing or malformed, or has no reblurring network.
        InputError: `device = "cuda"` without a CUDA device.
    """
    folder = locate(path)
    header = read_header(folder)
    trained = deblurrer.of_checkpoint(folder, network)
    device = resolve_device(tiling.device)
    estimator = blur_estimator.find_estimator(trained.network)
    if estimator is not None:
        tile, overlap = tiles.choose_tiling(estimator.to(device), tiling)
        estimate = partial(radius_by_estimator, estimator, tile=tile, overlap=overlap)
        return BlurMapper(trained.encoding, estimator.max_radius_px, estimate)
    deblurring = trained.network.to(device)
    tile, overlap = tiles.choose_tiling(deblurring, tiling)
    reblur_network = load_reblur_network(folder, header).to(device)
    estimate = partial(radius_by_reblurring, deblurring, reblur_network, tile=tile, overlap=overlap)
    return BlurMapper(trained.encoding, reblur_network.radius_px, estimate)


def load_reblur_network(folder: Path, header: CheckpointHeader) -> ReblurNetwork:
    """Loads only the reblurring network of a checkpoint, in evaluation mode on the CPU.

    Raises:
        CheckpointError: There is none, or it does not fit the header.
    """
    options = {key: header.config[key] for key in _KEYS if key in header.config}
    # A checkpoint in one file holds the deblurring network alone.
    weights = {} if folder.is_file() else read_part(folder / TRAINING, "reblur")
    if not weights:
        raise CheckpointError(f"{folder} holds no reblurring network", hint="take a checkpoint of `sdd train`")
    try:
        config = validate(TrainConfig, options, where=str(folder / HEADER))
        # On the meta device first: a header may name a network of any size, weights are as large as their file.
        with torch.device("meta"):
            match_weights(build_reblur_network(config), weights)
    except (ConfigError, RuntimeError) as error:
        what = error.what if isinstance(error, ConfigError) else f"{folder / HEADER}: {error}"
        raise CheckpointError(what, hint="take another checkpoint of the run, or train again") from error
    network = build_reblur_network(config)
    load_published(network, weights)
    return network.eval()


def radius_by_reblurring(
    network: nn.Module, reblur_network: ReblurNetwork, image: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """The radius of the kernels that reblur the deblurred image to the image.

    Args:
        network: Deblurring network in evaluation mode.
        reblur_network: On the same device.
        image: (3, H, W) in [0, 1], on the CPU; uint8 and uint16 are scaled.
        tile: As for `jdrl.inference.deblur.deblur`.
        overlap: As for `jdrl.inference.deblur.deblur`.

    Returns:
        (H, W) pixels, float32, on the CPU.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: It is not (3, H, W), or holds values that are not finite or not about [0, 1].
        InputError: A tile does not fit into memory.
    """
    return kernel_radius(
        reblur_network, deblur(network, image, tile=tile, overlap=overlap), image, tile=tile, overlap=overlap
    )


def radius_by_estimator(estimator: blur_estimator.BlurEstimator, image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """The radius that an estimator predicts from an image, (3, H, W); otherwise as `radius_by_reblurring`."""
    return _radius_in_tiles(estimator, estimator.estimate_radius_px, (image,), blur_estimator.CELL_PX, tile, overlap)


def kernel_radius(
    reblur_network: ReblurNetwork, deblurred: Tensor, blurred: Tensor, *, tile: int, overlap: int
) -> Tensor:
    """The radius of the kernels between two images, (3, H, W) each; otherwise as `radius_by_reblurring`."""

    def radius_px(*pieces: Tensor) -> Tensor:
        return coc_radius_px(reblur_network(*pieces), reblur_network.basis)

    return _radius_in_tiles(reblur_network, radius_px, (deblurred, blurred), reblur_network.scale, tile, overlap)


@torch.inference_mode()
def _radius_in_tiles(
    network: nn.Module,
    estimate_radius_px: Callable[..., Tensor],
    images: tuple[Tensor, ...],
    multiple: int,
    tile: int,
    overlap: int,
) -> Tensor:
    """Blends `estimate_radius_px` of tiles of the images, (3, H, W) each, on the network's device, to (H, W)."""
    images = tuple(colour_image(image, "image") for image in images)
    check_same_shape(images[0], images[-1])
    device = next(network.parameters()).device
    height, width = images[0].shape[-2:]
    rows, columns = (tile_spans(length, tile, overlap, multiple) for length in (height, width))
    total, weights = torch.zeros(height, width), torch.zeros(height, width)
    for top, bottom in rows:
        down = blend_weights(top, bottom, height, overlap)
        for left, right in columns:
            window = (..., slice(top, bottom), slice(left, right))
            radius = estimate_radius_px(*(image[None][window].to(device) for image in images))[0, 0].float().cpu()
            weight = down[:, None] * blend_weights(left, right, width, overlap)[None]
            total[window] += weight * radius
            weights[window] += weight
    return total / weights


def map_blur_of_files(
    mapper: BlurMapper, files: Sequence[Path], out: Path, *, overwrite: bool = False, track: Track = silent
) -> tuple[Report, tuple[FailedFile, ...]]:
    """Writes NAME_blurmap.tif (float32, pixels) and NAME_blurmap.png (in colours) for every photograph NAME.

    A bad file does not stop the others.

    Args:
        mapper: See `of_checkpoint`.
        files: RAW or PNG, TIFF, JPEG.
        out: Folder for the results.
        overwrite: Whether existing files that are none of `files` are replaced.
        track: Shows progress.

    Returns:
        The report, and the files that failed.

    Raises:
        InputError: A file lies at the path of a result; nothing was written.
    """
    targets = {path: out / f"{path.stem}_blurmap.tif" for path in files}
    check_targets(
        [file for path in files for file in (targets[path], targets[path].with_suffix(".png"))],
        files,
        overwrite=overwrite,
    )
    return process_files("blurmap", files, targets.__getitem__, partial(map_blur_of_file, mapper), track)


def map_blur_of_file(mapper: BlurMapper, path: Path, target: Path) -> None:
    """Maps the blur of one photograph and writes the map, and a picture of the map beside it.

    Raises:
        RawError: The file is missing, damaged or of an unknown format.
        InputError: The result cannot be written.
    """
    display = read_photograph(path).display
    values = srgb_decode(display) if mapper.encoding is Encoding.LINEAR16 else display
    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
    radius_px = mapper.estimate_radius_px(image).numpy()
    write_values(target, radius_px)
    draw_blur_map(radius_px, mapper.max_radius_px, target.with_suffix(".png"))


def _estimate_without_network(image: Tensor) -> Tensor:
    """(3, H, W) to (H, W) radii of `local_blur`; 0 where the image holds no texture at all."""
    height, width = image.shape[-2:]
    cells = estimate_blur_map(image.permute(1, 2, 0).numpy())
    if cells is None:
        return torch.zeros(height, width)
    full = F.interpolate(torch.from_numpy(cells)[None, None], scale_factor=local_blur.CELL_PX, mode="bilinear")
    return full[0, 0, :height, :width]


WITHOUT_NETWORK = BlurMapper(Encoding.SRGB16, round(local_blur.LARGEST_RADIUS_PX), _estimate_without_network)
"""The coarse map by which `sdd deblur` chooses its scales."""


def draw_blur_map(radius_px: NDArray[np.float32], max_radius_px: float, path: Path) -> None:
    """Draws (H, W) radii in colours from 0 to `max_radius_px`, with a colour bar, as a PNG."""
    height, width = radius_px.shape
    # At least as high as the bar's label is long.
    height_in = min(max(_PICTURE_WIDTH_IN * height / width, 2.5), 2 * _PICTURE_WIDTH_IN)
    figure = Figure(figsize=(_PICTURE_WIDTH_IN + 1.0, height_in), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(radius_px, cmap="viridis", vmin=0, vmax=max_radius_px)
    axes.set_axis_off()
    figure.colorbar(picture, ax=axes, label="circle of confusion, radius in px")
    with replace_atomically(path) as partial_path:
        figure.savefig(partial_path, format="png", metadata={"Software": None})
