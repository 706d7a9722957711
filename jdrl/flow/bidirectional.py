"""The deblurred and the sharp crop brought onto each other: flow both ways, where to trust it, the warped target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from jdrl.flow.masks import consistency_mask, official_mask, photometric_mask
from jdrl.flow.warping import composed, in_bounds, inverse, warp

if TYPE_CHECKING:
    from jdrl.flow.estimators import FlowEstimator

MaskName = Literal["consistency", "official", "none"]

ALL_REAL = 0.999  # a sample counts if this share of its weight lies on real content


@dataclass(frozen=True, slots=True)
class Deformation:
    """What the joint phase compares, D the deblurred crop and S the sharp one. Nothing carries a gradient.

    Attributes:
        to_sharp: (B, 2, H, W) u[D→S], pixels, on D's grid.
        target: (B, 3, H, W) W(S, u[D→S]), on D's grid.
        target_mask: (B, 1, H, W) where D may be compared with it.
        to_deblurred: (B, 2, H, W) u[S→D], pixels, on S's grid.
        sharp: (B, 3, H, W) S without its margin.
        sharp_mask: (B, 1, H, W) where S may be compared with W(D, u[S→D]).
    """

    to_sharp: Tensor
    target: Tensor
    target_mask: Tensor
    to_deblurred: Tensor
    sharp: Tensor
    sharp_mask: Tensor


@torch.no_grad()
def deform_bidirectionally(
    deblurred: Tensor,
    sharp: Tensor,
    valid: Tensor,
    sharp_valid: Tensor,
    estimate_flow: FlowEstimator,
    *,
    stored_flow: Tensor | None = None,
    mask: MaskName = "consistency",
    official_warp: bool = False,
) -> Deformation:
    """Estimates the flow between D and S both ways and warps.

    With a stored field v[B→S] only what it leaves is estimated: r[D→S'] and r[S'→D] between D and S' = W(S, v). Then
    u[D→S] = v after r, and u[S→D] = r[S'→D] after v⁻¹; S is still sampled once.

    Args:
        deblurred: (B, 3, H, W) D in [0, 1], in B's geometry.
        sharp: (B, 3, H + 2M, W + 2M) S in [0, 1], reaching M px beyond the window of D on each side.
        valid: (B, 1, H, W) 1 where B holds real content.
        sharp_valid: (B, 1, H + 2M, W + 2M) 1 where S does.
        estimate_flow: From `jdrl.flow.estimators.flow_estimator`.
        stored_flow: (B, 2, H, W) v[B→S], pixels; None: there is none, all is estimated.
        mask: `consistency` (flow there and back, and a photometric check), `official` (the published code's) or
            `none`; whatever has no real content is left out by all three.
        official_warp: See `jdrl.flow.warping.warp`.
    """
    height, width = deblurred.shape[-2:]
    margin = (sharp.shape[-1] - width) // 2
    window = (..., slice(margin, margin + height), slice(margin, margin + width))
    centre = sharp[window]
    near = centre if stored_flow is None else warp(sharp, stored_flow, margin_px=margin)
    # Both directions in one batch: an estimator's cost is mostly its many small operations.
    there, back = estimate_flow(torch.cat([deblurred, near]), torch.cat([near, deblurred])).chunk(2)
    to_sharp, to_deblurred = there, back
    if stored_flow is not None:
        to_sharp, to_deblurred = composed(there, stored_flow), composed(inverse(stored_flow), back)
    sampled = warp(torch.cat([sharp, sharp_valid], 1), to_sharp, margin_px=margin, official=official_warp)
    target, sharp_content = sampled[:, :3], sampled[:, 3:]
    sampled = warp(torch.cat([deblurred, valid], 1), to_deblurred, official=official_warp)
    moved, content = sampled[:, :3], sampled[:, 3:]
    target_mask = valid * (sharp_content > ALL_REAL) * in_bounds(to_sharp, -margin)
    sharp_mask = sharp_valid[window] * (content > ALL_REAL) * in_bounds(to_deblurred)
    if mask == "consistency":
        # Of what was estimated: the way back of a point beyond the crop is known for no other field.
        target_mask = target_mask * consistency_mask(there, back)
        sharp_mask = sharp_mask * consistency_mask(to_deblurred, to_sharp)
        first, second = torch.cat([deblurred, centre]), torch.cat([target, moved])
        alike = photometric_mask(first, second, torch.cat([target_mask, sharp_mask]))
        target_mask, sharp_mask = target_mask * alike.chunk(2)[0], sharp_mask * alike.chunk(2)[1]
    elif mask == "official":
        target_mask, sharp_mask = target_mask * official_mask(to_sharp), sharp_mask * official_mask(to_deblurred)
    return Deformation(to_sharp, target, target_mask, to_deblurred, centre, sharp_mask)
