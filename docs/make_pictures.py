"""Writes the pictures of docs/capture.md and docs/fusion.md with the virtual camera: `python docs/make_pictures.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

from alignment import register  # noqa: E402
from alignment.fusion import blending  # noqa: E402
from capture.virtual.compositing import composite  # noqa: E402
from capture.virtual.config import SimulateConfig  # noqa: E402
from capture.virtual.dead_leaves import dead_leaves  # noqa: E402
from capture.virtual.lens import image_distance_mm, signed_coc_radius_px  # noqa: E402
from capture.virtual.render_pair import Defect, RenderedPair, render_pair  # noqa: E402
from sdd_toolkit.imaging.encoding import Encoding, encode  # noqa: E402
from sdd_toolkit.imaging.resampling import warp  # noqa: E402
from sdd_toolkit.storage.files import write_bytes  # noqa: E402

OUT = ROOT / "docs/images"
FOCAL_MM, PITCH_MM = 50.0, 0.006
DISTANCES_M = np.geomspace(0.8, 30, 400)
Picture = NDArray[np.uint8]


def seen(linear: NDArray[np.float32]) -> Picture:
    """As sRGB."""
    return np.asarray(encode(linear, Encoding.SRGB8), dtype=np.uint8)


def write(path: Path, picture: Picture) -> None:
    """As JPEG, small enough to be committed."""
    write_bytes(path, bytes(cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 82))[1]))


def good() -> Picture:
    """Blurred, sharp, and both after alignment, the middle of a frame."""
    pair = render_pair(SimulateConfig(width=1296, height=864), "aperture", seed=4, index=2)
    blur, sharp = np.clip(pair.blur_linear, 0, 1), np.clip(pair.sharp_linear, 0, 1)
    found = register(blur, sharp)
    aligned = warp(blur, found.homography, sharp.shape[:2]) * np.float32(found.gain)
    grey = [cv2.cvtColor(seen(frame), cv2.COLOR_RGB2GRAY) for frame in (aligned, sharp)]
    window = np.s_[180:620, 320:860]
    panels = [seen(blur)[window], seen(sharp)[window], np.dstack([grey[0], grey[1], grey[1]])[window]]
    gap = np.full((panels[0].shape[0], 8, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)


def faults() -> Picture:
    """Every fault the camera can plant: the two frames side by side, the reason below."""
    config = SimulateConfig(width=648, height=432, pixel_pitch_um=55.6)
    tiles = []
    for defect in Defect:
        reason = defect.reason.value
        words = reason if defect.value == reason else f"{reason} ({defect.value.replace('_', ' ')})"
        tiles.append(tile(render_pair(config, "aperture", 3, 1, defect), words))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % 3)
    return np.concatenate([np.concatenate(tiles[row : row + 3], axis=1) for row in range(0, len(tiles), 3)], axis=0)


def tile(pair: RenderedPair, reason: str) -> Picture:
    """The two frames of a pair, small, and a line below."""
    small = [
        cv2.resize(seen(frame), (240, 160), interpolation=cv2.INTER_AREA)
        for frame in (pair.blur_linear, pair.sharp_linear)
    ]
    picture = np.full((204, 504, 3), 255, np.uint8)
    picture[4:164, 4:244], picture[4:164, 248:488] = small
    cv2.putText(picture, reason, (6, 188), cv2.FONT_HERSHEY_DUPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA)
    return picture


def stack() -> Picture:
    """A focal stack's middle frame, the fused picture and the map of origins."""
    size, focused_at = (480, 540), np.linspace(0.2, 0.8, 9)
    scene = dead_leaves(size, size, 0.8, 0.2, np.random.default_rng(5))
    depths = np.array([surface.inverse_depth for surface in scene.surfaces])
    frames = [composite(scene, (24 * np.abs(depths - focus)).tolist()) * np.float32(0.9) for focus in focused_at]
    origin = blending.choose_sharpest([blending.measure_sharpness(frame, np.ones(size, np.bool_)) for frame in frames])
    blend = blending.empty_blend(size)
    for number, frame in enumerate(frames):
        blending.add_frame(blend, frame, (origin == number).astype(np.float32))
    colours = cv2.applyColorMap((origin * 31).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    gap = np.full((size[0], 8, 3), 255, np.uint8)
    return np.concatenate([seen(frames[4]), gap, seen(blending.collapse(blend)), gap, colours], axis=1)


def radii_px(f_number: float, focus_m: float) -> NDArray[np.float64]:
    """Radii of the circle of confusion at `DISTANCES_M`."""
    signed = signed_coc_radius_px(
        1 / DISTANCES_M,
        focal_mm=FOCAL_MM,
        f_number=f_number,
        image_mm=image_distance_mm(FOCAL_MM, focus_m),
        pitch_mm=PITCH_MM,
    )
    return np.abs(signed)


def curves(path: Path) -> None:
    """Radius against distance, for an aperture pair and a focus pair."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    shots = (
        [(1.8, 2.0, "blurred: f/1.8"), (16.0, 2.0, "sharp: f/16")],
        [(4.0, 1.4, "blurred: focused at 1.4 m"), (4.0, 2.0, "sharp: focused at 2 m")],
    )
    for axis, lines, title in zip(axes, shots, ("aperture pair", "focus pair"), strict=True):
        axis.axhspan(0.3, 1, color="0.88")
        axis.axhline(48, color="0.6", linestyle=":")
        for (f_number, focus_m, label), colour in zip(lines, ("tab:red", "tab:blue"), strict=True):
            axis.plot(DISTANCES_M, np.maximum(radii_px(f_number, focus_m), 1e-3), color=colour, label=label)
        axis.set(xscale="log", yscale="log", ylim=(0.3, 100), title=title, xlabel="distance, m")
        axis.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"], minor=False)
        axis.set_yticks([0.3, 1, 3, 10, 30, 100], ["0.3", "1", "3", "10", "30", "100"])
        axis.minorticks_off()
        axis.legend(loc="lower right", frameon=False)
    axes[0].set_ylabel("radius of the circle of confusion, px")
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    write(OUT / "capture-good.jpg", good())
    write(OUT / "capture-faults.jpg", faults())
    write(OUT / "fusion.jpg", stack())
    curves(OUT / "capture-blur.png")
