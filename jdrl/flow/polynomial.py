"""Flow fields as polynomials of the coordinates: robust fit and evaluation in batches that never wait for a device."""

from __future__ import annotations

import torch
from torch import Tensor

# Scale of the residuals in px, and degree, by round: outliers lose their weight before the polynomial can bend to them.
ROUNDS = ((8.0, 1), (4.0, 1), (2.0, 1), (2.0, 2), (1.0, 2))
_RIDGE = 1e-4
_COUNTS = {1: 3, 2: 6}  # of terms, by degree


def fit_polynomial(
    flow: Tensor, trust: Tensor, degree: int, frame: tuple[float, float] | None = None, *, stride: int = 1
) -> Tensor:
    """Fits a polynomial to each flow field by weighted least squares with Geman-McClure weights.

    It starts from the median, so a motion that most of the trusted pixels share is found. Without any it is zero.

    Args:
        flow: (B, 2, H, W), pixels.
        trust: (B, 1, H, W) weights.
        degree: 1 (zoom, roll, shear) or 2.
        frame: (height, width) of the coordinates; None: those of the field.
        stride: Every how many pixels, of every so many rows, one takes part.

    Returns:
        (B, 2, N) coefficients, N = 3 or 6.
    """
    height, width = flow.shape[-2:]
    terms = _terms(frame or (height, width), (0, 0, height, width), degree, flow.device)
    terms = terms[:, ::stride, ::stride].flatten(1)
    values, weight = (field[..., ::stride, ::stride].flatten(2).float() for field in (flow, trust))
    median = torch.where(weight > 0.5 * weight.amax(2, keepdim=True), values, torch.nan).nanmedian(2, keepdim=True)
    centre = median.values.nan_to_num(0.0)
    fitted = centre.expand_as(values)
    for scale, current in ROUNDS:
        part = terms[: _COUNTS[min(current, degree)]]
        squared = (values - fitted).square().sum(1, keepdim=True)
        robust = weight / (1 + squared / scale**2).square()
        share = robust / robust.sum(2, keepdim=True).clamp(min=1e-6)
        normal = torch.einsum("bon,in,jn->bij", share, part, part) + _RIDGE * torch.eye(len(part), device=flow.device)
        right = torch.einsum("bon,bcn,in->bic", share, values - centre, part)
        # Unlike `solve` it does not wait for the device to report an error; the ridge rules one out.
        slopes = torch.linalg.solve_ex(normal, right).result.transpose(1, 2)
        fitted = centre + torch.einsum("bci,in->bcn", slopes, part)
    return torch.cat([slopes[..., :1] + centre, slopes[..., 1:]], 2)


def evaluate_polynomial(coefficients: Tensor, frame: tuple[float, float], window: tuple[int, int, int, int]) -> Tensor:
    """The flow field of a polynomial.

    Args:
        coefficients: (B, 2, N), as of `fit_polynomial`.
        frame: (height, width) of the coordinates, pixels.
        window: (top, left, height, width) of the part of the frame, pixels.

    Returns:
        (B, 2, height, width), pixels.
    """
    terms = _terms(frame, window, 1 if coefficients.shape[-1] == 3 else 2, coefficients.device)
    return torch.einsum("bci,ihw->bchw", coefficients, terms.to(coefficients.dtype))


def _terms(frame: tuple[float, float], window: tuple[int, int, int, int], degree: int, device: torch.device) -> Tensor:
    """(N, height, width): 1, X, Y and, for degree 2, X², XY, Y²; X and Y run from -1 to 1 across the frame."""
    top, left, height, width = window
    y = (2 * (torch.arange(height, device=device) + top) + 1) / frame[0] - 1
    x = (2 * (torch.arange(width, device=device) + left) + 1) / frame[1] - 1
    x, y = x.expand(height, width), y[:, None].expand(height, width)
    powers = [torch.ones_like(x), x, y]
    return torch.stack(powers if degree == 1 else [*powers, x * x, x * y, y * y])
