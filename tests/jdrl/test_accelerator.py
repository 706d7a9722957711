"""Training and scoring stay on their device, and a training step never waits for it.

The device is torch's `meta`, whose tensors have shapes but no values. Every operation is watched as if it ran on a GPU:
where the host would wait for it, what is copied to it anew in every step, and what is left in the host's memory.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jdrl.config import TrainConfig
from jdrl.data.batch import Batch
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.flow.pwcnet import PWCNet
from jdrl.metrics.colour import fit_colours, match_colours
from jdrl.metrics.drift import estimate_drift
from jdrl.metrics.fidelity import mae, psnr, ssim
from jdrl.networks import build_network, localise, restore
from jdrl.reblurring.blur_estimator import BlurEstimator
from jdrl.training.state import build_state
from jdrl.training.step import train_step
from tests.support.paths import ROOT

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
FROM_PYTHON = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class _Watch(TorchDispatchMode):
    """Counts, with the line of the project, what an operation on `meta` would mean for a GPU.

    Attributes:
        waits: The host reads a value of the device, or a shape that depends on values.
        copies: A tensor of the host is copied to the device, which from ordinary memory waits for it, too.
        strays: A tensor, but no single number, is made in the host's memory, or meets one of the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies: list[str] = []
        self.strays: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        host, device = (sorted_out(given, meta=meta) for meta in (False, True))
        if device and (answer := self.after_waiting(func, args, kwargs)) is not None:
            return answer
        results = SHAPES[func](*args, **kwargs) if device and func in SHAPES else func(*args, **kwargs)
        made = tensors_in(results)
        if func in COPIES and host and sorted_out(made, meta=True):
            self.copies.append(line())
        elif device and any(value.dim() for value in host):
            self.strays.append(f"{func} of both, {line()}")
        if any(value.dim() for value in sorted_out(made, meta=False)):
            self.strays.append(f"{func}, {line()}")
        return results

    def after_waiting(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Zeros, if the operation needs values of the device."""
        answer = None
        if func is aten._local_scalar_dense.default:
            answer = False if args[0].dtype is torch.bool else 0
        elif func is aten._to_copy.default and torch.device(kwargs.get("device") or DEVICE) != DEVICE:
            answer = torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        elif func is aten.copy_.default and not args[0].is_meta:
            answer = args[0].zero_()
        elif func is aten.nonzero.default:
            answer = args[0].new_zeros(args[0].numel(), args[0].dim(), dtype=torch.long)
        elif func is aten.index.Tensor and any(value.dtype is torch.bool for value in tensors_in(args[1])):
            answer = func(args[0], [position for index in args[1] for position in as_positions(index)])
        elif func is not aten.index.Tensor and torch.Tag.dynamic_output_shape in func.tags:
            raise NotImplementedError(f"{func} waits for the device, {line()}")
        if answer is not None:
            self.waits.append(line())
        return answer


class _WatchedConstruction(TorchFunctionMode):
    """Adds to `copies` what is built from Python's numbers, which no dispatched operation shows."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        listed = func is Tensor.__getitem__ and any(isinstance(index, list) for index in _as_tuple(args[1]))
        if (func in FROM_PYTHON or listed) and result.is_meta:
            self.watch.copies.append(line())
        return result


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def sorted_out(tensors: list[Tensor], *, meta: bool) -> list[Tensor]:
    return [value for value in tensors if value.is_meta == meta]


def as_positions(index: Tensor | None) -> list[Tensor | None]:
    """An index; instead of a mask the positions of all its pixels, dimension by dimension."""
    if index is None or index.dtype is not torch.bool:
        return [index]
    return [index.new_zeros(index.numel(), dtype=torch.long) for _ in index.shape]


def line() -> str:
    """The innermost line of the project that is running."""
    frames = (frame for frame in reversed(traceback.extract_stack()) if frame.filename != __file__)
    inside = (frame for frame in frames if frame.filename.startswith(str(ROOT / "jdrl")))
    return next((f"{frame.filename.removeprefix(f'{ROOT}/')}:{frame.lineno}" for frame in inside), "the test")


def resampled(image: Tensor, grid: Tensor, *_: Any) -> Tensor:
    return image.new_empty(*image.shape[:2], *grid.shape[1:3])


def resized(image: Tensor, size: Any, *_: Any) -> Tensor:
    return image.new_empty(*image.shape[:2], *size)


# The meta device's own answers take a hundred times as long.
SHAPES: dict[Any, Callable[..., Any]] = {
    aten.grid_sampler_2d.default: resampled,
    aten.upsample_bilinear2d.default: resized,
}


@contextmanager
def watched() -> Iterator[_Watch]:
    watch = _Watch()
    with _WatchedConstruction(watch), watch:
        yield watch


@pytest.fixture(autouse=True)
def _device_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Fabric train on `meta`, and ignores autocast, which does not know it."""
    monkeypatch.setattr("lightning_fabric.accelerators.CPUAccelerator.setup_device", lambda accelerator, device: None)
    monkeypatch.setattr(Fabric, "_validate_setup_optimizers", lambda fabric, optimisers: None)
    autocast = torch.autocast

    def known(device: str, *arguments: Any, **options: Any) -> AbstractContextManager[Any]:
        return nullcontext() if device == "meta" else autocast(device, *arguments, **options)

    monkeypatch.setattr(torch, "autocast", known)


def image(channels: int = 3, side: int = 16, count: int = 2) -> Tensor:
    return torch.empty(count, channels, side, side, device=DEVICE)


def batch(margin_px: int = 4) -> Batch:
    wide = 16 + 2 * margin_px
    return Batch(image(), image(3, wide), image(), image(1), image(2), image(1, wide))


def steps(config: TrainConfig, flow: FlowEstimator) -> Callable[[int], Tensor]:
    """A training step on the device, by its number."""
    fabric = Fabric(strategy=SingleDeviceStrategy(DEVICE))
    with DEVICE:
        state = build_state(fabric, config)

    def run(step: int) -> Tensor:
        state.step = step
        return train_step(fabric, state, [batch()] * config.accumulate, config, flow)

    return run


def no_flow(first: Tensor, second: Tensor) -> Tensor:
    return first.new_zeros(len(first), 2, *first.shape[-2:])


OFFICIAL = {
    **{"reblur_basis": "official", "reblur_radius_px": 7},
    **{"mask": "official", "warp": "official", "flow": "pyramid"},
}


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({}, 5),
        (OFFICIAL, 5),
        ({"method": "triplet", "reblur_basis": "discs", "accumulate": 2, "channels_last": True}, 5),
        ({"method": "triplet", "fusion": "concat", "warm_up_flow": "estimated", "reblur_basis": "rings"}, 1),
        ({"frozen_fraction": 0.3, "gradient_checkpointing": True, "optimiser": "adam"}, 0),
    ],
    ids=("default", "official", "triplet", "estimated warm-up", "frozen"),
)
def test_a_training_step_neither_waits_for_its_device_nor_leaves_it(
    tiny: TrainConfig, options: dict[str, Any], step: int
) -> None:
    config = tiny.model_copy(update=options)
    run = steps(config, flow_estimator("pyramid"))
    run(step)  # Constants are copied to the device once.
    with watched() as watch:
        assert run(step).is_meta
    assert (watch.waits, watch.copies, watch.strays) == ([], [], [])


PLANTED: dict[str, Callable[[Tensor], object]] = {
    "made on the host": lambda values: torch.zeros(3),
    "item": lambda values: values[0, 0, 0, 0].item(),
    "float": lambda values: float(values.sum()),
    "condition": lambda values: bool((values > 0).any()),
    "cpu": lambda values: values.cpu(),
    "list": lambda values: values.tolist(),
    "nonzero": lambda values: values.nonzero(),
    "mask as index": lambda values: values[values > 0],
    "host's index": lambda values: values[:, [0, 1]],
    "host's numbers": lambda values: values.new_tensor([1.0, 2.0]),
    "host's constant": lambda values: torch.ones(2).to(values.device),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_a_wait_or_a_tensor_of_the_host_is_found(plant: Callable[[Tensor], object]) -> None:
    values = image()
    with watched() as watch:
        plant(values)
    assert watch.waits + watch.copies + watch.strays


def test_what_is_planted_deep_in_a_step_is_found_in_its_line(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = steps(tiny.model_copy(update={"mask": "none"}), no_flow)
    run(5)
    monkeypatch.setattr("jdrl.losses.joint._rho", planted_loss)
    with watched() as watch:
        run(5)
    assert watch.waits
    assert watch.strays
    assert all(wait.startswith("jdrl/losses/joint.py:") for wait in watch.waits)
    assert all(stray.startswith("aten.zeros.default, jdrl/losses/joint.py:") for stray in watch.strays)


def planted_loss(difference: Tensor) -> Tensor:
    return difference.abs() * difference.detach().mean().item() + torch.zeros(3).sum()


SMALL: dict[str, dict[str, object]] = {
    "unet": {"width": 4},
    "nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
    "restormer": {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1},
    "mprnet": {"width": 8, "unet_growth": 4, "orsnet_growth": 4, "orsnet_blocks": 1},
    "ifan": {"width": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_network_stays_on_its_device_whole_and_tile_by_tile(name: str) -> None:
    network = build_network(name, **SMALL[name]).to(DEVICE)
    local = localise(network.eval(), 64)
    with watched() as watch:
        assert all(output.is_meta for output in restore(network.train(), image(side=32)))
    assert (watch.waits, watch.copies, watch.strays) == ([], [], [])
    with watched() as watch, torch.no_grad():
        assert restore(local.eval(), image(side=32, count=1))[0].is_meta
    assert watch.strays == []


def test_flow_networks_and_blur_estimators_stay_on_their_device() -> None:
    flow, estimator = PWCNet().to(DEVICE), BlurEstimator(3, 4, 1).to(DEVICE)
    with watched() as watch:
        assert flow(image(side=64), image(side=64)).shape == (2, 2, 64, 64)
    assert (watch.waits, watch.copies, watch.strays) == ([], [], [])
    with watched():
        estimator.estimate_radius_px(image())
    with watched() as watch:
        assert estimator.estimate_radius_px(image()).is_meta
    assert (watch.copies, watch.strays) == ([], [])


def test_scores_meet_no_tensor_of_the_host() -> None:
    """They wait, for they check the values of their images first."""
    first, second, valid = image(side=48, count=1), image(side=48, count=1), image(1, 48, count=1)
    with watched() as watch:
        for measure in (psnr, mae, ssim):
            assert measure(first, second, valid).is_meta
            measure(first, second)
        match_colours(first, fit_colours(first, second, valid))
        estimate_drift(image(side=96, count=1), image(side=96, count=1), image(1, 96, count=1), block=32)
    assert watch.waits
    assert not [stray for stray in watch.strays if "of both" in stray]
