"""Optical flow between a blurred or deblurred frame and a sharp one: endpoint errors, CPU seconds, seconds on a GPU.

`python benchmarks/flow.py [--pairs 6] [--size 384x256] [--pwcnet FILE] [--raft FILE]` prints three tables;
`--only trust` another one: how much wrong flow the masks of the trainer trust on crops, by displacement.

Virtual pairs: the virtual camera's focus pairs (shift, zoom, roll, unequal exposure and vignetting), and the same with
a smooth local motion of up to 2 px on top. The first frame is the blurred one, or the truth in its geometry, as if
perfectly deblurred; the second is the sharp one. Errors are over pixels whose partner lies in the frame, 8 px from its
border; `still` is the error of no flow at all. Where there are FlyingChairs pairs, their mean error follows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

# A script's own folder comes first otherwise, and there benchmarks/jdrl.py would hide the package `jdrl`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from capture.virtual.config import SimulateConfig
from capture.virtual.render_pair import RenderedPair, render_pair
from jdrl.flow import bidirectional
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.flow.global_motion import GlobalMotion, register_frames
from jdrl.flow.warping import compose_flows, in_bounds_mask, invert_flow
from sdd_toolkit.imaging.encoding import srgb_encode

BORDER_PX = 8
LOCAL_PX = 2.0
LOCAL_GRID_PX = 64
NOISE = 0.005
CHAIRS = Path(__file__).resolve().parents[2] / "shared" / "data" / "flow"
SOFT_SD_PX = 2.5
BATCH = 8
REPEATS = 10
BORDER_CUT_PX = 48
CROP_PX, MARGIN_PX = 128, 48
WRONG_PX = 2.0
DISPLACEMENTS_PX = (3, 8, 16, 24, 32)


@dataclass(frozen=True, slots=True)
class Case:
    """Two frames (1, 3, H, W) and the truth (1, 2, H, W) on the grid of the first."""

    name: str
    first: Tensor
    second: Tensor
    flow: Tensor


def virtual_cases(pairs: int, size: tuple[int, int], seed: int = 0) -> list[Case]:
    """Four cases of every pair."""
    width, height = size
    camera = SimulateConfig(width=width, height=height)
    cases = []
    for index in range(pairs):
        pair = render_pair(camera, "focus", seed=seed, index=index)
        draw = np.random.default_rng([seed, index])
        blurred, deblurred, sharp = (
            encode_srgb(image + draw.normal(0, noise, image.shape))
            for image, noise in ((pair.blur_linear, NOISE), (pair.truth.aligned, 0.0), (pair.sharp_linear, NOISE))
        )
        flow = torch.from_numpy(pair.truth.displacement).permute(2, 0, 1)[None]
        local = smooth_field(draw, size)
        # S(y + w(y)) shows at y what was at y + w(y).
        pushed = cubic_warp(sharp, local)
        for motion, second, truth in (
            ("global", sharp, flow),
            ("local", pushed, compose_flows(flow, invert_flow(local, 20))),
        ):
            for name, first in (("blurred", blurred), ("deblurred", deblurred)):
                cases.append(Case(f"{name}, {motion}", first, second, truth))
    return cases


def encode_srgb(linear: NDArray[np.float64]) -> Tensor:
    image = srgb_encode(np.clip(linear, 0, 1).astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def smooth_field(draw: np.random.Generator, size: tuple[int, int]) -> Tensor:
    """(1, 2, H, W), the longest vector LOCAL_PX."""
    width, height = size
    coarse = draw.normal(size=(1, 2, height // LOCAL_GRID_PX + 3, width // LOCAL_GRID_PX + 3))
    field = F.interpolate(torch.from_numpy(coarse).float(), size=(height, width), mode="bicubic", align_corners=True)
    return field * (LOCAL_PX / field.square().sum(1).sqrt().max())


def cubic_warp(image: Tensor, flow: Tensor) -> Tensor:
    """`image` at x + flow(x), by a kernel that blurs less than a bilinear one."""
    height, width = image.shape[-2:]
    x = (flow[0, 0] + torch.arange(width)).numpy()
    y = (flow[0, 1] + torch.arange(height)[:, None]).numpy()
    plane = image[0].permute(1, 2, 0).numpy()
    moved = cv2.remap(plane, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(moved).permute(2, 0, 1)[None].clamp(0, 1)


def chairs_cases(folder: Path) -> list[Case]:
    """FlyingChairs pairs with their truth; none where they are not."""
    cases = []
    for path in sorted(folder.glob("*-gt.flo")):
        values = np.fromfile(path, np.float32)
        width, height = values[1:3].view(np.int32)
        truth = torch.from_numpy(values[3:].reshape(height, width, 2)).permute(2, 0, 1)[None]
        files = (path.with_name(f"{path.name[:7]}-img{number}.ppm") for number in (0, 1))
        first, second = (
            torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()).permute(2, 0, 1)[None] for file in files
        )
        cases.append(Case("FlyingChairs", first / 255, second / 255, truth))
    return cases


def endpoint_error_px(flow: Tensor, case: Case) -> float:
    """Mean over the pixels that are judged."""
    inside = in_bounds_mask(case.flow, BORDER_PX) * in_bounds_mask(torch.zeros_like(case.flow), BORDER_PX)
    error = (flow - case.flow).square().sum(1, keepdim=True).sqrt()
    return float((error * inside).sum() / inside.sum())


def estimators(options: argparse.Namespace) -> dict[str, FlowEstimator]:
    found: dict[str, FlowEstimator] = {"still": lambda a, b: torch.zeros_like(a[:, :2])}
    found |= {name: flow_estimator(name) for name in ("pyramid", "dis")}
    found["pyramid, second soft"] = lambda a, b: found["pyramid"](a, blur_image(b))
    for name in ("pwcnet", "raft"):
        if path := getattr(options, name):
            found[name] = flow_estimator(name, path)
    return found


def blur_image(image: Tensor) -> Tensor:
    """The image under a Gaussian as wide as a disc of 5 px radius."""
    plane = image[0].permute(1, 2, 0).numpy()
    return torch.from_numpy(cv2.GaussianBlur(plane, (0, 0), SOFT_SD_PX)).permute(2, 0, 1)[None]


def displaced(pair: RenderedPair, length_px: float) -> Case:
    """The blurred frame, the sharp one and the truth, displaced by `length_px` more; their borders are cut off."""
    down, right = round(0.6 * length_px), round(0.8 * length_px)
    blurred, sharp = encode_srgb(pair.blur_linear), encode_srgb(pair.sharp_linear)
    flow = torch.from_numpy(pair.truth.displacement).permute(2, 0, 1)[None].float()
    height, width = blurred.shape[-2:]
    inner = (..., slice(BORDER_CUT_PX, height - BORDER_CUT_PX), slice(BORDER_CUT_PX, width - BORDER_CUT_PX))
    moved = sharp.roll((down, right), (2, 3))[inner]
    return Case("", blurred[inner], moved, flow[inner] + torch.tensor([right, down]).view(1, 2, 1, 1))


def wrong_share(case: Case, motion: GlobalMotion | None, *, agreement: bool = True) -> tuple[float, float]:
    """(share of the mask's weight whose flow is off by more than 2 px, mean of the mask) on the crops of a pair."""
    height, width = case.first.shape[-2:]
    wrong = weight = pixels = 0.0
    mask_of = bidirectional.agreement_mask if agreement else lambda flow, trust: torch.ones_like(trust)
    for top in range(MARGIN_PX, height - CROP_PX - MARGIN_PX + 1, CROP_PX):
        for left in range(MARGIN_PX, width - CROP_PX - MARGIN_PX + 1, CROP_PX):
            window = (..., slice(top, top + CROP_PX), slice(left, left + CROP_PX))
            rows, columns = (slice(start - MARGIN_PX, start + CROP_PX + MARGIN_PX) for start in (top, left))
            blurred, wide = case.first[window], case.second[..., rows, columns]
            content = [torch.ones_like(image[:, :1]) for image in (blurred, wide)]
            stored = None if motion is None else motion.flow(top, left, CROP_PX, CROP_PX)
            with mock.patch.object(bidirectional, "agreement_mask", mask_of):
                found = bidirectional.deform_bidirectionally(
                    blurred, wide, *content, flow_estimator("pyramid"), stored_flow=stored
                )
            error = (found.to_sharp - case.flow[window]).square().sum(1, keepdim=True).sqrt()
            wrong += float((found.target_mask * (error > WRONG_PX)).sum())
            weight += float(found.target_mask.sum())
            pixels += found.target_mask.numel()
    return wrong / max(weight, 1.0), weight / pixels


def print_trust(pairs: int) -> None:
    camera = SimulateConfig(width=800, height=544, max_shift_px=2.0)
    rendered = [render_pair(camera, "focus", seed=1, index=index) for index in range(pairs)]
    print(f"{pairs} virtual pairs of 800x544, crops of {CROP_PX} px, flow from the blurred frame: share of the trusted")
    print(f"pixels whose flow is off by more than {WRONG_PX:.0f} px (mean of the mask)")
    print(f"{'mean displacement, px':24s}{'crops alone':>20s}{'with agreement':>20s}{'pairs registered':>20s}")
    for length_px in DISPLACEMENTS_PX:
        cases = [displaced(pair, length_px) for pair in rendered]
        mean_px = np.mean([float(case.flow.square().sum(1).sqrt().mean()) for case in cases])
        columns = []
        for agreement, whole in ((False, False), (True, False), (True, True)):
            motions = [register_frames(case.first, case.second) if whole else None for case in cases]
            shares = [
                wrong_share(case, motion, agreement=agreement) for case, motion in zip(cases, motions, strict=True)
            ]
            wrong, trusted = np.mean(shares, axis=0)
            columns.append(f"{f'{100 * wrong:.1f} % ({trusted:.2f})':>20s}")
        print(f"{mean_px:<24.1f}{''.join(columns)}", flush=True)


class _Counted(TorchDispatchMode):
    """Counts operations but not views."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.operations += not func.is_view
        return func(*args, **(kwargs or {}))


def operations(estimate: FlowEstimator, case: Case) -> int:
    """The operations that one call launches on a GPU, however large the batch."""
    with _Counted() as counted:
        estimate(case.first, case.second)
    return counted.operations


def device_s(run: Callable[[], Tensor]) -> float:
    """Wall seconds of one call on the GPU, the least of some, after a warm-up."""
    taken = []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def print_errors(cases: list[Case], methods: dict[str, FlowEstimator]) -> None:
    names = list(dict.fromkeys(case.name for case in cases))
    errors: dict[str, dict[str, list[float]]] = {method: {name: [] for name in names} for method in methods}
    spent = dict.fromkeys(methods, 0.0)
    for method, estimate in methods.items():
        for case in cases:
            start = time.process_time()
            flow = estimate(case.first, case.second)
            spent[method] += time.process_time() - start
            errors[method][case.name].append(endpoint_error_px(flow, case))
    print(
        f"{'endpoint error, px':24s}"
        + "".join(f"{name:>19s}" for name in names)
        + f"{'CPU ms a pair':>16s}{'operations':>12s}"
    )
    for method, found in errors.items():
        cells = "".join(f"{np.mean(values):19.3f}" for values in found.values())
        print(
            f"{method:24s}{cells}{1000 * spent[method] / len(cases):16.1f}{operations(methods[method], cases[0]):12d}"
        )


def print_device_times(cases: list[Case], methods: dict[str, FlowEstimator]) -> None:
    """A joint step's call: BATCH crops, both directions."""
    sides = [torch.cat([getattr(cases[n % len(cases)], side) for n in range(BATCH)]) for side in ("first", "second")]
    first, second = (torch.cat(order).cuda() for order in (sides, sides[::-1]))
    print(f"{'GPU, 2 x ' + str(BATCH) + ' crops':24s}{'ms':>12s}{'of dis':>12s}")
    taken = {
        name: device_s(lambda run=run: run(first, second))
        for name, run in methods.items()
        if name not in ("still", "pyramid, second soft")
    }  # type: ignore[misc]
    for name, seconds in taken.items():
        print(f"{name:24s}{1000 * seconds:12.2f}{seconds / taken['dis']:12.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--size", default="384x256")
    parser.add_argument("--pwcnet", type=Path, help="published weights of PWC-Net")
    parser.add_argument("--raft", type=Path, help="torchvision's weights of raft_large")
    parser.add_argument(
        "--chairs", type=Path, default=CHAIRS, help="FlyingChairs pairs, NUMBER-img0.ppm, -img1.ppm, -gt.flo"
    )
    parser.add_argument("--only", choices=["trust"], help="that table instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.only == "trust":
        print_trust(options.pairs)
        return
    width, height = (int(side) for side in options.size.split("x"))
    methods = estimators(options)
    cases = virtual_cases(options.pairs, (width, height))
    print(f"{options.pairs} virtual pairs of {width}x{height}, one thread")
    print_errors(cases, methods)
    if chairs := chairs_cases(options.chairs):
        print(f"\n{len(chairs)} FlyingChairs pairs")
        print_errors(chairs, methods)
    print()
    if torch.cuda.is_available():
        print_device_times(cases, methods)
    else:
        print("no GPU here: seconds on one are not measured")


if __name__ == "__main__":
    main()
