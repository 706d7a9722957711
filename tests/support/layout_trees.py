"""Folders laid out as published data sets are, with pictures small enough to draw on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.frames.writing import write_values


def picture(path: Path, size: tuple[int, int] = (13, 18), dtype: type[Any] = np.uint8) -> NDArray[Any]:
    """Writes noise to `path`, the same for the same name; returns it."""
    seed = int.from_bytes(path.name.encode()[-8:], "big")
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (*size, 3)).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_values(path, image)
    return image


def dpdd(root: Path, dtype: type[Any] = np.uint16) -> Path:
    """Camera names one number apart, dual-pixel views beside."""
    for split, start in (("train", 10), ("val", 30), ("test", 50)):
        for number in range(start, start + 4, 2):
            picture(root / f"{split}_c/source/1P0A{number + 1:04d}.png", dtype=dtype)
            picture(root / f"{split}_c/target/1P0A{number:04d}.png", dtype=dtype)
            for side in "lr":
                name = f"{split}_{side}/source/1P0A{number + 1:04d}_{side.upper()}.png"
                picture(root / name, dtype=dtype)
    return root


def sdd(root: Path, folders: tuple[str, ...] = ("train", "test")) -> Path:
    """`blur` and `gt` with equal names, the same ones in every split."""
    for folder in folders:
        for name in ("0001", "0002"):
            for role in ("blur", "gt"):
                picture(root / folder / role / f"{name}.png")
    return root


def realdof(root: Path) -> Path:
    """A test set."""
    for name in ("a", "b"):
        for role in ("source", "target"):
            picture(root / role / f"{name}.png")
    return root


def lfdof(root: Path) -> Path:
    """Three refocused frames a light field."""
    for folder, scene in (("train_data", "IMG_1275"), ("test_data", "IMG_2000")):
        picture(root / folder / "ground_truth" / f"{scene}.png")
        for number in range(3):
            picture(root / folder / "input" / scene / f"{scene}_ap1_{number:02d}.png")
    return root


def realbokeh(root: Path) -> Path:
    """Two f-numbers a scene; scenes are numbered anew in every split."""
    for folder in ("train", "validation", "test"):
        for scene in ("1", "2"):
            blurs = [f"gt/{scene}/{scene}_f{stop}.png" for stop in ("2.0", "5.6")]
            sharp = f"in/{scene}_f22.png"
            for name in (*blurs, sharp):
                picture(root / folder / name)
            facts = {"id": scene, "source_image": sharp, "target_images": blurs, "target_avs": [2.0, 5.6]}
            path = root / folder / "metadata" / f"{scene}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(facts))
    return root
