"""Checkpoints of training runs: two safetensors files and a JSON header, written atomically, never pickled.

A checkpoint for inference alone is one safetensors file: the header is its metadata (`write_single_file`).

```
RUN/latest, RUN/best             names of checkpoints, one line each
RUN/step-00001000/
    checkpoint.json              format, version, step, network, encoding, data set, configuration
    network.safetensors          the averaged weights of the deblurring network: all that inference needs;
                                 network.*, estimator.*, fusion.* with a guide
    training.safetensors         network.*, reblur.*, optimiser.INDEX.NAME: all else that resuming needs
```
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file

from jdrl.networks import Guide, add_guide, build_network, load_published, localise, match_weights
from jdrl.networks.catalogue import is_factory
from sdd_toolkit.errors import CheckpointError, ConfigError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.storage.files import PARTIAL, replace_atomically, sync_to_disk, write_error, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

FORMAT, VERSION = "sdd-checkpoint", 1
SINGLE_FILE_SUFFIX = ".safetensors"
HEADER, WEIGHTS, TRAINING = "checkpoint.json", "network.safetensors", "training.safetensors"
LATEST, BEST = "latest", "best"
_OTHER_CHECKPOINT = "take another checkpoint of the run, or train again"
_STEP = re.compile(r"step-\d{8,}")


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """The header of a checkpoint.

    Attributes:
        step: Optimiser steps done.
        network: Name of the deblurring network.
        network_options: Its options.
        encoding: Of the images it was trained on.
        shards_sha256: SHA-256 of the data set's index.json.
        config: The `TrainConfig` as plain values.
        validation_psnr_db: Of the latest validation; None before the first.
        best_psnr_db: Of the best validation so far; None before the first.
        guide: Settings of the guide (method = "triplet"); None without one.
    """

    step: int
    network: str
    network_options: dict[str, Any]
    encoding: Encoding
    shards_sha256: str
    config: dict[str, Any]
    validation_psnr_db: float | None = None
    best_psnr_db: float | None = None
    guide: Guide | None = None

    @property
    def crop_px(self) -> int | None:
        """Side of the training crops, pixels; None where the configuration does not hold it."""
        crop = self.config.get("crop")
        return crop if isinstance(crop, int) and crop > 0 else None


_HEADER = TypeAdapter(CheckpointHeader)


def save_checkpoint(
    run: Path, header: CheckpointHeader, weights: Mapping[str, Tensor], training: Mapping[str, Tensor]
) -> Path:
    """Writes RUN/step-N and points RUN/latest to it; a kill at any moment leaves the earlier or the new state.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    folder = run / f"step-{header.step:08d}"
    partial = folder.with_name(folder.name + PARTIAL)
    content = {"format": FORMAT, "version": VERSION, **asdict(header)}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_copy_to_cpu(weights), partial / WEIGHTS)
        save_file(_copy_to_cpu(training), partial / TRAINING)
        (partial / HEADER).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name in (WEIGHTS, TRAINING, HEADER):
            sync_to_disk(partial / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise write_error(folder, error) from error
    except SafetensorError as error:
        raise CheckpointError(f"cannot write {folder}: {error}", hint="is the disk full?") from error
    write_pointer(run, LATEST, folder)
    return folder


def write_pointer(run: Path, name: str, checkpoint: Path) -> None:
    """Makes RUN/`name` (`latest` or `best`) name `checkpoint`."""
    write_text(run / name, checkpoint.name + "\n")


def prune(run: Path, keep: int) -> None:
    """Removes all but the `keep` newest checkpoints and those that `latest` and `best` name."""
    named = {_read_pointer(run, name) for name in (LATEST, BEST)}
    for folder in list_checkpoints(run)[:-keep]:
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)


def remove_all(run: Path) -> None:
    """Removes all checkpoints of a run and the pointers to them; logs stay."""
    for name in (LATEST, BEST):
        (run / name).unlink(missing_ok=True)
    for folder in list_checkpoints(run):
        shutil.rmtree(folder)


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not run.is_dir():
        return []
    folders = [path for path in run.iterdir() if _STEP.fullmatch(path.name) and (path / HEADER).is_file()]
    return sorted(folders, key=lambda path: int(path.name.partition("-")[2]))


def locate(path: Path) -> Path:
    """The checkpoint for `path`: `path` itself, or the folder that RUN/best, else RUN/latest, points to.

    Raises:
        CheckpointError: There is none.
    """
    if is_single_file(path) or (path / HEADER).is_file():
        return path
    for name in (BEST, LATEST):
        folder = path / (_read_pointer(path, name) or HEADER)
        if (folder / HEADER).is_file():
            return folder
    raise CheckpointError(
        f"{path} is no checkpoint and no training run that has one",
        hint="give the --out folder of `sdd train`, one of its step-… folders, or default: the weights that ship",
    )


def is_single_file(path: Path) -> bool:
    """Whether a path is a file that may hold a checkpoint by itself, by its name."""
    return path.suffix.lower() == SINGLE_FILE_SUFFIX and path.is_file()


def weights_file(place: Path) -> Path:
    """The file with the weights of the deblurring network of a checkpoint, a folder or a single file."""
    return place if is_single_file(place) else place / WEIGHTS


def header_file(place: Path) -> Path:
    """The file with the header of a checkpoint, a folder or a single file."""
    return place if is_single_file(place) else place / HEADER


def write_single_file(place: Path, target: Path) -> None:
    """Writes the header and the deblurring network of a checkpoint as one safetensors file.

    Args:
        place: The checkpoint, see `locate`.
        target: FILE.safetensors; replaced if it exists.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        InputError: The file cannot be written.
    """
    weights, header = read_tensors(weights_file(place)), _read_content(place)
    metadata = {FORMAT: json.dumps(header, sort_keys=True)}
    with replace_atomically(target) as partial:
        partial.write_bytes(save({name: weights[name] for name in sorted(weights)}, metadata))


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: There is none.
    """
    folder = run / (_read_pointer(run, LATEST) or HEADER)
    if not (folder / HEADER).is_file():
        raise CheckpointError(f"{run} has no checkpoint to resume from", hint="train without --resume first")
    return folder


def read_header(place: Path) -> CheckpointHeader:
    """Reads the header of a checkpoint, a folder or a single file.

    Raises:
        CheckpointError: The header is missing, malformed or of another version.
    """
    path, content = header_file(place), _read_content(place)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint header of this toolkit", hint=_OTHER_CHECKPOINT)
    version = content.pop("version", None)
    if version != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version}, this toolkit reads {VERSION}",
            hint="use the toolkit version that wrote it",
        )
    try:
        return _HEADER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}", hint=_OTHER_CHECKPOINT) from error


def _read_content(place: Path) -> Any:
    """The header of a checkpoint as JSON values, not yet checked."""
    path = header_file(place)
    try:
        if not is_single_file(place):
            return json.loads(path.read_text(encoding="utf-8"))
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(FORMAT)
        if text is not None:
            return json.loads(text)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint=_OTHER_CHECKPOINT) from error
    raise CheckpointError(
        f"{path} holds no checkpoint of this toolkit: its metadata have no {FORMAT}",
        hint="give a checkpoint's folder; published weights are given as --weights FILE --network NAME",
    )


def load_network(place: Path, network: str | None = None) -> tuple[nn.Module, CheckpointHeader]:
    """Loads the deblurring network of a checkpoint, in evaluation mode on the CPU, for images of any size.

    Averages over the whole input become averages over windows of the training crops' side (`jdrl.networks.localise`).

    Args:
        place: The checkpoint, a folder or a single file.
        network: Name of its network; None: that of the header. A custom network, `module:factory`, must be named here,
            because loading it runs its code.

    Raises:
        CheckpointError: The checkpoint is missing, malformed or of another network, or its weights do not fit.
    """
    header, described = read_header(place), header_file(place)
    custom = is_factory(header.network)
    if network not in (None, header.network):
        raise CheckpointError(
            f"{described} is of the network {header.network!r}, not {network!r}",
            hint=f"leave --network out, or {header.network}",
        )
    if custom and network is None:
        raise CheckpointError(
            f"{described} names a custom network, {header.network!r}: loading it runs that code",
            hint=f"if you trust it: --network {header.network}",
        )
    weights = read_tensors(weights_file(place))
    try:
        if not custom:
            # On the meta device first: a header may name a network of any size, weights are as large as their file.
            with torch.device("meta"):
                match_weights(_build_network(header), weights)
        built = _build_network(header)
    except (ConfigError, TypeError) as error:
        what, hint = (error.what, error.hint) if isinstance(error, ConfigError) else (str(error), "train again")
        raise CheckpointError(f"{described}: {what}", hint=hint) from error
    load_published(built, weights)
    if header.crop_px:
        built = localise(built, header.crop_px)
    return built.eval(), header


def _build_network(header: CheckpointHeader) -> nn.Module:
    return add_guide(build_network(header.network, **header.network_options), header.guide)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint=_OTHER_CHECKPOINT) from error


def read_part(path: Path, prefix: str) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file whose names start with `prefix.`, and strips it from their names.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(f"{prefix}.")]  # noqa: SIM118, no mapping
            return strip_prefix({name: file.get_tensor(name) for name in names}, prefix)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint=_OTHER_CHECKPOINT) from error


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds `prefix.` to each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Selects the tensors with `prefix.` and strips it from their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `optimiser.INDEX.NAME`; learning rates follow from the step and are not stored."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{index}.{name}": value for index, slot in state.items() for name, value in slot.items()}


def load_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads tensors `INDEX.NAME`, as of `optimiser_tensors` without the prefix, into the optimiser.

    Raises:
        CheckpointError: The tensors belong to another set of parameters.
    """
    slots: dict[int, dict[str, Tensor]] = {}
    plain = optimiser.state_dict()
    try:
        for name, value in tensors.items():
            index, _, key = name.partition(".")
            slots.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**plain, "state": slots})
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the optimiser's state does not fit: {error}", hint="train again") from error


def _copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _read_pointer(run: Path, name: str) -> str | None:
    try:
        content = (run / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return content if _STEP.fullmatch(content) else None
