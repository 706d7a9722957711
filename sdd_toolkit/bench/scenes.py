"""Pictures of virtual pairs for training: blurred frame as developed, with the true or with the displaced sharp frame.

Both frames are developed with the white balance of the sharp one and encoded as 8-bit sRGB. The virtual camera of the
benchmark makes no exposure error and has no vignetting, so only geometry tells the two kinds of targets apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.bench.plan import KINDS
from sdd_toolkit.frames.reading import develop_frame, read_white_balance
from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.storage.files import write_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

DISPLACEMENTS = "displacement.csv"
COLUMNS = ("scene", "mean_px", "p95_px", "hidden_percent")


def scene_folder(raw: Path, scene: str) -> Path:
    """The folder of a scene that `sdd capture simulate` shot: `raw`/focus/scene-0001 for focus-scene-0001."""
    kind = next(kind for kind in KINDS if scene.startswith(f"{kind}-"))
    return raw / kind / scene.removeprefix(f"{kind}-")


def write_pictures(raw: Path, out: Path, scenes: Mapping[str, Sequence[str]], *, truth: bool) -> None:
    """Writes `out`/SPLIT/{blur,gt}/SCENE.png.

    Args:
        raw: Folder with the series of each kind.
        out: Folder of the pictures, in the layout of SDD.
        scenes: Ids of the scenes of each split.
        truth: Whether the target is the truth on the blurred frame's grid; else the sharp frame as shot.
    """
    for split, ids in scenes.items():
        for scene in ids:
            source = scene_folder(raw, scene)
            balance = read_white_balance(source / "sharp.dng")
            blurred = develop_frame(source / "blur.dng", balance).linear
            target = read_truth(source) if truth else develop_frame(source / "sharp.dng", balance).linear
            for role, image in (("blur", blurred), ("gt", target)):
                codes = encode(np.clip(image, 0, 1).astype(np.float32), Encoding.SRGB8)
                write_image(out / split / role / f"{scene}.png", codes)


def write_displacements(raw: Path, path: Path, scenes: Sequence[str]) -> None:
    """Writes a table of what the truth says about the displacement of each pair."""
    write_csv(path, COLUMNS, [(scene, *measure_displacement(scene_folder(raw, scene))) for scene in scenes])


def measure_displacement(folder: Path) -> tuple[float, float, float]:
    """Mean and 95th percentile of the displacement of a pair, px, and the percentage that the sharp frame hides."""
    with np.load(folder / "truth.npz", allow_pickle=False) as truth:
        lengths = np.hypot(*np.moveaxis(truth["displacement"], -1, 0))
        hidden = 100 * float(truth["occlusion"].mean())
    return round(float(lengths.mean()), 3), round(float(np.percentile(lengths, 95)), 3), round(hidden, 2)


def read_truth(folder: Path) -> NDArray[np.float32]:
    """The noise-free sharp image on the blurred frame's grid, linear sRGB."""
    with np.load(folder / "truth.npz", allow_pickle=False) as truth:
        return np.asarray(truth["aligned"], dtype=np.float32)
