"""Two training processes on one card, each with half of the crops: seconds of a step, and whether they stay equal."""

from __future__ import annotations

from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu_questions.scale import Place, Report, Scale, milliseconds, seconds
from benchmarks.gpu_questions.steps import FLOW
from benchmarks.jdrl import RADIUS_PX, batch_of, flow_of, our_loss
from jdrl.networks import build_network
from jdrl.reblurring.network import ReblurNetwork


def processes_question(place: Place, report: Report) -> None:
    """A step of one process with all crops, then of two with half of them each; gradients are averaged by gloo."""
    scale = place.scale
    for count in (1, 2):
        rows = run_together(scale, count, place.folder / f"rendezvous-{count}")
        weights = [row["weights"] for row in rows]
        report(
            {
                "processes": count,
                "crops in all": 2 * scale.batches[0],
                "step ms": milliseconds(max(row["seconds"] for row in rows)),
                "weights differ by": max(abs(weight - weights[0]) for weight in weights),
            }
        )


def run_together(scale: Scale, count: int, rendezvous: Path) -> list[dict[str, Any]]:
    context = get_context("spawn")
    ends = [context.Pipe(duplex=False) for _ in range(count)]
    started = [
        context.Process(target=one_of, args=(scale, rank, count, rendezvous, ends[rank][1])) for rank in range(count)
    ]
    for process, (_, sender) in zip(started, ends, strict=True):
        process.start()
        sender.close()
    rows = [receiver.recv() for receiver, _ in ends]
    for process in started:
        process.join()
    return rows


def one_of(scale: Scale, rank: int, count: int, rendezvous: Path, sender: Connection) -> None:
    """Some steps of one process; sends its seconds and the sum of its weights."""
    torch.set_num_threads(1)
    # NCCL refuses two processes on one card.
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=count)
    torch.manual_seed(0)
    name, options = next(iter(scale.networks.items()))
    networks = [build_network(name, **options), ReblurNetwork(RADIUS_PX, 32)]
    network, reblurring = (DistributedDataParallel(module.to(scale.device)) for module in networks)
    reblurring.basis = reblurring.module.basis
    batch, flow = batch_of(scale.crop, 2 * scale.batches[0] // count, scale.device), flow_of(FLOW)
    optimiser = torch.optim.AdamW([*network.parameters(), *reblurring.parameters()], lr=2e-5)

    def step() -> None:
        our_loss(network, reblurring, batch, flow).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    spent = seconds(partial(step), scale)
    total = float(sum(value.double().sum() for value in network.parameters()))
    sender.send({"seconds": spent, "weights": total})
    distributed.destroy_process_group()
