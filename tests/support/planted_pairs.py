"""Records and build folders with known numbers, for tests that need a data set but none of its stages."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.geometry import corners, project
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import (
    Alignment,
    Exposure,
    FileRef,
    FrameMeta,
    PairKind,
    PairRecord,
    Quality,
    Reason,
    Step,
    Verdict,
)
from sdd_toolkit.storage.files import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (160, 240)
SHIFT = np.array([[1, 0, 6], [0, 1, -4], [0, 0, 1]], dtype=np.float64)
META = FrameMeta(make="Canon", model="Canon EOS 6D", lens="EF 50mm", exposure=Exposure(100, 1 / 60, 2.8, 50.0, 1.2))
QUALITY = Quality(
    sharpness_gain=3.0,
    sharper_fraction=0.9,
    softer_fraction=0.0,
    sharp_acuity=0.5,
    blur_acuity=0.05,
    exposure_ev=0.1,
    clipped_fraction=0.001,
    blur_level=0.3,
    sharp_level=0.3,
    texture_fraction=0.9,
)


@cache
def alignment(shift_px: tuple[float, float] = (6.0, -4.0)) -> Alignment:
    """A pure shift on frames of `SIZE`."""
    rows = ((1.0, 0.0, shift_px[0]), (0.0, 1.0, shift_px[1]), (0.0, 0.0, 1.0))
    mask = resampling.valid_mask(np.array(rows), SIZE, SIZE)
    length = float(np.hypot(*shift_px))
    return Alignment(
        rows=rows,
        model="similarity",
        gain=1.0,
        size=SIZE,
        box=geometry.largest_box(mask),
        shift_px=shift_px,
        zoom=1.01,
        rotation_deg=0.1,
        perspective_px=0.0,
        before_px=length,
        before_p95_px=length,
        residual_px=0.2,
        residual_p95_px=0.4,
        coc_px=3.0,
        coc_p95_px=4.0,
        ncc=0.99,
        unexplained_fraction=0.0,
        texture_fraction=0.8,
        error_px=0.05,
    )


def record(name: str, reason: Reason | None = None, **changes: object) -> PairRecord:
    """A pair through all stages: kept, or rejected for `reason`."""
    pair = PairRecord(
        id=name,
        scene=name,
        kind=PairKind.FOCUS,
        blur=FileRef(f"raw/{name}_blur.png", 1, "0" * 64),
        sharp=FileRef(f"raw/{name}_sharp.png", 1, "1" * 64),
        blur_meta=META,
        sharp_meta=META,
        alignment=alignment(),
        quality=QUALITY,
        verdict=Verdict(keep=reason is None, reason=reason, detail="0.1 > 0.05" if reason else ""),
        history=(Step("ingest", "0.1.0", "a" * 16, "b" * 16), Step("align", "0.1.0", "c" * 16, "d" * 16)),
    )
    return replace(pair, **changes)  # type: ignore[arg-type]


def texture(seed: int) -> np.ndarray:
    """(160, 240, 3) uint8: noise of several octaves."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 1, (h, h * 3 // 2, 3)), SIZE[::-1], interpolation=cv2.INTER_CUBIC) for h in (8, 20, 80)
    ]
    return np.clip(128 + 30 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


def write_pair(folder: Path, pair: PairRecord, seed: int = 0) -> PairRecord:
    """Writes the pair's two PNGs and its flow below `folder`; the blurred one is the sharp one moved by -`SHIFT`."""
    sharp = texture(seed)
    blur = cv2.warpPerspective(sharp, np.linalg.inv(SHIFT), SIZE[::-1], borderMode=cv2.BORDER_REPLICATE)
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "flow").mkdir(exist_ok=True)
    refs = []
    for ref, picture in ((pair.blur, blur), (pair.sharp, sharp)):
        path = folder / ref.path
        cv2.imwrite(str(path), picture)
        refs.append(FileRef(ref.path, path.stat().st_size, sha256_of(path)))
    flow = np.full((SIZE[0] // 4, SIZE[1] // 4, 2), (1.0, 0.0), dtype=np.float16)
    np.savez(
        folder / "flow" / f"{pair.blur.path[4:-9]}.npz", flow=flow, confidence=np.full(flow.shape[:2], 255, np.uint8)
    )
    moved = pair.alignment and replace(pair.alignment, flow_file=f"flow/{pair.blur.path[4:-9]}.npz")
    return replace(pair, blur=refs[0], sharp=refs[1], alignment=moved)


def build_folder(folder: Path, pairs: list[PairRecord], stage: str = "filtered") -> Path:
    """A build folder after `stage`, its pictures written."""
    written = tuple(write_pair(folder, pair, seed) for seed, pair in enumerate(pairs))
    manifest.write_manifest(folder / f"{stage}.jsonl", manifest.Manifest(folder, written))
    return folder


def corner_error_px(first: NDArray[np.float64], second: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Root mean square distance of the four frame corners mapped by both homographies."""
    gap = project(first, corners(size)) - project(second, corners(size))
    return float(np.sqrt(np.mean(np.sum(gap**2, axis=1))))
