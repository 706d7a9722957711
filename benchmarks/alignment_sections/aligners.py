"""The aligners that `benchmarks/alignment.py` compares: ours and what people use for such pairs instead.

Each takes the blurred and the sharp frame, (H, W, 3) float32 linear RGB, and returns the homography blurred to sharp
in pixels, or None where it gives up. The rivals see what their users would give them: 8-bit grey or sRGB frames, full
size, with the options that suit defocused pairs best.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import alignment
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.encoding import Encoding, encode

Image = NDArray[np.float32]
Matrix = NDArray[np.float64]
Aligner = Callable[[Image, Image], Matrix | None]

OURS = "ours"
NOTHING = "nothing"

SIFT_KEYPOINTS = 8000
ECC_LEVELS = 4
FOCUS_STACK_PX = (256, 2048)
FLOW_STEP_PX = 8
HUGIN = ("align_image_stack", "pano_trafo")
# With free radial distortion (-d) or at full resolution (-s 0) it was worse on most pairs.
HUGIN_OPTIONS = ["--use-given-order", "-f", "50", "-m", "-i", "--corr=0.7", "-c", "20"]
LIMIT_S = 300


def nothing(blur: Image, sharp: Image) -> Matrix | None:
    """The frames as they are: its error is what there was to correct."""
    return np.eye(3)


def ours(blur: Image, sharp: Image) -> Matrix | None:
    found = alignment.register(blur, sharp)
    return found.homography if found.failure is None else None


def sift_magsac(blur: Image, sharp: Image) -> Matrix | None:
    """SIFT (Lowe 2004) with the ratio test, MAGSAC++ (Barath et al. 2020)."""
    sift, matcher = cv2.SIFT_create(SIFT_KEYPOINTS), cv2.BFMatcher()
    (points_b, words_b), (points_s, words_s) = (sift.detectAndCompute(grey(frame), None) for frame in (blur, sharp))
    if words_b is None or words_s is None or len(words_s) < 2:
        return None
    nearest = [two for two in matcher.knnMatch(words_b, words_s, k=2) if len(two) == 2]
    matches = [first for first, second in nearest if first.distance < 0.75 * second.distance]
    source = np.array([points_b[match.queryIdx].pt for match in matches], np.float64).reshape(-1, 2)
    target = np.array([points_s[match.trainIdx].pt for match in matches], np.float64).reshape(-1, 2)
    return magsac(source, target, 3.0)


def ecc_pyramid(blur: Image, sharp: Image) -> Matrix | None:
    """ECC (Evangelidis and Psarakis 2008), coarse to fine; affine at the top of the pyramid, homography below."""
    levels = [(grey(blur), grey(sharp))]
    for _ in range(ECC_LEVELS - 1):
        levels.append(
            tuple(cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in levels[-1])
        )
    found = ecc(*levels.pop(), np.eye(3), cv2.MOTION_AFFINE, steps=200, least_gain=1e-6)
    for first, second in reversed(levels):
        if found is not None:
            found = geometry.rescale_homography(found, 2.0)
            found = ecc(first, second, found, cv2.MOTION_HOMOGRAPHY, steps=100, least_gain=1e-6)
    return found


def focus_stack(blur: Image, sharp: Image) -> Matrix | None:
    """The alignment of the program focus-stack by its parameters: affine ECC on 256 pixels, then on up to 2048."""
    frames, found = (grey(blur), grey(sharp)), np.eye(3)
    for side, steps, least_gain in zip(FOCUS_STACK_PX, (25, 50), (0.01, 0.001), strict=True):
        factor = min(1.0, side / max(frames[0].shape))
        small = tuple(cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for frame in frames)
        found = ecc(
            *small, geometry.rescale_homography(found, factor), cv2.MOTION_AFFINE, steps=steps, least_gain=least_gain
        )
        if found is None:
            return None
        found = geometry.rescale_homography(found, 1 / factor)
    return found


def phase_correlation(blur: Image, sharp: Image) -> Matrix | None:
    """Kuglin and Hines 1975: a shift and nothing else."""
    first, second = grey(blur).astype(np.float32), grey(sharp).astype(np.float32)
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(first, second, window)
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def dense_flow(blur: Image, sharp: Image) -> Matrix | None:
    """Dense inverse search (Kroeger et al. 2016); a homography through the more textured half of a grid of points."""
    first, second = grey(blur), grey(sharp)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
    edges = cv2.GaussianBlur(np.hypot(*(cv2.Sobel(first, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))), (0, 0), 4)
    half = FLOW_STEP_PX // 2
    ys, xs = np.mgrid[half : first.shape[0] : FLOW_STEP_PX, half : first.shape[1] : FLOW_STEP_PX]
    textured = edges[ys, xs] > np.median(edges[ys, xs])
    points = np.stack([xs[textured], ys[textured]], axis=-1).astype(np.float64)
    return magsac(points, points + flow[ys, xs][textured], 1.0)


def hugin(blur: Image, sharp: Image) -> Matrix | None:
    """Hugin's align_image_stack with free field of view; its project is read through pano_trafo."""
    corners = geometry.corners(blur.shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        for name, frame in (("sharp.tif", sharp), ("blur.tif", blur)):
            write_image(Path(folder) / name, encode(frame, Encoding.SRGB8))
        try:
            output_of([HUGIN[0], *HUGIN_OPTIONS, "-p", "stack.pto", "sharp.tif", "blur.tif"], folder)
            there = pano_transform(corners, folder, "stack.pto", "1")
            target = pano_transform(there, folder, "-r", "stack.pto", "0")
        except (subprocess.SubprocessError, ValueError):
            return None
    return cv2.getPerspectiveTransform(corners.astype(np.float32), target.astype(np.float32))


def pano_transform(points: Matrix, folder: str, *arguments: str) -> Matrix:
    lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in points) + "\n"
    return np.array(output_of([HUGIN[1], *arguments], folder, lines).split(), np.float64).reshape(points.shape)


def output_of(command: list[str], folder: str, given: str = "") -> str:
    """The output of a program.

    Raises:
        subprocess.SubprocessError: It failed or took too long.
    """
    return subprocess.run(
        command, cwd=folder, input=given, text=True, check=True, capture_output=True, timeout=LIMIT_S
    ).stdout


def kornia_registrator(blur: Image, sharp: Image) -> Matrix | None:
    """kornia's gradient descent on pixels; read by sending a picture of the coordinates through its own warp."""
    import torch
    from kornia.geometry import ImageRegistrator

    height, width = blur.shape[:2]
    source, target = (torch.from_numpy(grey(frame) / np.float32(255))[None, None] for frame in (blur, sharp))
    registrator = ImageRegistrator("homography")
    registrator.register(source, target)
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    with torch.no_grad():
        seen = [registrator.warp_src_into_dst(axis[None, None].float())[0, 0].numpy() for axis in (xs, ys)]
    inner = (geometry.corners((height, width)) * 0.6 + 0.2 * np.array([width, height])).round().astype(int)
    origin = np.array([[axis[y, x] for axis in seen] for x, y in inner], np.float32)
    return cv2.getPerspectiveTransform(origin, inner.astype(np.float32))


def ecc(first: Image, second: Image, start: Matrix, motion: int, *, steps: int, least_gain: float) -> Matrix | None:
    rows = 3 if motion == cv2.MOTION_HOMOGRAPHY else 2
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, least_gain)
    try:
        _, found = cv2.findTransformECC(first, second, start[:rows].astype(np.float32), motion, ends, None, 5)
    except cv2.error:
        return None
    return np.vstack([found, np.eye(3)[rows:]]).astype(np.float64)


def magsac(source: Matrix, target: Matrix, threshold_px: float) -> Matrix | None:
    if len(source) < 4:
        return None
    found, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, threshold_px, maxIters=10000, confidence=0.9999)
    return found


def grey(frame: Image) -> NDArray[np.uint8]:
    return cv2.cvtColor(encode(frame, Encoding.SRGB8), cv2.COLOR_RGB2GRAY)


def aligners() -> dict[str, Aligner | None]:
    """Every aligner by its name in the tables; None where its program or library is not installed."""
    has_hugin = all(shutil.which(program) for program in HUGIN)
    has_kornia = importlib.util.find_spec("kornia") is not None
    return {
        NOTHING: nothing,
        OURS: ours,
        "SIFT + MAGSAC++": sift_magsac,
        "ECC pyramid": ecc_pyramid,
        "ECC as in focus-stack": focus_stack,
        "DIS flow + MAGSAC++": dense_flow,
        "phase correlation": phase_correlation,
        "hugin align_image_stack": hugin if has_hugin else None,
        "kornia ImageRegistrator": kornia_registrator if has_kornia else None,
    }


def installed_aligners(*, rivals: bool) -> dict[str, Aligner]:
    """The aligners that can run here; without rivals it is ours beside nothing at all."""
    return {name: run for name, run in aligners().items() if run is not None and (rivals or name in (NOTHING, OURS))}
