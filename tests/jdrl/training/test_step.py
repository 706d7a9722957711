"""One optimiser step: in parts, frozen, in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from jdrl.config import TrainConfig
from jdrl.data.batch import Batch
from jdrl.data.crops import load_batch
from jdrl.data.training_data import load_training_data
from jdrl.flow.estimators import flow_estimator
from jdrl.networks import restore
from jdrl.training.collapse import spread_px
from jdrl.training.schedule import joint_start_step
from jdrl.training.state import TrainingState, build_state
from jdrl.training.step import COLUMNS, clip_gradients, phase_loss, train_step


def state_of(config: TrainConfig) -> tuple[Fabric, TrainingState]:
    fabric = Fabric(accelerator="cpu", devices=1, precision=config.precision)
    return fabric, build_state(fabric, config)


def batches(shards: Path, config: TrainConfig, parts: int) -> list[Batch]:
    whole = load_batch(load_training_data(shards, config).crops, 0, config.batch).tensors()
    size = config.batch // parts
    return [Batch(*(part[start : start + size] for part in whole)) for start in range(0, config.batch, size)]


@pytest.mark.parametrize("step", [0, 4])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(shards: Path, tiny: TrainConfig, step: int) -> None:
    weights, rows = [], []
    for parts in (1, 2, 4):
        config = tiny.model_copy(update={"batch": 4, "accumulate": parts, "optimiser": "adam"})
        fabric, state = state_of(config)
        state.step = step
        rows.append(train_step(fabric, state, batches(shards, config, parts), config, flow_estimator("pyramid")))
        weights.append(torch.cat([value.flatten() for value in state.reblur_network.state_dict().values()]))
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        torch.testing.assert_close(row, rows[0], rtol=1e-4, atol=1e-7)
        assert (weight - weights[0]).abs().max() < 0.02 * config.learning_rate


def test_a_frozen_network_keeps_every_bit_while_reblurring_learns(shards: Path, tiny: TrainConfig) -> None:
    config = tiny.model_copy(update={"frozen_fraction": 0.5, "warm_up_fraction": 0.0, "weight_decay": 0.1})
    fabric, state = state_of(config)
    before = [{name: value.clone() for name, value in part.state_dict().items()} for part in both(state)]
    row = train_step(fabric, state, batches(shards, config, 1), config, flow_estimator("pyramid"))
    after = [part.state_dict() for part in both(state)]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert not all(torch.equal(value, after[1][name]) for name, value in before[1].items())
    assert row[3] > 0
    assert row[1:3].tolist() == [0, 0]


def both(state: TrainingState) -> tuple[torch.nn.Module, torch.nn.Module]:
    return state.network, state.reblur_network


def test_in_half_precision_the_networks_alone_are_computed_in_half(
    shards: Path, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.model_copy(update={"precision": "bf16-mixed"})
    _, state = state_of(config)
    (batch,) = batches(shards, config, 1)
    inside: list[torch.dtype] = []
    state.network.get_submodule("_original_module.intro").register_forward_hook(
        lambda layer, images, output: inside.append(output.dtype)
    )
    seen: list[torch.dtype] = []

    def estimate_flow(first: Tensor, second: Tensor) -> Tensor:
        seen.extend([first.dtype, second.dtype])
        return first.new_zeros(first.shape[0], 2, *first.shape[-2:])

    outputs = restore(state.network, batch.blur)
    assert joint_start_step(config) <= config.steps - 1
    state.step = config.steps - 1
    terms = phase_loss(outputs, batch, state, config, estimate_flow)
    assert inside == [torch.bfloat16]
    assert {output.dtype for output in outputs} == {torch.float32}
    assert set(seen) == {torch.float32}
    assert terms.total.dtype == torch.float32


def test_the_gradient_of_each_network_is_clipped_by_its_own_norm() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    optimiser = torch.optim.Adam([{"params": [first]}, {"params": [second]}])
    first.grad, second.grad = torch.full((4,), 500.0), torch.full((4,), 0.05)
    norms = clip_gradients(optimiser, 1.0)
    torch.testing.assert_close(norms, torch.tensor([1000.0, 0.1]))
    torch.testing.assert_close(first.grad, torch.full((4,), 0.5), rtol=1e-5, atol=0)
    torch.testing.assert_close(second.grad, torch.full((4,), 0.05))


def test_a_step_trains_the_networks_at_their_rates_and_reports_both_norms(shards: Path, tiny: TrainConfig) -> None:
    config = tiny.model_copy(update={"learning_rate": 3e-3, "rate_ramp_steps": 0})
    fabric, state = state_of(config)
    row = train_step(fabric, state, batches(shards, config, 1), config, flow_estimator("pyramid"))
    assert [group["lr"] for group in state.optimiser.param_groups] == pytest.approx([3e-3, 1e-3])
    values = dict(zip(COLUMNS, row.tolist(), strict=True))
    assert values["gradient_norm"] > 0
    assert values["reblur_gradient_norm"] > 0
    assert values["reblur_radius_px"] > 0
    assert spread_px(values["reblur_radius_px"], values["reblur_radius_mean_square_px2"]) > 0


def test_a_norm_of_zero_leaves_gradients_as_they_are(shards: Path, tiny: TrainConfig) -> None:
    norms = []
    for limit in (0.0, 1e-9):
        config = tiny.model_copy(update={"gradient_norm": limit, "optimiser": "adam"})
        fabric, state = state_of(config)
        train_step(fabric, state, batches(shards, config, 1), config, flow_estimator("pyramid"))
        moments = [slot["exp_avg"].norm() for slot in state.optimiser.state_dict()["state"].values()]
        norms.append(float(torch.stack(moments).norm()))
    assert norms[0] > 1e-4
    assert norms[1] < 1e-9
    assert np.isfinite(norms).all()
