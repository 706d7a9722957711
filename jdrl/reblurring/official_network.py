"""Converts the published code's seven softmax kernels a pixel to weights of the `official` basis: the same blur.

For R = 1 … 7 that code has R + 1 radial values p_0 … p_R. Offset o gets the logit |p| at |o|, linear between whole
radii, and 0 beyond R; the softmax over the (2R + 1)² square is the kernel k_R. Eight mixing weights w, a softmax as
well, give w_0 D + Σ_R w_R (k_R * D). All offsets of one length share a logit, so the sum is one over 24 rings and seven
times the corners beyond a disc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

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
    rings, corners, start = [mix[:, :1]], [], 0
    for radius in range(1, OFFICIAL_RADIUS_PX + 1):
        values = profiles[:, start : start + radius + 1].abs()
        profile = _profile(radius, values.dtype, values.device)
        logits = torch.lerp(values[:, profile.low], values[:, profile.high], profile.share)
        counted = torch.cat([logits + profile.log_inside, torch.full_like(values[:, :1], profile.log_beyond)], 1)
        shares = mix[:, radius : radius + 1] * counted.softmax(1)
        rings.append(shares[:, :-1])
        corners.append(shares[:, -1:])
        start += radius + 1
    count = max(ring.shape[1] for ring in rings)
    padded = [F.pad(ring, (0, 0, 0, 0, 0, count - ring.shape[1])) for ring in rings]
    return torch.cat([torch.stack(padded).sum(0), *corners], 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Profile:
    """How the logits of the rings |o| ≤ R follow from the values at whole radii.

    Attributes:
        low: (rings,) index of the whole radius below |o|.
        high: (rings,) index of the one above.
        share: (rings, 1, 1) weight of the latter.
        log_inside: (rings, 1, 1) log of the offsets in a ring: n equal entries of a softmax add log n to their logit.
        log_beyond: The same for the offsets of the square beyond R.
    """

    low: Tensor
    high: Tensor
    share: Tensor
    log_inside: Tensor
    log_beyond: float


@cache
@torch.inference_mode(False)
def _profile(radius: int, dtype: torch.dtype, device: torch.device) -> _Profile:
    """On the device, once: a copy in every step would wait for all that the device has still to do."""
    squared = squared_distance(OFFICIAL_RADIUS_PX)
    lengths = [length for length in ring_lengths_px2(OFFICIAL_RADIUS_PX) if length <= radius**2]
    inside = torch.tensor([int((squared == length).sum()) for length in lengths], device="cpu")
    distances = torch.tensor(lengths, dtype=torch.float64, device="cpu").sqrt()
    low = distances.floor().long()
    share = (distances - low).to(dtype)
    return _Profile(
        low=low.to(device),
        high=(low + 1).clamp(max=radius).to(device),
        share=share.to(device).view(-1, 1, 1),
        log_inside=inside.to(dtype).log().to(device).view(-1, 1, 1),
        log_beyond=math.log((2 * radius + 1) ** 2 - int(inside.sum())),
    )
