"""Reblurring: our operator against the dense formulation of the official code, in one run.

`python benchmarks/reblur.py [--size 256] [--repeats 3]` prints seconds and bytes kept for the backward pass.

The rival builds, as the official code does, one kernel of each size 3, 5, … 15 per pixel from radial logits
(square corners included), gathers a stack of shifted images for each and mixes the seven results and the identity.
It is written here with whole-tensor operations, without the official loops, so it is faster than the original.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.reblur import reblur

RADIUS_PX = 7


def dense(image: Tensor, profiles: list[Tensor], mix: Tensor) -> Tensor:
    """Seven per-pixel kernels by softmax over the whole square, zero padding, then the mixture."""
    batch, channels, height, width = image.shape
    total = mix[:, :1] * image
    for radius, profile in enumerate(profiles, start=1):
        side = 2 * radius + 1
        offset = torch.arange(-radius, radius + 1, dtype=image.dtype)
        distance = (offset.view(-1, 1).square() + offset.square()).sqrt().flatten()
        low, high = distance.floor().clamp(max=radius).long(), distance.ceil().clamp(max=radius).long()
        share = (distance - distance.floor()).view(1, -1, 1, 1)
        logits = profile.abs()[:, low] * (1 - share) + profile.abs()[:, high] * share
        logits = logits * (distance <= radius).view(1, -1, 1, 1)
        kernels = logits.softmax(dim=1)
        stack = F.unfold(image, side, padding=radius).view(batch, channels, side * side, height, width)
        total = total + mix[:, radius : radius + 1] * (stack * kernels.unsqueeze(1)).sum(dim=2)
    return total


def kept_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps between forward and backward."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    del output
    return sum(storages.values())


def seconds(run: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """Median forward and backward time after one warm-up."""
    forward, backward = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        output = run()
        middle = time.perf_counter()
        output.sum().backward()
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
    return statistics.median(forward[1:]), statistics.median(backward[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    shape = (options.size, options.size)
    image = torch.rand(1, 3, *shape, requires_grad=True)
    weights = torch.randn(1, RADIUS_PX + 1, *shape).softmax(1).requires_grad_()
    profiles = [torch.randn(1, radius + 1, *shape, requires_grad=True) for radius in range(1, RADIUS_PX + 1)]
    rows = {
        "dense, official form": lambda: dense(image, profiles, weights),
        "hats, ours": lambda: reblur(image, weights),
    }
    print(f"1x3x{options.size}x{options.size}, R = {RADIUS_PX}, float32, {torch.get_num_threads()} threads")
    print(f"{'':22s}{'forward s':>12s}{'backward s':>12s}{'kept MB':>10s}")
    for name, run in rows.items():
        kept = kept_bytes(run) / 1e6
        there, back = seconds(run, options.repeats)
        print(f"{name:22s}{there:12.3f}{back:12.3f}{kept:10.1f}")


if __name__ == "__main__":
    main()
