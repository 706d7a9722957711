"""Reads published network weights from a file without unpickling code, and says what a refused file is."""

from __future__ import annotations

import re
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from jdrl.checkpoints.checkpoint import read_tensors
from sdd_toolkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_UNKNOWN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it: `git lfs pull`"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", "give weights for PyTorch"),
    (b"GGUF", "a GGUF file", "give weights for PyTorch"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
)
_BY_SUFFIX = {
    ".onnx": ("an ONNX model, not weights", "give the weights it was exported from"),
    ".pb": ("a TensorFlow model", "give weights for PyTorch"),
    ".tflite": ("a TensorFlow Lite model", "give weights for PyTorch"),
}
_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_PAGE_HINT = "the download failed; fetch the file itself, from its own address"
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMPY_DTYPES = ("Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "Int8", "UInt8", "Bool")


class _NumpyPlaceholder:
    """Stands for a NumPy number or array of a file, such as its best PSNR: it keeps nothing and calls nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_weights(path: Path) -> Mapping[str, object]:
    """Reads the content of a weights file; no code in it is run.

    Args:
        path: A `.safetensors` file, or a file of `torch.save`.

    Raises:
        CheckpointError: The file cannot be read, or holds more than tensors and plain values.
    """
    _check_kind(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with _numpy_placeholders():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="check the path") from error
    except Exception as error:  # a damaged file may make the reader raise anything
        raise _refusal(path, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, no weights by name",
            hint="give the file that its authors published",
        )
    return {str(name): value for name, value in content.items()}


@contextmanager
def _numpy_placeholders() -> Iterator[None]:
    """Lets placeholders stand for the names by which files refer to NumPy's numbers and arrays.

    None of NumPy's code is reached. torch takes a name from the class itself: with an explicit one only from 2.6 on.
    """
    functions = [(module, name) for module in _NUMPY_MODULES for name in ("scalar", "_reconstruct")]
    dtypes = [("numpy.dtypes", f"{name}DType") for name in _NUMPY_DTYPES]
    names = (*functions, ("numpy", "dtype"), ("numpy", "ndarray"), *dtypes)
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(
        [type(name, (_NumpyPlaceholder,), {"__module__": module}) for module, name in names]
    )
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _check_kind(path: Path) -> None:
    """Refuses what is no file of PyTorch weights, by its first bytes and its name.

    Raises:
        CheckpointError: It is a folder, empty, or of another kind.
    """
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, no file of weights",
            hint="a training run is given as the checkpoint, without --weights; of others give the file within",
        )
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="check the path") from error
    kind = _kind(path, start)
    if kind is not None:
        raise CheckpointError(f"{path} is {kind[0]}", hint=kind[1])


def _kind(path: Path, start: bytes) -> tuple[str, str] | None:
    """What a file is that holds no weights for PyTorch, and what to do; None where it may hold some."""
    if not start:
        return "empty", "fetch it again"
    if _PAGE.match(start):
        return "a web page", _PAGE_HINT
    for beginning, kind, hint in _BEGINNINGS:
        if start.startswith(beginning):
            return kind, hint
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_archive(path)
    return _BY_SUFFIX.get(path.suffix.lower())


def _kind_of_archive(path: Path) -> tuple[str, str] | None:
    """The same for a ZIP archive, which a file of `torch.save` is, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "cut short or damaged: a ZIP archive, as torch.save writes them, without its end", "fetch it again"
    ends = {name.partition("/")[2] for name in names}
    if "constants.pkl" in ends or any(end.startswith("code/") for end in ends):
        return (
            "a TorchScript program, code and weights: refused",
            "if you trust it, save its weights where it runs: safetensors.torch.save_file(model.state_dict(), FILE)",
        )
    if "data.pkl" not in ends:
        return f"a ZIP archive of {', '.join(names[:3]) or 'nothing'}, no file of torch.save", "unpack it"
    return None


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that torch's reader of plain values refuses."""
    text = str(error)
    found = _UNKNOWN_GLOBAL.search(text)
    convert = (
        "if you trust it, load it where its code is and save the tensors alone: "
        "safetensors.torch.save_file(model.state_dict(), FILE)"
    )
    if found:
        return CheckpointError(
            f"{path} refers to {found[1]}: it holds more than tensors and plain values, which could run code: refused",
            hint=convert,
        )
    if "legacy .tar" in text:
        return CheckpointError(f"{path} is in torch's .tar format of 2017, which is not read safely", hint=convert)
    return CheckpointError(
        f"{path} is damaged, no file of torch.save, or holds more than tensors and plain values: refused",
        hint="fetch it again; or ask its authors for a file of tensors only",
    )
