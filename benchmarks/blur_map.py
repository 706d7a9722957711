"""The circle of confusion that a reblurring network tells, against the virtual camera's truth.

`python benchmarks/blur_map.py [--pairs 24] [--steps 2000] [--picture FILE]` trains one small reblurring network a basis
on (warped sharp, blurred) crops of virtual pairs, never seeing a radius, and prints the error of its radius on other
pairs, where there is texture: nothing tells the blur of a flat place. Beside it the best that one radius can do.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from torch import Tensor

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import RenderedPair, render_pair
from jdrl.config import BasisName
from jdrl.inference.blur_map import kernel_radius
from jdrl.losses.joint import charbonnier
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.reblur import reblur
from sdd_toolkit.imaging.encoding import srgb_encode

BASES: tuple[BasisName, ...] = ("hats", "discs", "rings", "official")
RADIUS_PX = 7
# Brightness changes by this much a pixel, on average over a window, where there is texture.
TEXTURE, WINDOW_PX = 0.02, 15
NOISE = 0.004
BORDER_PX = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """A virtual pair, aligned by its truth.

    Attributes:
        blurred: (3, H, W) sRGB in [0, 1].
        sharp: (3, H, W), the sharp frame brought onto the blurred one.
        seen: (1, H, W), 1 where the sharp frame shows what the blurred one does.
        radius_px: (H, W), the truth.
        textured: (H, W) bool, where the radius is judged.
    """

    blurred: Tensor
    sharp: Tensor
    seen: Tensor
    radius_px: Tensor
    textured: Tensor


def shoot(seed: int, count: int, size: tuple[int, int]) -> list[Pair]:
    """`count` focus pairs of `size` (height, width); both frames get a little noise."""
    config = SimulateConfig(
        width=size[1], height=size[0], max_coc_px=6.0, min_coc_px=2.0, vignetting=0.0, exposure_error_ev=0.0
    )
    return [align_pair(render_pair(config, "focus", seed, index), seed + index) for index in range(count)]


def align_pair(pair: RenderedPair, seed: int) -> Pair:
    truth, draw = pair.truth, np.random.default_rng(seed)
    rows, columns = np.indices(truth.coc_px.shape, dtype=np.float32)
    x, y = columns + truth.displacement[..., 0], rows + truth.displacement[..., 1]
    sharp = cv2.remap(pair.sharp_linear, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    frames = [srgb_encode(np.clip(frame, 0, 1)) for frame in (pair.blur_linear, sharp)]
    noisy = [np.clip(frame + draw.normal(0, NOISE, frame.shape), 0, 1).astype(np.float32) for frame in frames]
    grey = srgb_encode(np.clip(truth.aligned, 0, 1)).mean(2)
    slope = np.hypot(*np.gradient(grey))
    texture = cv2.blur(slope, (WINDOW_PX, WINDOW_PX)) >= TEXTURE
    inside = np.zeros_like(texture)
    inside[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    blurred, brought = (torch.from_numpy(frame.transpose(2, 0, 1).copy()) for frame in noisy)
    return Pair(
        blurred,
        brought,
        torch.from_numpy(~truth.occlusion)[None].float(),
        torch.from_numpy(truth.coc_px),
        torch.from_numpy(texture & inside & ~truth.occlusion),
    )


def train_network(
    pairs: list[Pair],
    basis: BasisName,
    *,
    steps: int,
    width: int = 16,
    scale: int = 2,
    crop: int = 64,
    batch: int = 2,
    rate: float = 2e-3,
) -> ReblurNetwork:
    """A reblurring network after `steps` of reblurring the sharp crops into the blurred ones."""
    torch.manual_seed(0)
    network = ReblurNetwork(RADIUS_PX, width, basis=basis, scale=scale)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.9), weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        blurred, sharp, seen = (torch.stack(parts) for parts in zip(*crops(pairs, crop, batch, draw), strict=True))
        charbonnier(reblur(sharp, network(sharp, blurred), basis), blurred, seen).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return network.eval()


def crops(pairs: list[Pair], crop: int, batch: int, draw: np.random.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
    found = []
    for _ in range(batch):
        pair = pairs[int(draw.integers(len(pairs)))]
        top, left = (int(draw.integers(length - crop + 1)) for length in pair.radius_px.shape)
        window = (..., slice(top, top + crop), slice(left, left + crop))
        found.append((pair.blurred[window], pair.sharp[window], pair.seen[window]))
    return found


def radius_map(network: ReblurNetwork, pair: Pair) -> Tensor:
    return kernel_radius(network, pair.sharp, pair.blurred, tile=0, overlap=0)


def errors_px(network: ReblurNetwork, pairs: list[Pair]) -> Tensor:
    """Told minus true radius of every textured pixel."""
    return torch.cat([(radius_map(network, pair) - pair.radius_px)[pair.textured] for pair in pairs])


def draw_picture(network: ReblurNetwork, pair: Pair, path: Path) -> None:
    """Blurred frame, true radius, predicted radius, their difference in textured places."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    predicted = radius_map(network, pair)
    figure = Figure(figsize=(13, 7), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    (first, second), (third, fourth) = figure.subplots(2, 2)
    first.imshow(pair.blurred.permute(1, 2, 0))
    for axes, image, title in ((second, pair.radius_px, "true radius, px"), (third, predicted, "predicted radius, px")):
        figure.colorbar(axes.imshow(image, vmin=0, vmax=RADIUS_PX), ax=axes)
        axes.set_title(title)
    wrong = torch.where(pair.textured, predicted - pair.radius_px, torch.nan)
    figure.colorbar(fourth.imshow(wrong, cmap="RdBu", vmin=-2, vmax=2), ax=fourth)
    fourth.set_title("predicted - true, px, where there is texture")
    for axes in (first, second, third, fourth):
        axes.set_axis_off()
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24, help="to train on; a third as many are judged")
    parser.add_argument("--size", default="324x216", help="WxH of the frames")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=16, help="channels of the network")
    parser.add_argument("--scale", type=int, default=2, choices=(2, 4))
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES), metavar="BASIS")
    parser.add_argument("--picture", type=Path, help="where to draw a judged pair, by the first basis")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    seen = shoot(1, options.pairs, (height, width))
    unseen = shoot(2, max(1, options.pairs // 3), (height, width))
    truth = torch.cat([pair.radius_px[pair.textured] for pair in unseen])
    share = float(torch.stack([pair.textured.float().mean() for pair in unseen]).mean())
    print(f"{len(unseen)} unseen pairs of {options.size}, {share:.0%} of the pixels textured; {options.steps} steps")
    print(f"{'':24s}{'median |error| px':>18s}{'90 % below px':>15s}{'median error px':>17s}{'CPU s':>8s}")
    print(row("one radius for all", truth.median() - truth, 0.0))
    for basis in options.bases:
        started = time.process_time()
        network = train_network(seen, basis, steps=options.steps, width=options.width, scale=options.scale)
        print(row(basis, errors_px(network, unseen), time.process_time() - started), flush=True)
        if options.picture is not None and basis == options.bases[0]:
            draw_picture(network, unseen[0], options.picture)


def row(name: str, errors: Tensor, spent_s: float) -> str:
    size = errors.abs()
    ninth = float(np.quantile(size.numpy(), 0.9))
    return f"{name:24s}{float(size.median()):18.2f}{ninth:15.2f}{float(errors.median()):17.2f}{spent_s:8.0f}"


if __name__ == "__main__":
    main()
