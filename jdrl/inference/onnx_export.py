"""A trained network as an ONNX file, compared with the original by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jdrl.networks import Localised
from sdd_toolkit.errors import InputError, MissingExtraError
from sdd_toolkit.storage.files import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jdrl.checkpoints.deblurrer import Deblurrer

TOLERANCE = 0.1 / 255
"""How far the file's answer may be from the network's: a tenth of a step of 8 bits."""

# In multiples of the network's own: the export is traced on one shape, compared on others.
_TRACED, _COMPARED = (8, 6), ((8, 6), (5, 9))


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        size_multiple: Of what number the sides of its input must be multiples.
        largest_difference: Between its answers and the network's, of 1; None where onnxruntime is not installed.
    """

    path: str
    size_multiple: int
    largest_difference: float | None


def export(deblurrer: Deblurrer, target: Path) -> Exported:
    """Writes a network as ONNX: `blurred` (1, 3, H, W) in [0, 1] to `deblurred`, the same.

    H and W are free but for the network's multiple. Statistics are those of the whole input: tiles and windows
    (`jdrl.networks.localised`) are the caller's. The file's metadata name the multiple, the encoding and the window.

    Args:
        deblurrer: See `jdrl.checkpoints.deblurrer`.
        target: The file, replaced if it is there.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        InputError: The network cannot be exported, answers differently in onnxruntime (nothing is written then), or
            the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError.of(package, "onnx")
    local = deblurrer.network
    final = _Final(local.network if isinstance(local, Localised) else local).eval()
    multiple = int(getattr(local, "size_multiple", 1))
    facts = {"sdd.size_multiple": str(multiple), "sdd.encoding": str(deblurrer.encoding)}
    if isinstance(local, Localised):
        facts["sdd.window_px"] = str(local.window_px)
    with replace_atomically(target) as partial:
        _write(final, partial, multiple, facts)
        difference = _largest_difference(final, partial, multiple) if find_spec("onnxruntime") else None
        if difference is not None and not difference <= TOLERANCE:
            partial.unlink()
            raise InputError(
                f"{target}: onnxruntime's answer differs from the network's by {difference * 255:.2g}/255",
                hint="it was not written; try other versions of torch and onnxscript",
            )
    return Exported(str(target), multiple, difference)


class _Final(nn.Module):
    """The final output alone, clipped as images are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, blurred: Tensor) -> Tensor:
        outputs = self.network(blurred)
        final: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        return final.clamp(0, 1)


def _write(final: nn.Module, path: Path, multiple: int, facts: dict[str, str]) -> None:
    # Names of multiples of the network's own: the exporter then knows that halves of halves are whole.
    height, width = (multiple * torch.export.Dim(side, min=2, max=65535) for side in ("height", "width"))
    try:
        with _quiet():
            program = torch.onnx.export(
                final,
                (_image(_TRACED, multiple),),
                input_names=["blurred"],
                output_names=["deblurred"],
                dynamic_shapes=({2: height, 3: width},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # what the exporter makes of somebody's own network is anybody's guess
        raise InputError(
            f"the network cannot be exported to ONNX: {_first_line(error.__cause__ or error)}",
            hint="networks whose steps depend on the image's content cannot",
        ) from error
    if program is None:
        raise InputError("torch did not export the network to ONNX", hint="try another version of torch")
    program.model.metadata_props.update(facts)
    program.save(path)


def _largest_difference(final: nn.Module, path: Path, multiple: int) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for shape in _COMPARED:
        image = _image(shape, multiple)
        (answer,) = session.run(None, {"blurred": image.numpy()})
        with torch.inference_mode():
            worst = max(worst, float((torch.from_numpy(answer) - final(image)).abs().max()))
    return worst


def _image(shape: tuple[int, int], multiple: int) -> Tensor:
    sides = (side * multiple for side in shape)
    return torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its own authors."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
