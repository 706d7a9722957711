"""Writes the patch layout, format `sdd-patches` 1, from a folder of pairs: one patch a row, one row a chunk.

For loaders of finished samples, such as Hugging Face `datasets`.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import PairRecord, Report, ShardInfo
from sdd_toolkit.shards.arrays import create_array, write_array
from sdd_toolkit.shards.building import assign_to_shards
from sdd_toolkit.shards.codecs import CODECS, Profile
from sdd_toolkit.shards.index import (
    INDEX_NAME,
    VERSION,
    ShardHeader,
    header_attributes,
    text_with_sha256,
)
from sdd_toolkit.shards.patch_reader import PatchIndex, PatchReader, read_patch_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import DTYPE, PATCH_FORMAT, Patch
from sdd_toolkit.storage.files import DeferredErrorFile, replace_atomically, sha256_of, write_error, write_text
from sdd_toolkit.storage.targets import check_own
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.shards.codecs import Codec


def write_patches(
    shards: Path,
    out: Path,
    *,
    profile: Profile | None = None,
    split: str | None = None,
    patches_per_shard: int = 512,
    keep: Callable[[Patch], bool] | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes the patches of a folder of pairs into the folder `out`: shards, then `index.json`.

    The same pairs and options give the same bytes. If `out` holds exactly that, nothing is done.

    Args:
        shards: Folder that `sdd pack` wrote.
        out: Folder of the patches; what lies there of this format is replaced.
        profile: How arrays are stored; None means as the pairs are.
        split: Only this split; None means all.
        patches_per_shard: Rows in one file.
        keep: Whether a patch is written; None means all are.
        overwrite: Write again even if nothing changed.
        track: Shows progress, one step a patch.

    Raises:
        InputError: No pairs there, no patch to write, `out` cannot be written or holds something else.
        IntegrityError: A shard is missing or damaged; names it.
    """
    started = time.monotonic()
    with ShardReader(shards, split) as reader:
        source = str(json.loads((shards / INDEX_NAME).read_text(encoding="utf-8"))["sha256"])
        codec = profile.codec if profile is not None else reader.index.codec
        plan = _Plan(source, codec, _plan_shards(reader, keep, patches_per_shard))
        total = sum(len(shard.patches) for shard in plan.shards)
        if not total:
            raise InputError(
                f"{shards} has no patches to write", hint="a smaller [pack] patch_size, or a milder `keep`"
            )
        if codec not in CODECS:
            raise InputError(f"nothing is written in the old codec {codec!r} any more", hint="give a profile")
        check_own([out / INDEX_NAME], overwrite=overwrite)
        done = 0
        if overwrite or not _is_up_to_date(out, plan):
            done = total
            _write_all(reader, out, plan, track)
    return Report(
        stage="patches",
        total=total,
        done=done,
        skipped=total - done,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
    )


@dataclass(frozen=True, slots=True)
class _PlannedShard:
    name: str
    split: str
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The shards to write, the SHA-256 of the index of pairs they are made from, and their codec."""

    source: str
    codec: str
    shards: tuple[_PlannedShard, ...]


def _plan_shards(
    reader: ShardReader, keep: Callable[[Patch], bool] | None, patches_per_shard: int
) -> tuple[_PlannedShard, ...]:
    by_split: dict[str, list[Patch]] = {shard.split: [] for shard in reader.shards}
    for patch in reader.patches:
        if keep is None or keep(patch):
            by_split[reader.split_of(patch.pair)].append(patch)
    return tuple(
        _PlannedShard(name, split, part)
        for split, patches in by_split.items()
        for name, part in assign_to_shards(split, patches, patches_per_shard)
    )


def _is_up_to_date(out: Path, plan: _Plan) -> bool:
    """Whether `out` holds exactly the planned shards, their bytes intact."""
    if not (out / INDEX_NAME).is_file():
        return False
    index = read_patch_index(out)
    same = (index.source, index.codec, index.toolkit) == (plan.source, plan.codec, __version__)
    if not same or [shard.name for shard in index.shards] != [shard.name for shard in plan.shards]:
        return False
    for shard in index.shards:
        path = out / shard.name
        if not (path.is_file() and path.stat().st_size == shard.bytes and sha256_of(path) == shard.sha256):
            return False
    with PatchReader(out) as written:
        return written.patches == tuple(patch for shard in plan.shards for patch in shard.patches)


def _write_all(reader: ShardReader, out: Path, plan: _Plan, track: Track) -> None:
    _remove_old(out)
    written = []
    with track("patches", sum(len(shard.patches) for shard in plan.shards)) as advance:
        for shard in plan.shards:
            header = ShardHeader(shard.split, reader.encoding, reader.index.patch_size, plan.codec)
            with replace_atomically(out / shard.name) as partial_path:
                _write_shard(partial_path, header, reader, shard.patches)
                size, digest = partial_path.stat().st_size, sha256_of(partial_path)
            pairs = tuple(dict.fromkeys(patch.pair for patch in shard.patches))
            written.append(ShardInfo(shard.name, shard.split, pairs, len(shard.patches), size, digest))
            advance(len(shard.patches), shard.name)
    index = PatchIndex(
        name=reader.index.name,
        encoding=reader.encoding,
        transfer=reader.index.transfer,
        patch_size=reader.index.patch_size,
        codec=plan.codec,
        toolkit=__version__,
        source=plan.source,
        shards=tuple(written),
    )
    content = {"format": PATCH_FORMAT, "version": VERSION, **json.loads(to_json(index))}
    write_text(out / INDEX_NAME, text_with_sha256(content))


def _remove_old(out: Path) -> None:
    """Removes the index in `out`, then the shards that it lists."""
    if not (out / INDEX_NAME).is_file():
        return
    old = read_patch_index(out)
    try:
        (out / INDEX_NAME).unlink()
        for shard in old.shards:
            (out / shard.name).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(out, error) from error


def _write_shard(path: Path, header: ShardHeader, reader: ShardReader, rows: Sequence[Patch]) -> None:
    codec = CODECS[header.codec]
    edge, count = header.patch_size, len(rows)
    quarter = -(-edge // FLOW_FACTOR)
    pixels = np.dtype(DTYPE[header.encoding])
    with DeferredErrorFile(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=("earliest", "v110"), track_order=False) as file:
                more = {"format": PATCH_FORMAT, "warp": reader.index.warp.value}
                file.attrs.update({**header_attributes(header), **more})
                stored = {
                    "blur": _create_rows(file, "blur", (count, edge, edge, 3), pixels, codec),
                    "sharp": _create_rows(file, "sharp", (count, edge, edge, 3), pixels, codec),
                    "valid": _create_rows(file, "valid", (count, edge, edge), np.dtype(np.uint8), codec),
                    "flow": _create_rows(file, "flow", (count, quarter, quarter, 2), np.dtype(np.float16), codec),
                }
                pair, flow = "", np.empty(0, np.float32)
                for number, patch in enumerate(rows):
                    if patch.pair != pair:
                        pair, flow = patch.pair, reader.read_flow(patch.pair)
                    window = reader.read_window(patch.pair, patch.top, patch.left, edge, edge)
                    write_array(stored["blur"], window.blur, codec, number)
                    write_array(stored["sharp"], window.sharp, codec, number)
                    write_array(stored["valid"], window.valid.astype(np.uint8), codec, number)
                    write_array(stored["flow"], _patch_flow(flow, patch, quarter).astype(np.float16), codec, number)
                    if sink.failure is not None:
                        break
                if sink.failure is None:
                    _write_columns(file, rows, [reader.record(patch.pair) for patch in rows], header.split)
        finally:
            if sink.failure is not None:
                raise sink.failure


def _create_rows(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], codec: Codec
) -> h5py.Dataset:
    chunks = None if codec.chunk_px is None else (1, *shape[1:])
    return create_array(file, name, shape, dtype, codec, chunks, image=name in ("blur", "sharp"))


def _patch_flow(flow: NDArray[np.float32], patch: Patch, quarter: int) -> NDArray[np.float32]:
    """The flow at the centres of the patch's own 4 x 4 squares, which need not be those of the pair."""
    across = (patch.left / FLOW_FACTOR + np.arange(quarter)).astype(np.float32)
    down = (patch.top / FLOW_FACTOR + np.arange(quarter)).astype(np.float32)
    xs, ys = np.meshgrid(across, down)
    return np.asarray(cv2.remap(flow, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _write_columns(file: h5py.File, rows: Sequence[Patch], records: Sequence[PairRecord], split: str) -> None:
    alignments = [record.alignment for record in records]
    texts = {
        "pair": [patch.pair for patch in rows],
        "scene": [record.scene for record in records],
        "split": [split] * len(rows),
    }
    numbers: dict[str, tuple[list[float], type]] = {
        "top": ([patch.top for patch in rows], np.int32),
        "left": ([patch.left for patch in rows], np.int32),
        "sharpness": ([patch.sharpness for patch in rows], np.float64),
        "valid_fraction": ([patch.valid_fraction for patch in rows], np.float64),
        "coc_px": ([math.nan if each is None else each.coc_px for each in alignments], np.float64),
        "residual_px": ([math.nan if each is None else each.residual_px for each in alignments], np.float64),
    }
    for name, column in texts.items():
        file.create_dataset(name, data=np.array(column, dtype=object), dtype=h5py.string_dtype())
    for name, (values, dtype) in numbers.items():
        file.create_dataset(name, data=np.array(values, dtype=dtype))
