from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.config import TrainConfig
from jdrl.flow.estimators import NAMES, flow_estimator
from jdrl.flow.warping import warp
from sdd_toolkit.errors import ConfigError, MissingExtraError
from tests.support.flows import endpoint_error, textured_scene, zoom_and_shift
from tests.support.paths import SHARED

DATA = SHARED / "data"


@pytest.mark.parametrize(("name", "limit_px"), [("pyramid", 0.05), ("dis", 0.2)])
def test_a_planted_zoom_and_shift_is_recovered(name: str, limit_px: float) -> None:
    second, truth = textured_scene(), zoom_and_shift(160, 1.02, 4.5, -3.0)
    found = flow_estimator(name)(warp(second, truth), second)
    assert found.shape == (1, 2, 160, 160)
    assert endpoint_error(found, truth) < limit_px


def test_the_pyramid_sees_through_defocus_and_a_change_of_gain() -> None:
    second, truth = textured_scene(), zoom_and_shift(160, 0.99, -3.0, 2.0)
    disc = (torch.hypot(*torch.meshgrid(*(torch.arange(-4.0, 5),) * 2, indexing="ij")) <= 4).float()
    defocused = F.conv2d(
        F.pad(warp(second, truth), (4, 4, 4, 4), mode="replicate"),
        (disc / disc.sum()).expand(3, 1, 9, 9),
        groups=3,
    )
    found = flow_estimator("pyramid")(0.8 * defocused, second)
    assert endpoint_error(found, truth) < 0.15


def test_equal_images_have_no_flow() -> None:
    image = textured_scene(64)
    assert flow_estimator("pyramid")(image, image).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (67, 101)])
def test_the_pyramid_takes_any_size_and_a_flat_image(size: tuple[int, int]) -> None:
    flow = flow_estimator("pyramid")(torch.zeros(2, 3, *size), torch.full((2, 3, *size), 0.5))
    assert flow.shape == (2, 2, *size)
    assert flow.abs().max() < 1e-3


def test_a_batch_gives_what_its_images_give_alone() -> None:
    first, second = (
        torch.cat([textured_scene(64), textured_scene(64).flip(3)]),
        torch.cat([textured_scene(64).roll(1, 3), textured_scene(64)]),
    )
    estimate = flow_estimator("pyramid")
    together = estimate(first, second)
    torch.testing.assert_close(together[1:], estimate(first[1:], second[1:]), rtol=0, atol=1e-3)


def test_no_gradient_flows_through_an_estimate() -> None:
    image = textured_scene(32).requires_grad_()
    assert not flow_estimator("pyramid")(image, image).requires_grad
    assert not flow_estimator("dis")(image, image).requires_grad


def test_gradients_reach_the_images_where_they_are_asked_for() -> None:
    second = textured_scene(48).requires_grad_()
    first = warp(second.detach(), zoom_and_shift(48, 1.0, 1.0, 0.0))
    flow = flow_estimator("pyramid", differentiable=True)(first, second)
    (gradient,) = torch.autograd.grad(flow.sum(), second)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    with torch.no_grad():
        assert not flow_estimator("pyramid", differentiable=True)(first, second).requires_grad
    with pytest.raises(ConfigError, match="dis has no gradient"):
        flow_estimator("dis", differentiable=True)


@pytest.mark.parametrize("size", [96, 128, 192])
def test_crops_of_any_size_see_large_shifts(size: int) -> None:
    second, truth = textured_scene(size), zoom_and_shift(size, 1.0, 9.0, -7.0)
    assert endpoint_error(flow_estimator("cached")(warp(second, truth), second), truth) < 0.05


def test_an_unknown_estimator_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="pyramid, dis"):
        flow_estimator("farneback")


@pytest.mark.parametrize("name", ["pwcnet", "raft"])
def test_a_network_without_weights_says_which_key_is_missing(name: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        flow_estimator(name)
    assert "flow_weights" in caught.value.hint


def test_every_estimator_can_be_configured_and_no_other() -> None:
    assert get_args(TrainConfig.model_fields["flow"].annotation) == NAMES


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name whose RAFT answers weights that a checkpoint holds; its path is `tmp_path`."""
    folder = tmp_path / "torchvision" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "optical_flow.py").write_text(FAKE_RAFT)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


FAKE_RAFT = """
import torch

class Raft(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = torch.nn.Parameter(torch.zeros(2))

    def forward(self, first, second):
        assert min(first.shape[-2:]) >= 128 and first.shape[-1] % 8 == first.shape[-2] % 8 == 0
        assert first.min() == -1 and first.max() == 1 and not self.training
        flow = self.flow.view(1, 2, 1, 1).expand(len(first), 2, *first.shape[-2:])
        return [torch.zeros_like(flow), flow]

def raft_large(*, weights, progress):
    assert weights is None
    return Raft()
"""


def test_raft_takes_torchvisions_network_and_the_users_weights(torchvision: Path) -> None:
    torch.save({"flow": torch.tensor([3.0, -2.0])}, torchvision / "raft.pth")
    first = torch.zeros(2, 3, 60, 131)
    first[..., 0] = 1
    flow = flow_estimator("raft", torchvision / "raft.pth")(first, first)
    assert flow.shape == (2, 2, 60, 131)
    assert (flow == torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)).all()


def test_raft_without_torchvision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.models", "torchvision.models.optical_flow"):
        # None in sys.modules is Python's own way to say that a module is not there.
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="torchvision") as caught:
        flow_estimator("raft", Path("raft.pth"))
    assert "pip install torchvision" in caught.value.hint


def read_ppm(path: Path) -> Tensor:
    cv2 = pytest.importorskip("cv2")
    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255


def test_on_flying_chairs_the_pyramid_is_no_worse_than_dis() -> None:
    if not (DATA / "flow").is_dir():
        pytest.skip("the FlyingChairs pairs are not here")
    errors: dict[str, list[float]] = {"pyramid": [], "dis": []}
    for truth_file in sorted((DATA / "flow").glob("*-gt.flo")):
        values = np.fromfile(truth_file, np.float32)
        width, height = values[1:3].view(np.int32)
        truth = torch.from_numpy(values[3:].reshape(height, width, 2)).permute(2, 0, 1)[None]
        first, second = (read_ppm(truth_file.with_name(truth_file.name[:7] + f"-img{i}.ppm")) for i in (0, 1))
        for name, found in errors.items():
            found.append(endpoint_error(flow_estimator(name)(first, second), truth, margin=1))
    assert np.mean(errors["pyramid"]) < 1.05 * np.mean(errors["dis"]) < 3.6
