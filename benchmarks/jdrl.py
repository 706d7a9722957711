"""JDRL's costs: our reblurring and our training step beside the official formulation, in one run.

`python benchmarks/jdrl.py` prints a table for every section; `--only operator step` runs these.

  operator  reblurring of 1 x 3 x 256 x 256: forward and backward seconds, bytes that autograd keeps between them
  step      one joint training step of the U-Net on a crop: seconds, and peak memory beyond the network's own

What a GPU makes of it is asked by `benchmarks/gpu.py`.

The official formulation is in `benchmarks/rivals/official_reblurring.py`, as published (loops over the entries of a
kernel) and with whole tensors instead of the loops. Before the operator is timed, both are compared with our
`official` basis: values within 2e-6, gradients within 2e-5 of their largest.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# A script's own folder comes first otherwise, and there this very file would hide the package `jdrl`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Large tensors of every process come and go with their memory, so that peaks are theirs.
os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from benchmarks.fresh_process import in_fresh_process, resident_mb
from benchmarks.rivals.official_reblurring import Operator, Towers, by_loops, by_whole_tensors
from jdrl.config import BasisName, TrainConfig
from jdrl.data.batch import Batch
from jdrl.flow.bidirectional import deform_bidirectionally
from jdrl.flow.estimators import FlowEstimator, flow_estimator
from jdrl.flow.pwcnet import PWCNet
from jdrl.flow.warping import warp
from jdrl.losses.joint import charbonnier, joint_loss
from jdrl.networks import build_network, restore
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.network import ReblurNetwork
from jdrl.reblurring.official_network import official_weights
from jdrl.reblurring.reblur import reblur
from jdrl.training.step import estimate_deformation

RADIUS_PX = 7
SECTIONS = ("operator", "step")
OFFICIAL = "official, loops"
ALONE = "network alone"
BF16 = ", bf16"  # at the end of a row's name: the networks compute in bfloat16, as `precision = "bf16-mixed"` has it
RIVALS: dict[str, Operator] = {OFFICIAL: by_loops, "official, whole tensors": by_whole_tensors}
BASES: tuple[BasisName, ...] = ("hats", "discs", "rings")


def batch_of(size: int, count: int = 1, device: str = "cpu") -> Batch:
    """Smooth random crops and the same moved by a pixel or two, so that there is something for the flow to find."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, size // 4, size // 4, generator=generator)
    blurred = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    sharp, valid = blurred.roll((2, -1), (2, 3)), torch.ones_like(blurred[:, :1])
    return Batch(blurred, sharp, blurred, valid, torch.zeros_like(blurred[:, :2]), valid).to(torch.device(device))


def flow_of(name: str) -> FlowEstimator:
    """An estimator of `jdrl.flow.estimators`; `pwcnet` with random weights, which cost what the published ones do."""
    if name != "pwcnet":
        return flow_estimator(name)
    network = PWCNet().eval().requires_grad_(False)
    return lambda first, second: network.to(first.device)(first, second)


# --- the operator ---


def ours_official(image: Tensor, profiles: Tensor, mixing: Tensor) -> Tensor:
    return reblur(image, official_weights(profiles, mixing), "official")


def check_equality(size: int) -> None:
    """The official formulations and our `official` basis are one operator."""
    torch.manual_seed(1)
    inputs = [torch.rand(1, 3, size, size), 2 * torch.randn(1, 35, size, size), torch.randn(1, 8, size, size)]
    inputs = [value.requires_grad_() for value in inputs]
    ours = ours_official(*inputs)
    probe = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, inputs, probe)
    for name, operator in RIVALS.items():
        dense = operator(*inputs)
        worst = float((ours - dense).detach().abs().max())
        expected = torch.autograd.grad(dense, inputs, probe)
        relative = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(gradients, expected, strict=True))
        if worst >= 2e-6 or relative >= 2e-5:
            raise SystemExit(f"{name} differs from ours: {worst:.1e}, gradients {relative:.1e}")
        print(f"{name}: equal to ours at {size} px, |diff| {worst:.1e}, gradients {relative:.1e} of their largest")


def kept_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps between forward and backward."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    del output
    return sum(storages.values())


def seconds(run: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """Median forward and backward time after one warm-up."""
    forward, backward = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        output = run()
        middle = time.perf_counter()
        output.sum().backward()
        forward.append(middle - start)
        backward.append(time.perf_counter() - middle)
    return statistics.median(forward[1:]), statistics.median(backward[1:])


def operator_section(options: argparse.Namespace) -> None:
    size = (options.size, options.size)
    check_equality(min(options.size, 64))
    torch.manual_seed(0)
    image = torch.rand(1, 3, *size, requires_grad=True)
    maps = [torch.randn(1, count, *size, requires_grad=True) for count in (35, 8)]
    rows: dict[str, Callable[[], Tensor]] = {
        **{name: partial(operator, image, *maps) for name, operator in RIVALS.items()},
        "official, ours": partial(ours_official, image, *maps),
    }
    for basis in BASES:
        logits = torch.randn(1, len(planes(Basis(basis, RADIUS_PX))), *size, requires_grad=True)
        rows[f"{basis}, ours"] = partial(by_basis, image, logits, basis)
    print(f"\noperator, 1x3x{size[0]}x{size[1]}, R = {RADIUS_PX}, float32, {torch.get_num_threads()} threads")
    print(f"{'':24s}{'forward s':>11s}{'backward s':>12s}{'kept MB':>10s}{'x loops':>9s}{'x tensors':>11s}")
    spent: dict[str, float] = {}
    for name, run in rows.items():
        kept = kept_bytes(run) / 1e6
        there, back = seconds(run, options.repeats)
        spent[name] = there + back
        faster = [spent[rival] / spent[name] for rival in RIVALS if rival in spent]
        times = "".join(f"{factor:{width}.1f}" for factor, width in zip(faster, (9, 11), strict=False))
        print(f"{name:24s}{there:11.3f}{back:12.3f}{kept:10.1f}{times}", flush=True)


def by_basis(image: Tensor, logits: Tensor, basis: BasisName) -> Tensor:
    return reblur(image, logits.softmax(1), basis)


# --- one joint training step ---


def our_loss(network: nn.Module, reblurring: ReblurNetwork, batch: Batch, flow: FlowEstimator) -> Tensor:
    outputs = restore(network, batch.blur)
    found = estimate_deformation(outputs[0].detach().float().clamp(0, 1), batch, TrainConfig(), flow)
    return joint_loss(outputs, batch.blur, found, batch.valid, reblurring).total


def official_loss(network: nn.Module, towers: Towers, batch: Batch, flow: FlowEstimator, operator: Operator) -> Tensor:
    """Both deformations with the published warp and mask, means over all pixels, and reblurring."""
    output = restore(network, batch.blur)[0]
    final = output.detach().clamp(0, 1)
    valid = batch.valid, batch.wide_valid
    found = deform_bidirectionally(final, batch.wide_sharp, *valid, flow, mask="official", official_warp=True)
    moved = warp(output, found.to_deblurred, official=True)
    blur_frame = charbonnier(found.target_mask * output, found.target_mask * found.target)
    sharp_frame = charbonnier(found.sharp_mask * found.sharp, found.sharp_mask * moved)
    reblurred = operator(output, *towers(output, batch.blur))
    return blur_frame + sharp_frame + 0.5 * charbonnier(reblurred, batch.blur)


def network_loss(network: nn.Module, _: nn.Module, batch: Batch) -> Tensor:
    return charbonnier(restore(network, batch.blur)[0], batch.sharp)


def stepper(name: str, options: argparse.Namespace) -> Callable[[], None]:
    """One optimiser step, ready to be repeated: of the network alone, of ours, or of an official formulation."""
    torch.manual_seed(0)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if name.endswith(BF16) else "32-true")
    network = fabric.setup_module(build_network("unet", width=options.width).train())
    batch = batch_of(options.crop)
    reblurring: nn.Module
    if name.startswith(ALONE):
        reblurring, loss = nn.Module(), network_loss
    elif name in RIVALS:
        reblurring = fabric.setup_module(Towers())
        loss = partial(official_loss, flow=flow_of(options.rival_flow), operator=RIVALS[name])
    else:
        reblurring = fabric.setup_module(ReblurNetwork(RADIUS_PX, width=32, basis=options.basis))
        loss = partial(our_loss, flow=flow_of(options.flow))
    optimiser = torch.optim.AdamW([*network.parameters(), *reblurring.parameters()], lr=2e-5)

    def step() -> None:
        fabric.backward(loss(network, reblurring, batch))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def step_cost(name: str, options: argparse.Namespace) -> tuple[float, float]:
    """In a process of its own: median seconds after a warm-up, peak resident megabytes."""
    step = stepper(name, options)
    spent = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        step()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:]), resident_mb("VmHWM")


def step_section(options: argparse.Namespace) -> None:
    ours = f"ours, {options.basis}"
    flows = f"our flow {options.flow}, theirs {options.rival_flow}"
    print(f"\njoint step, U-Net, one crop of {options.crop} px, {torch.get_num_threads()} threads; {flows}")
    print(f"{'':24s}{'whole step':>25s}{'beyond the network':>25s}{'official over it':>32s}")
    heads = (("s", 13), ("MB", 12), ("s", 13), ("MB", 12), ("step", 12), ("s beyond", 10), ("MB beyond", 10))
    print(" " * 24 + "".join(f"{head:>{width}}" for head, width in heads))
    found = {}
    for name in (ALONE, ALONE + BF16, ours, ours + BF16, OFFICIAL):
        found[name] = in_fresh_process(step_cost, name, options)
    for name, (spent, peak_mb) in found.items():
        line = f"{name:24s}{spent:13.2f}{peak_mb:12.0f}"
        if name.startswith(ALONE):
            print(line)
            continue
        own = beyond(name, found)
        line += f"{own[0]:13.2f}{own[1]:12.0f}"
        if name != OFFICIAL:
            times = [theirs / mine for theirs, mine in zip(beyond(OFFICIAL, found), own, strict=True)]
            line += f"{found[OFFICIAL][0] / spent:12.1f}{times[0]:10.1f}{times[1]:10.1f}"
        print(line)


def beyond(name: str, found: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """(seconds, megabytes) of a step less those of the network alone at the same precision."""
    alone = found[ALONE + BF16 if name.endswith(BF16) else ALONE]
    return found[name][0] - alone[0], found[name][1] - alone[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="side of the operator's image, px")
    parser.add_argument("--crop", type=int, default=256, help="side of the training crops, px")
    parser.add_argument("--width", type=int, default=64, help="of the U-Net of the CPU step")
    parser.add_argument("--basis", choices=(*BASES, "official"), default="hats", help="of our step")
    parser.add_argument("--flow", default="pyramid", help="of our step")
    parser.add_argument("--rival-flow", default="pwcnet", help="of the official step")
    options = parser.parse_args()
    sections = {"operator": operator_section, "step": step_section}
    for name in options.only:
        sections[name](options)


if __name__ == "__main__":
    main()
