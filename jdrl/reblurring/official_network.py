"""Converts the published code's seven softmax kernels a pixel to weights of the `official` basis: the same blur.

For R = 1 … 7 that code has R + 1 radial values p_0 … p_R. Offset o gets the logit |p| at |o|, linear between whole
radii, and 0 beyond R; the softmax over the (2R + 1)² square is the kernel k_R. Eight mixing weights w, a softmax as
well, give w_0 D + Σ_R w_R (k_R * D). All offsets of one length share a logit, so the sum is one over 24 rings and seven
times the corners beyond a disc.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.reblurring.kernel_basis import OFFICIAL_RADIUS_PX, ring_lengths_px2, squared_distance

PROFILE_MAPS = sum(radius + 1 for radius in range(1, OFFICIAL_RADIUS_PX + 1))
MIXING_MAPS = OFFICIAL_RADIUS_PX + 1


def official_weights(profiles: Tensor, mixing: Tensor) -> Tensor:
    """Converts the maps of the published network to weights for `reblur(…, basis="official")`.

    Args:
        profiles: (B, 35, H, W), p_0, p_1 of R = 1, p_0 … p_2 of R = 2, … p_0 … p_7 of R = 7; signs are ignored.
        mixing: (B, 8, H, W) logits of the identity and of R = 1 … 7.

    Returns:
        (B, 31, H, W), non-negative, summing to one over dim 1.
    """
    mix = mixing.softmax(1)
    lengths = ring_lengths_px2(OFFICIAL_RADIUS_PX)
    squared = squared_distance(OFFICIAL_RADIUS_PX)
    points = torch.tensor([int((squared == length).sum()) for length in lengths])
    rings, corners, start = [mix[:, :1]], [], 0
    for radius in range(1, OFFICIAL_RADIUS_PX + 1):
        values = profiles[:, start : start + radius + 1].abs()
        distances = [math.sqrt(length) for length in lengths if length <= radius**2]
        low = torch.tensor([math.floor(distance) for distance in distances])
        share = torch.tensor(distances, dtype=torch.float64) - low
        inside = points[: len(distances)]
        beyond = (2 * radius + 1) ** 2 - int(inside.sum())
        logits = torch.lerp(values[:, low], values[:, (low + 1).clamp(max=radius)], share.to(values).view(-1, 1, 1))
        # The softmax over the square with equal entries joined: n equal ones add log n to their logit.
        counted = logits + inside.to(values).log().view(-1, 1, 1)
        corner = torch.full_like(values[:, :1], math.log(beyond))
        shares = mix[:, radius : radius + 1] * torch.cat([counted, corner], 1).softmax(1)
        rings.append(shares[:, :-1])
        corners.append(shares[:, -1:])
        start += radius + 1
    padded = [F.pad(ring, (0, 0, 0, 0, 0, len(lengths) - ring.shape[1])) for ring in rings]
    return torch.cat([torch.stack(padded).sum(0), *corners], 1)
