"""Global motion: a polynomial fitted robustly to a flow field, of a crop or of a whole pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.flow.bidirectional import deform_bidirectionally
from jdrl.flow.polynomial import evaluate_polynomial, fit_polynomial
from jdrl.flow.pyramid import pyramid_flow

REGISTERED_SIDE_PX = 288  # shorter side, about, at which whole frames are registered
ROUNDS = 2  # the second one starts from the motion that the first has found
DEGREE = 2
TRUSTED = 0.5
AGREES_PX = 1.5  # at the reduced size
MIN_AGREEING = 0.2  # share of the frame that must be trusted and follow the motion


@dataclass(frozen=True, slots=True)
class GlobalMotion:
    """The motion of a whole frame as a polynomial of degree 2 in its coordinates.

    Attributes:
        size: (height, width) of the frame, pixels.
        coefficients: Of x and of y, pixels: of 1, X, Y, X², XY and Y², where X and Y run from -1 to 1 across the frame.
    """

    size: tuple[int, int]
    coefficients: tuple[tuple[float, ...], tuple[float, ...]]

    def flow(self, top: int, left: int, height: int, width: int) -> Tensor:
        """The flow u[blur→sharp] on a window of the frame, (1, 2, height, width), pixels."""
        window = evaluate_polynomial(torch.tensor([self.coefficients]), self.size, (top, left, height, width))
        return window.float()


@torch.no_grad()
def register_frames(blurred: Tensor, sharp: Tensor) -> GlobalMotion | None:
    """Estimates the global motion between two whole frames, at reduced size, by the weight-free flow.

    The whole frame is a far wider context than a crop: displacements of several per cent of its side are found.

    Args:
        blurred: (1, 3, H, W) in [0, 1].
        sharp: (1, 3, H, W) in [0, 1].

    Returns:
        The motion; None where less than a fifth of the frame agrees on one.
    """
    size = blurred.shape[-2], blurred.shape[-1]
    factor = max(1, round(min(size) / REGISTERED_SIDE_PX))
    small = [F.avg_pool2d(image, factor) for image in (blurred, sharp)]
    rows, columns = small[0].shape[-2:]
    content = torch.ones_like(small[0][:, :1])
    # The pooled frame may lack the last rows and columns: its coordinates are those of the whole one.
    frame = size[0] / factor, size[1] / factor
    coefficients, flow = None, None
    for _ in range(ROUNDS):
        found = deform_bidirectionally(small[0], small[1], content, content, pyramid_flow, stored_flow=flow)
        coefficients = fit_polynomial(found.to_sharp, found.target_mask, DEGREE, frame)
        flow = evaluate_polynomial(coefficients, frame, (0, 0, rows, columns)).float()
        distance = (found.to_sharp - flow).square().sum(1, keepdim=True).sqrt()
        agreeing = ((distance < AGREES_PX) & (found.target_mask > TRUSTED)).float().mean()
    if coefficients is None or float(agreeing) < MIN_AGREEING:
        return None
    x, y = (factor * coefficients[0].double()).tolist()
    return GlobalMotion(size, (tuple(x), tuple(y)))
