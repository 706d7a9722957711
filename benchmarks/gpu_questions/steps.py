"""A joint training step on one device: whole, its parts, its networks compiled or with channels last."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_questions.scale import Place, Report, Scale, milliseconds, peak_gb, reset_peak, seconds, wait
from benchmarks.jdrl import RADIUS_PX, batch_of, flow_of, network_loss, our_loss
from jdrl.config import TrainConfig
from jdrl.data.batch import Batch
from jdrl.flow.bidirectional import Deformation
from jdrl.networks import build_network, restore
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.reblur import reblur
from jdrl.training.step import estimate_deformation

FLOW = "pyramid"


def optimiser_step(
    name: str,
    scale: Scale,
    dtype: torch.dtype,
    batch: Batch,
    *,
    alone: bool = False,
    change: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Callable[[], None]:
    """A step of a network, ready to be repeated; `alone`: with a plain loss; `change` is applied to the network."""
    torch.manual_seed(0)
    network = change(build_network(name, **scale.networks[name]).to(scale.device).train())
    reblurring = ReblurNetwork(RADIUS_PX, 32).to(scale.device)
    parameters = [*network.parameters(), *([] if alone else reblurring.parameters())]
    optimiser = torch.optim.AdamW(parameters, lr=2e-5)
    flow = flow_of(FLOW)

    def step() -> None:
        with torch.autocast(scale.device, dtype=torch.bfloat16, enabled=dtype != torch.float32):
            loss = network_loss(network, reblurring, batch) if alone else our_loss(network, reblurring, batch, flow)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def step_question(place: Place, report: Report) -> None:
    """Seconds of a step and of one that trains the network alone; their quotient is the network's share."""
    scale = place.scale
    for name in scale.networks:
        for precision, dtype in scale.precisions.items():
            for count in scale.batches:
                batch = batch_of(scale.crop, count, scale.device)
                reset_peak(scale)
                whole = seconds(optimiser_step(name, scale, dtype, batch), scale)
                peak = peak_gb(scale)
                alone = seconds(optimiser_step(name, scale, dtype, batch, alone=True), scale)
                report(
                    {
                        "network": name,
                        "precision": precision,
                        "crops": count,
                        "step ms": milliseconds(whole),
                        "network ms": milliseconds(alone),
                        "share of the network": round(alone / whole, 3),
                        "crops a second": round(count / whole, 1),
                        "peak GB": peak,
                    }
                )


def parts_question(place: Place, report: Report) -> None:
    """Seconds of the parts of a step of the first batch size, each by itself, forward and backward where it has one."""
    scale = place.scale
    batch, name = batch_of(scale.crop, scale.batches[0], scale.device), next(iter(scale.networks))
    network = build_network(name, **scale.networks[name]).to(scale.device).train()
    reblurring, flow = ReblurNetwork(RADIUS_PX, 32).to(scale.device), flow_of(FLOW)
    both = torch.cat([batch.blur, batch.sharp]), torch.cat([batch.sharp, batch.blur])
    found = flow(*both)
    parts: dict[str, Callable[[], object]] = {
        "flow, both ways": lambda: flow(*both),
        "deformation and masks": lambda: deformation(batch, lambda first, second: found),
        "reblurring network and operator": lambda: reblurred(reblurring, batch).mean().backward(),
        "moving average": lambda: average(network),
    }
    for precision, dtype in scale.precisions.items():
        parts[f"{name}, {precision}"] = partial(forward_and_backward, network, scale, dtype, batch)
    for part, run in parts.items():
        report({"part": part, "ms": milliseconds(seconds(run, scale))})


def forward_and_backward(network: nn.Module, scale: Scale, dtype: torch.dtype, batch: Batch) -> None:
    with torch.autocast(scale.device, dtype=torch.bfloat16, enabled=dtype != torch.float32):
        restore(network, batch.blur)[0].float().mean().backward()


def deformation(batch: Batch, flow: Callable[[Tensor, Tensor], Tensor]) -> Deformation:
    return estimate_deformation(batch.blur, batch, TrainConfig(), flow)


def reblurred(network: ReblurNetwork, batch: Batch) -> Tensor:
    return reblur(batch.sharp.detach().requires_grad_(), network(batch.sharp, batch.blur), network.basis)


@torch.no_grad()
def average(network: nn.Module) -> None:
    for value in network.parameters():
        torch.zeros_like(value).lerp_(value, 0.001)


def channels_last_question(place: Place, report: Report) -> None:
    """Seconds of a step of the first batch size with either memory layout."""
    layouts = {"planes": torch.contiguous_format, "channels last": torch.channels_last}
    compare(place, report, {name: partial(_with_layout, layout=layout) for name, layout in layouts.items()})


def _with_layout(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    return network.to(memory_format=layout)


def compile_question(place: Place, report: Report) -> None:
    """Seconds of a step of the first batch size with the network as it is and compiled, and of the compilation."""
    compiled = partial(torch.compile, backend=place.scale.backend)
    compare(place, report, {"as it is": lambda network: network, f"compiled, {place.scale.backend}": compiled})


def compare(place: Place, report: Report, changes: dict[str, Callable[[nn.Module], nn.Module]]) -> None:
    """The step of every network and precision under every change of the network."""
    scale = place.scale
    batch = batch_of(scale.crop, scale.batches[0], scale.device)
    for name in scale.networks:
        for precision, dtype in scale.precisions.items():
            for label, change in changes.items():
                step = optimiser_step(name, scale, dtype, batch, change=change)
                start = time.perf_counter()
                step()
                wait(scale)
                first = time.perf_counter() - start
                report(
                    {
                        "network": name,
                        "precision": precision,
                        "variant": label,
                        "step ms": milliseconds(seconds(step, scale)),
                        "first step s": round(first, 2),
                    }
                )
