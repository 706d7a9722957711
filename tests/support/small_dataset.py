"""A filtered manifest of small PNG pairs, as `sdd filter` would leave it, for tests of what comes after."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.pipeline.manifest import Manifest, write_manifest
from sdd_toolkit.records import Alignment, Exposure, FileRef, FrameMeta, PairKind, PairRecord, Step, Verdict
from sdd_toolkit.storage.files import sha256_of

SIZE = (312, 420)
BOX = (6, 7, 410, 303)


def texture(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Smooth coloured noise, (H, W, 3) uint8 RGB."""
    noise = np.random.default_rng(seed).random((*size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    stretched = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (20 + 210 * stretched).astype(np.uint8)


def alignment(
    rows: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    gain: float = 1.0,
    size: tuple[int, int] = SIZE,
    box: tuple[int, int, int, int] = BOX,
    flow_file: str | None = None,
) -> Alignment:
    """An alignment as the align stage would find it."""
    return Alignment(
        rows=rows,
        model="homography",
        gain=gain,
        size=size,
        box=box,
        shift_px=(rows[0][2], rows[1][2]),
        zoom=1.0,
        rotation_deg=0.0,
        perspective_px=0.0,
        before_px=3.0,
        before_p95_px=4.0,
        residual_px=0.1,
        residual_p95_px=0.3,
        coc_px=4.0,
        coc_p95_px=6.0,
        ncc=0.99,
        unexplained_fraction=0.0,
        texture_fraction=0.9,
        error_px=0.1,
        flow_file=flow_file,
    )


def pair(root: Path, name: str, scene: str, seed: int, found: Alignment | None = None) -> PairRecord:
    """Writes `NAME_blur.png` and `NAME_sharp.png` and tells of them as a kept pair."""
    sharp = texture(seed)
    frames = {"blur": cv2.GaussianBlur(sharp, (0, 0), 3.0), "sharp": sharp}
    refs = {}
    for role, frame in frames.items():
        path = root / f"{name}_{role}.png"
        cv2.imwrite(str(path), frame[..., ::-1])
        refs[role] = FileRef(path.name, path.stat().st_size, sha256_of(path))
    meta = FrameMeta(make="Pentacon", model="Six", lens="80 mm", exposure=Exposure(100.0, 0.01, 2.8, 80.0, 3.0))
    return PairRecord(
        id=name,
        scene=scene,
        kind=PairKind.FOCUS,
        **refs,
        blur_meta=meta,
        sharp_meta=meta,
        alignment=found or alignment(),
        verdict=Verdict(keep=True),
        history=(Step("align", "0.1.0", "aa", "bb"),),
    )


def filtered_manifest(folder: Path, scenes: int = 3, pairs: int = 2) -> Path:
    """`filtered.jsonl` in `folder` with `scenes` scenes of `pairs` kept pairs each; the frames lie in `raw/`."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    records = [
        pair(raw, f"scene-{scene:04d}-{number:02d}", f"scene-{scene:04d}", seed=100 * scene + number)
        for scene in range(scenes)
        for number in range(pairs)
    ]
    path = folder / "filtered.jsonl"
    write_manifest(path, Manifest(root=raw, records=tuple(records)))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name: what two runs must agree on."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
