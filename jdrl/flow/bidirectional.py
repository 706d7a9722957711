"""Bidirectional deformation of the deblurred and the sharp crop: flow both ways, validity masks, warped target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from jdrl.flow.masks import agreement_mask, consistency_mask, official_mask, photometric_mask
from jdrl.flow.warping import compose_flows, in_bounds_mask, invert_flow, warp

if TYPE_CHECKING:
    from jdrl.flow.estimators import FlowEstimator

MaskName = Literal["consistency", "official", "none"]

ALL_REAL = 0.999  # share of a sample's interpolation weight that must lie on real content


@dataclass(frozen=True, slots=True)
class Deformation:
    """The images and masks that the joint phase compares; D is the deblurred crop, S the sharp one. Without gradients.

    Attributes:
        to_sharp: (B, 2, H, W) u[D→S], pixels, on D's grid.
        target: (B, 3, H, W) W(S, u[D→S]), on D's grid.
        target_mask: (B, 1, H, W) validity mask of D against the target.
        to_deblurred: (B, 2, H, W) u[S→D], pixels, on S's grid.
        sharp: (B, 3, H, W) S without its margin.
        sharp_mask: (B, 1, H, W) validity mask of S against W(D, u[S→D]).
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
    """Estimates the flow between D and S both ways and warps S onto D (JDRL, Li et al., AAAI 2023).

    With a stored flow v[B→S] only the residual is estimated: r[D→S'] and r[S'→D] between D and S' = W(S, v). Then
    u[D→S] = v ∘ r and u[S→D] = r[S'→D] ∘ v⁻¹; S is sampled only once.

    Args:
        deblurred: (B, 3, H, W) D in [0, 1], in B's geometry.
        sharp: (B, 3, H + 2M, W + 2M) S in [0, 1], extending M px beyond the window of D on each side.
        valid: (B, 1, H, W) 1 where B holds real content.
        sharp_valid: (B, 1, H + 2M, W + 2M) 1 where S does.
        estimate_flow: From `jdrl.flow.estimators.flow_estimator`.
        stored_flow: (B, 2, H, W) v[B→S], pixels; None: the whole flow is estimated.
        mask: `consistency` (forward-backward, photometric, and agreement with the crop's global motion), `official`
            (the published code's) or `none`; all three exclude pixels without real content.
        official_warp: See `jdrl.flow.warping.warp`.
    """
    height, width = deblurred.shape[-2:]
    margin = (sharp.shape[-1] - width) // 2
    window = (..., slice(margin, margin + height), slice(margin, margin + width))
    centre = sharp[window]
    prewarped = centre if stored_flow is None else warp(sharp, stored_flow, margin_px=margin)
    # Both directions in one batch: the cost of an estimator is mostly that of launching many small operations.
    forward, backward = estimate_flow(torch.cat([deblurred, prewarped]), torch.cat([prewarped, deblurred])).chunk(2)
    to_sharp, to_deblurred = forward, backward
    if stored_flow is not None:
        to_sharp, to_deblurred = compose_flows(forward, stored_flow), compose_flows(invert_flow(stored_flow), backward)
    warped = warp(torch.cat([sharp, sharp_valid], 1), to_sharp, margin_px=margin, official=official_warp)
    target, sharp_content = warped[:, :3], warped[:, 3:]
    warped = warp(torch.cat([deblurred, valid], 1), to_deblurred, official=official_warp)
    warped_deblurred, content = warped[:, :3], warped[:, 3:]
    target_mask = valid * (sharp_content > ALL_REAL) * in_bounds_mask(to_sharp, -margin)
    sharp_mask = sharp_valid[window] * (content > ALL_REAL) * in_bounds_mask(to_deblurred)
    if mask == "consistency":
        # Of the estimated flow: of the composed one the backward flow beyond the crop is unknown.
        target_mask = target_mask * consistency_mask(forward, backward)
        sharp_mask = sharp_mask * consistency_mask(to_deblurred, to_sharp)
        first, second = torch.cat([deblurred, centre]), torch.cat([target, warped_deblurred])
        photometric = photometric_mask(first, second, torch.cat([target_mask, sharp_mask])).chunk(2)
        masks = torch.cat([target_mask, sharp_mask]) * torch.cat(photometric)
        masks = masks * agreement_mask(torch.cat([forward, backward]), masks)
        target_mask, sharp_mask = masks.chunk(2)
    elif mask == "official":
        target_mask, sharp_mask = target_mask * official_mask(to_sharp), sharp_mask * official_mask(to_deblurred)
    return Deformation(to_sharp, target, target_mask, to_deblurred, centre, sharp_mask)
