"""`sdd export-onnx`: exports a trained network to ONNX and compares the file with it by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jdrl.networks import LocalisedNetwork
from sdd_toolkit.errors import InputError, MissingExtraError
from sdd_toolkit.storage.files import replace_atomically
from sdd_toolkit.storage.targets import check_targets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jdrl.checkpoints.deblurrer import Deblurrer

TOLERANCE = 0.1 / 255
"""Largest difference between the outputs of file and network: a tenth of a step of 8 bits."""

# In multiples of the network's size_multiple: the export is traced on one shape and compared on others.
_TRACED_SHAPE, _COMPARED_SHAPES = (8, 6), ((8, 6), (5, 9))


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """A written ONNX file.

    Attributes:
        path: The file.
        size_multiple: The sides of its input must be multiples of it.
        largest_difference: Between its outputs and the network's, of 1; None if onnxruntime is not installed.
    """

    path: str
    size_multiple: int
    largest_difference: float | None


def export_onnx(deblurrer: Deblurrer, target: Path, *, overwrite: bool = False) -> OnnxExport:
    """Writes a network as ONNX: `blurred` (1, 3, H, W) in [0, 1] to `deblurred`, the same.

    H and W are any multiples of the network's size_multiple. Statistics are those of the whole input: tiles and windows
    (`jdrl.networks.localised`) are left to the caller. The file's metadata hold the multiple, the encoding and the
    side of the windows.

    Args:
        deblurrer: See `jdrl.checkpoints.deblurrer`.
        target: The file.
        overwrite: Whether it is replaced if it exists.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        InputError: The network cannot be exported, the outputs of onnxruntime differ (then no file is written), or the
            file exists or cannot be written.
    """
    check_targets([target], overwrite=overwrite)
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError.of(package, "onnx")
    network = deblurrer.network
    final = _FinalOutput(network.network if isinstance(network, LocalisedNetwork) else network).eval()
    multiple = int(getattr(network, "size_multiple", 1))
    metadata = {"sdd.size_multiple": str(multiple), "sdd.encoding": str(deblurrer.encoding)}
    if isinstance(network, LocalisedNetwork):
        metadata["sdd.window_px"] = str(network.window_px)
    with replace_atomically(target) as partial:
        _export_model(final, partial, multiple, metadata)
        difference = _largest_difference(final, partial, multiple) if find_spec("onnxruntime") else None
        if difference is not None and not difference <= TOLERANCE:
            partial.unlink()
            raise InputError(
                f"{target}: onnxruntime's output differs from the network's by {difference * 255:.2g}/255",
                hint="it was not written; try other versions of torch and onnxscript",
            )
    return OnnxExport(str(target), multiple, difference)


class _FinalOutput(nn.Module):
    """Returns only the final output, clipped to [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, blurred: Tensor) -> Tensor:
        outputs = self.network(blurred)
        final: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        return final.clamp(0, 1)


def _export_model(final: nn.Module, path: Path, multiple: int, metadata: dict[str, str]) -> None:
    # As multiples of the network's size_multiple, so that the exporter can divide the sides repeatedly.
    height, width = (multiple * torch.export.Dim(side, min=2, max=65535) for side in ("height", "width"))
    try:
        with _silence_exporter():
            program = torch.onnx.export(
                final,
                (_random_image(_TRACED_SHAPE, multiple),),
                input_names=["blurred"],
                output_names=["deblurred"],
                dynamic_shapes=({2: height, 3: width},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter may raise anything on a custom network
        raise InputError(
            f"the network cannot be exported to ONNX: {_first_line(error.__cause__ or error)}",
            hint="networks whose control flow depends on the image's content cannot be exported",
        ) from error
    if program is None:
        raise InputError("torch did not export the network to ONNX", hint="try another version of torch")
    program.model.metadata_props.update(metadata)
    program.save(path)


def _largest_difference(final: nn.Module, path: Path, multiple: int) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for shape in _COMPARED_SHAPES:
        image = _random_image(shape, multiple)
        (output,) = session.run(None, {"blurred": image.numpy()})
        with torch.inference_mode():
            largest = max(largest, float((torch.from_numpy(output) - final(image)).abs().max()))
    return largest


def _random_image(shape: tuple[int, int], multiple: int) -> Tensor:
    sides = (side * multiple for side in shape)
    return torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppresses log lines and warnings of the exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
