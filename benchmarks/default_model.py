"""Restoration by the network that ships: real pairs, virtual photographs with truth, and harm to sharp ones.

    python benchmarks/default_model.py --pairs ../shared/data/defocus_pairs --sharp ../shared/data/natural

`--pairs` holds NAME_blur.* beside NAME_sharp.*; `--sharp` photographs that are sharp everywhere. Real pairs are scored
aligned (the sharp frame is brought onto the blurred one once, whatever the output) with colours fitted, as they are
and after a Gaussian of 1 px on both, which takes the dithering of palettes out. Without a folder, dead leaves are the
sharp photographs. `--network` scores another checkpoint or run, `--plain` the network alone, without the choice of a
scale and the protection of what is sharp.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from capture.virtual.config import SimulateConfig
from capture.virtual.picture import picture_from_nearness, synthesise_nearness
from capture.virtual.render_pair import render_pair
from jdrl.checkpoints.arguments import default_checkpoint
from jdrl.checkpoints.deblurrer import of_checkpoint
from jdrl.flow.pyramid import pyramid_flow
from jdrl.flow.warping import in_bounds_mask, warp
from jdrl.inference.restoration import Restoration, restore_photograph
from jdrl.metrics.colour import fit_colours, match_colours
from jdrl.metrics.fidelity import psnr
from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.encoding import Encoding, encode, srgb_decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Restore = Callable[[Tensor], Tensor]

BORDER_PX = 16
LABEL_ROWS = {"dpdd": 40}
"""Rows of a text label at the top of published pictures, by the start of their names."""
SEED = 5
BINS_PX = (0.0, 0.6, 2.0, 4.0, 99.0)


@dataclass(frozen=True, slots=True)
class Gain:
    """PSNR of input and output, dB.

    Attributes:
        name: Of the picture.
        measure: What is compared.
        before: Of the input.
        after: Of the output.
    """

    name: str
    measure: str
    before: float
    after: float


def score_pair(name: str, blur: Tensor, sharp: Tensor, restore: Restore) -> Iterator[Gain]:
    """Scores one real pair: aligned, aligned and fitted, and both after a Gaussian of 1 px."""
    output = restore(blur)
    flow = pyramid_flow(blur, sharp)
    target, inside = warp(sharp, flow), in_bounds_mask(flow)
    inside = inside * _inner(inside)
    images = (blur, output)
    yield Gain(name, "aligned", *(float(psnr(image, target, inside)) for image in images))
    fitted = [match_colours(image, fit_colours(image, target, inside)) for image in images]
    yield Gain(name, "aligned, fitted", *(float(psnr(image, target, inside)) for image in fitted))
    soft = [_low_pass(image) for image in (*fitted, target)]
    yield Gain(name, "fitted, low-passed", *(float(psnr(image, soft[2], inside)) for image in soft[:2]))


def score_virtual(name: str, photograph: Tensor, number: int, restore: Restore) -> Iterator[Gain]:
    """Scores one photograph taken by the virtual camera with a wide aperture, against the truth, by radius of blur."""
    height, width = (side // 4 * 4 - 96 for side in photograph.shape[-2:])
    config = SimulateConfig(
        width=width, height=height, depth="ramp", vignetting=0.0, exposure_error_ev=0.0,
        max_shift_px=0.0, max_rotation_deg=0.0, iso=100,
    )  # fmt: skip
    linear = srgb_decode(photograph[0].permute(1, 2, 0).numpy())
    nearness = synthesise_nearness((linear.shape[0], linear.shape[1]), "ramp", np.random.default_rng([SEED, number]))
    pair = render_pair(config, "aperture", SEED, number, picture=picture_from_nearness(linear, nearness, config))
    blur, truth = (_to_display(light) for light in (pair.blur_linear, pair.truth.aligned))
    output = restore(blur)
    inside = _inner(blur)
    yield Gain(name, "virtual", *(float(psnr(image, truth, inside)) for image in (blur, output)))
    radius = torch.from_numpy(pair.truth.coc_px)[None, None]
    for low, high in pairwise(BINS_PX):
        mask = inside * ((radius >= low) & (radius < high))
        if mask.mean() > 0.02:
            measure = f"virtual, {low:g}-{high:g} px" if high < 99 else f"virtual, over {low:g} px"
            yield Gain(name, measure, *(float(psnr(image, truth, mask)) for image in (blur, output)))


def _to_display(linear: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    codes = encode(np.clip(linear, 0, 1), Encoding.SRGB8)
    return torch.from_numpy(codes.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None].contiguous()


def _inner(image: Tensor) -> Tensor:
    mask = torch.zeros_like(image[:, :1])
    mask[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = 1
    return mask


def _low_pass(image: Tensor) -> Tensor:
    line = torch.exp(-(torch.arange(-4, 5, dtype=image.dtype) ** 2) / 2)
    line = line / line.sum()
    kernel = (line[:, None] * line)[None, None].repeat(3, 1, 1, 1)
    return F.conv2d(F.pad(image, (4, 4, 4, 4), mode="reflect"), kernel, groups=3)


def _read(path: Path) -> Tensor:
    codes = read_image(path)
    rows = next((rows for start, rows in LABEL_ROWS.items() if path.name.startswith(start)), 0)
    image = codes[rows:].astype(np.float32) / np.float32(np.iinfo(codes.dtype).max)
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def load_restore(network: str | None, *, plain: bool) -> Restore:
    """The network as a function from (1, 3, H, W) sRGB in [0, 1] to the same, rounded to 8 bits."""
    loaded = of_checkpoint(default_checkpoint() if network is None else Path(network)).network
    restoration = Restoration(0, 0, scale="1" if plain else "auto", everywhere=plain)

    def restore(image: Tensor) -> Tensor:
        return (restore_photograph(loaded, image[0], restoration)[None] * 255).round() / 255

    return restore


def find_sharp(folder: Path | None) -> list[tuple[str, Tensor]]:
    """Name and pixels of the sharp photographs; two scenes of dead leaves if there is no folder."""
    if folder is not None:
        return [(path.stem, _read(path)) for path in sorted(folder.glob("*.png"))]
    config = SimulateConfig(width=512, height=384, vignetting=0.0, exposure_error_ev=0.0)
    return [
        (f"leaves_{number}", _to_display(render_pair(config, "focus", SEED, number).truth.aligned))
        for number in range(2)
    ]


def find_pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Name, blurred and sharp file of each pair."""
    pairs = []
    for sharp in sorted(folder.glob("*_sharp.*")):
        name = sharp.stem.removesuffix("_sharp")
        blur = next(iter(sorted(folder.glob(f"{name}_blur.*"))), None)
        if blur is not None:
            pairs.append((name, blur, sharp))
    return pairs


def main() -> None:
    """Prints a row a picture, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--sharp", type=Path)
    parser.add_argument("--network")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="Only the means.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    restore = load_restore(options.network, plain=options.plain)
    gains: list[Gain] = []
    for name, blur, sharp in find_pairs(options.pairs) if options.pairs else ():
        gains += score_pair(name, _read(blur), _read(sharp), restore)
    kept = []
    for number, (name, image) in enumerate(find_sharp(options.sharp)):
        kept.append((name, float(psnr(restore(image), image, _inner(image)))))
        if number % 3 == 0:
            gains += score_virtual(name, image, number, restore)
    if not options.quiet:
        for gain in gains:
            print(
                f"{gain.name:12} {gain.measure:22} {gain.before:6.2f} {gain.after:6.2f} {gain.after - gain.before:+.2f}"
            )
        print("sharp to itself:", ", ".join(f"{name} {value:.1f}" for name, value in kept))
    for measure in dict.fromkeys(gain.measure for gain in gains):
        group = [gain for gain in gains if gain.measure == measure]
        before, after = (float(np.mean([getattr(gain, side) for gain in group])) for side in ("before", "after"))
        better = sum(gain.after > gain.before for gain in group)
        print(f"{measure:22} {before:6.2f} -> {after:6.2f} ({after - before:+.2f} dB), better {better} of {len(group)}")
    if kept:
        print(f"{'worst sharp to itself':24}{min(value for _, value in kept):.1f} dB, of {len(kept)}")


if __name__ == "__main__":
    main()
