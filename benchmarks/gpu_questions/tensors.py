"""The reblurring operator, optical flow and the deformation on one device, and a deblurred frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_questions.scale import Place, Report, Scale, milliseconds, peak_gb, reset_peak, seconds
from benchmarks.gpu_questions.shipped import shipped_network
from benchmarks.gpu_questions.steps import FLOW, deformation
from benchmarks.jdrl import BASES, OFFICIAL, RADIUS_PX, RIVALS, batch_of, by_basis, flow_of
from jdrl.config import DeblurConfig, TrainConfig
from jdrl.data.batch import Batch
from jdrl.flow.bidirectional import Deformation, deform_bidirectionally
from jdrl.flow.estimators import FlowEstimator
from jdrl.inference.deblur import deblur
from jdrl.inference.tiles import choose_tiling
from jdrl.networks import build_network
from jdrl.reblurring.kernel_basis import Basis, planes
from jdrl.reblurring.operator import BY_CONVOLUTION, BY_RINGS, blur_with_gradients


def operator_question(place: Place, report: Report) -> None:
    """Forward and backward of the operator for one crop: bases, both formulations, and the official loops."""
    scale = place.scale
    generator = torch.Generator().manual_seed(0)

    def drawn(channels: int) -> Tensor:
        values = torch.randn(1, channels, scale.crop, scale.crop, generator=generator)
        return values.to(scale.device).requires_grad_()

    runs: dict[str, Callable[[], Tensor]] = {OFFICIAL: partial(RIVALS[OFFICIAL], drawn(3), drawn(35), drawn(8))}
    for name in BASES:
        basis = Basis(name, RADIUS_PX)
        logits = drawn(len(planes(basis)))
        runs[f"{name}, as chosen for the device"] = partial(by_basis, drawn(3), logits, name)
        for label, formulation in (("by rings", BY_RINGS), ("by convolution", BY_CONVOLUTION)):
            runs[f"{name}, {label}"] = partial(_blurred, drawn(3), logits, basis, formulation)
    for name, run in runs.items():
        reset_peak(scale)
        spent = seconds(lambda run=run: run().sum().backward(), scale)
        report({"operator": name, "forward and backward ms": milliseconds(spent), "peak GB": peak_gb(scale)})


def _blurred(image: Tensor, logits: Tensor, basis: Basis, formulation: Any) -> Tensor:
    return blur_with_gradients(image, logits.softmax(1), basis, formulation)


def flow_question(place: Place, report: Report) -> None:
    """Both directions of the flow of a step, by the estimators that need no weights, and PWC-Net with random ones."""
    scale = place.scale
    for count in scale.batches:
        batch = batch_of(scale.crop, count, scale.device)
        both = torch.cat([batch.blur, batch.sharp]), torch.cat([batch.sharp, batch.blur])
        for name in ("pyramid", "dis", "pwcnet"):
            with torch.no_grad():
                spent = seconds(partial(flow_of(name), *both), scale)
            report({"flow": name, "crops": count, "ms": milliseconds(spent)})


def deformation_question(place: Place, report: Report) -> None:
    """The deformation of a step, flow included: as it is, replayed as one CUDA graph, and compiled."""
    scale = place.scale
    batch = batch_of(scale.crop, scale.batches[0], scale.device)
    eager = partial(deformation, batch, flow_of(FLOW))
    report({"deformation": "as it is", "ms": milliseconds(seconds(eager, scale)), "operations": launches(eager, scale)})
    if scale.on_gpu:
        replay = capture(lambda *tensors: _deform(tensors, flow_of(FLOW)), _inputs(batch))
        spent = seconds(lambda: replay(*_inputs(batch)), scale)
        difference = float((replay(*_inputs(batch)).target - eager().target).abs().max())
        report({"deformation": "one CUDA graph", "ms": milliseconds(spent), "largest difference": difference})
    compiled = torch.compile(lambda *tensors: _deform(tensors, flow_of(FLOW)), backend=scale.backend)
    spent = seconds(lambda: compiled(*_inputs(batch)), scale)
    difference = float((compiled(*_inputs(batch)).target - eager().target).abs().max())
    report(
        {
            "deformation": f"compiled, {scale.backend}",
            "ms": milliseconds(spent),
            "largest difference": difference,
        }
    )


def _inputs(batch: Batch) -> tuple[Tensor, ...]:
    return batch.blur, batch.wide_sharp, batch.valid, batch.wide_valid, batch.flow


def _deform(tensors: tuple[Tensor, ...], flow: FlowEstimator) -> Deformation:
    blurred, sharp, valid, sharp_valid, stored = tensors
    return deform_bidirectionally(blurred, sharp, valid, sharp_valid, flow, stored_flow=stored, mask=TrainConfig().mask)


def capture(function: Callable[..., Deformation], inputs: tuple[Tensor, ...]) -> Callable[..., Deformation]:
    """The same function as one launch: recorded as a CUDA graph for inputs of these shapes.

    Every call overwrites the tensors that the one before it returned.
    """
    held = [tensor.clone() for tensor in inputs]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function(*held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function(*held)

    def replay(*given: Tensor) -> Deformation:
        for target, source in zip(held, given, strict=True):
            target.copy_(source)
        graph.replay()
        return results

    return replay


def launches(run: Callable[[], object], scale: Scale) -> int:
    """Kernels that a run starts on the GPU; on the CPU operations, views included."""
    activity = ProfilerActivity.CUDA if scale.on_gpu else ProfilerActivity.CPU
    run()
    with profile(activities=[activity]) as profiled:
        run()
    return sum(event.count for event in cast("Any", profiled.key_averages()))


def inference_question(place: Place, report: Report) -> None:
    """A frame through `deblur`, copies included: whole, and in the tiles that are chosen by default."""
    scale = replace(place.scale, repeats=min(3, place.scale.repeats))
    image = torch.rand(3, *scale.frame, generator=torch.Generator().manual_seed(0))
    networks = {name: build_network(name, **options) for name, options in scale.networks.items()}
    if (shipped := shipped_network()) is not None:
        networks["default"] = shipped
    for name, network in networks.items():
        network = network.to(scale.device).eval()
        tilings = {"whole": (0, 0), "tiles": choose_tiling(network, _tiling(scale))}
        for precision, dtype in scale.precisions.items():
            for label, (tile, overlap) in tilings.items():
                reset_peak(scale)
                with torch.autocast(scale.device, dtype=torch.bfloat16, enabled=dtype != torch.float32):
                    spent = seconds(partial(deblur, network, image, tile=tile, overlap=overlap), scale, warm_ups=1)
                report(
                    {
                        "network": name,
                        "precision": precision,
                        "frame": f"{scale.frame[1]}x{scale.frame[0]}, {label}",
                        "tile px": tile,
                        "ms": milliseconds(spent),
                        "peak GB": peak_gb(scale),
                    }
                )


def _tiling(scale: Scale) -> DeblurConfig:
    return DeblurConfig(device=scale.device, tile=None if scale.on_gpu else 48)
