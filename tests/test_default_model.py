"""The recipe of the network that ships: its training pairs lie on one grid, and the same seed gives the same bytes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from sdd_toolkit.imaging.encoding import Encoding, decode

RECIPE = Path(__file__).resolve().parent.parent / "examples" / "default_model"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"default_model_{name}", RECIPE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured picture of the size of those that the recipe cuts."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(20, 235, (54, 70, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "texture_2_0_0.png"
    cv2.imwrite(str(path), cv2.resize(coarse, (560, 432), interpolation=cv2.INTER_NEAREST))
    return path


def test_pairs_lie_on_one_grid_and_only_lose_detail(picture: Path, tmp_path: Path) -> None:
    make_pairs = load("make_pairs")
    for number in range(4):
        task = make_pairs.PairTask(number, 0, ((picture,),), tmp_path)
        blur, sharp = make_pairs.make_pair(task, np.random.default_rng([0, number]))
        assert blur.shape == sharp.shape == (320, 448, 3)
        light = [decode(image, Encoding.SRGB8) for image in (blur, sharp)]
        coarse = [cv2.GaussianBlur(image, (0, 0), 12.0)[40:-40, 40:-40] for image in light]
        assert np.abs(coarse[0] - coarse[1]).mean() < 0.012
        grey = [cv2.GaussianBlur(image.mean(2).astype(np.float32), (0, 0), 4.0) for image in (blur, sharp)]
        inner, apart = np.s_[40:-40, 40:-40], {}
        for row, column in np.ndindex(5, 5):
            moved = np.roll(grey[0], (row - 2, column - 2), axis=(0, 1))
            apart[row - 2, column - 2] = float(np.square(moved - grey[1])[inner].mean())
        assert min(apart, key=apart.__getitem__) == (0, 0)


def test_the_same_seed_gives_the_same_bytes_and_a_stopped_run_goes_on(picture: Path, tmp_path: Path) -> None:
    make_pairs = load("make_pairs")
    tasks = [make_pairs.PairTask(5, 7, ((picture,),), tmp_path / name) for name in ("first", "second")]
    for task in tasks:
        make_pairs.render_task(task)
    first, second = ((task.out / "train" / "blur" / "00005.png") for task in tasks)
    assert first.read_bytes() == second.read_bytes()
    first.write_bytes(b"kept")
    make_pairs.render_task(tasks[0])
    assert first.read_bytes() == b"kept"


def test_only_windows_in_focus_are_taken() -> None:
    photographs = load("photographs")
    rng = np.random.default_rng(1)
    cells = rng.uniform(0.1, 0.9, (144, 187, 3)).astype(np.float32)
    crisp = cv2.resize(cells, (560, 432), interpolation=cv2.INTER_NEAREST)
    assert photographs._is_sharp(crisp)
    assert not photographs._is_sharp(cv2.GaussianBlur(crisp, (0, 0), 3.0))
    assert not photographs._is_sharp(np.full((432, 560, 3), 0.5, np.float32))


def test_every_photograph_names_its_author_and_a_licence_without_share_alike() -> None:
    photographs = load("photographs")
    for photograph in photographs.PHOTOGRAPHS:
        assert photograph.author
        assert photograph.licence in {"CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "public domain"}
