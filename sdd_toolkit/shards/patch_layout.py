"""The patch layout, format `sdd-patches` 1: one patch a row, one row a chunk, every data set equally long.

Made from a folder of pairs; for loaders that want finished samples, such as Hugging Face `datasets`.
"""

from __future__ import annotations

import json
import math
import time
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import cv2
import h5py
import numpy as np
from pydantic import TypeAdapter

from sdd_toolkit.errors import InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import PairRecord, Report, ShardInfo
from sdd_toolkit.shards.arrays import StoredArray, create_array, write_array
from sdd_toolkit.shards.building import assign_to_shards
from sdd_toolkit.shards.codecs import CODECS, Profile
from sdd_toolkit.shards.file_cache import ShardCache
from sdd_toolkit.shards.index import (
    INDEX_NAME,
    VERSION,
    ShardHeader,
    header_attributes,
    read_index_as,
    text_with_sha256,
)
from sdd_toolkit.shards.reader import ShardReader, open_shard
from sdd_toolkit.shards.schema import DTYPE, Patch
from sdd_toolkit.storage.files import DeferredErrorFile, replace_atomically, sha256_of, write_error, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.shards.codecs import Codec

PATCH_FORMAT = "sdd-patches"


@dataclass(frozen=True, slots=True)
class PatchIndex:
    """What `index.json` of the patch layout says; its fields mean what they mean in `Index`.

    Attributes:
        source: The `sha256` of the index of pairs it was made from.
    """

    name: str
    encoding: Encoding
    transfer: str
    patch_size: int
    codec: str
    toolkit: str
    source: str
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPatch:
    """One row of the patch layout.

    Attributes:
        patch: Where it lies in its pair.
        blur: (H, W, 3) uint8 or uint16.
        sharp: (H, W, 3), the same type.
        valid: (H, W) bool.
        flow: (⌈H/4⌉, ⌈W/4⌉, 2) float32, residual flow at the centres of 4 x 4 pixels of the patch.
    """

    patch: Patch
    blur: NDArray[Any]
    sharp: NDArray[Any]
    valid: NDArray[np.bool_]
    flow: NDArray[np.float32]


_INDEX = TypeAdapter(PatchIndex)


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

    The same pairs and options give the same bytes. If `out` holds just that already, nothing is done.

    Args:
        shards: Folder that `sdd pack` wrote.
        out: Folder of the patches; what lies there of this format is replaced.
        profile: How arrays are stored; None means as the pairs are.
        split: Only this one.
        patches_per_shard: Rows in one file.
        keep: Which patches to take; None means all.
        overwrite: Write anew even if nothing changed.
        track: Shows progress, one step a patch.

    Raises:
        InputError: No pairs there, no patch to write, `out` cannot be written or holds something else.
        IntegrityError: A shard is missing or damaged; names it.
    """
    started = time.monotonic()
    with ShardReader(shards, split) as reader:
        chosen = [
            (part, tuple(patch for patch in reader.patches if reader.split_of(patch.pair) == part))
            for part in dict.fromkeys(shard.split for shard in reader.shards)
        ]
        chosen = [(part, tuple(patch for patch in mine if keep is None or keep(patch))) for part, mine in chosen]
        plans = [
            (name, part, rows)
            for part, mine in chosen
            for name, rows in assign_to_shards(part, mine, patches_per_shard)
        ]
        total = sum(len(rows) for _, _, rows in plans)
        if not total:
            raise InputError(
                f"{shards} has no patches to write", hint="a smaller [pack] patch_size, or a milder `keep`"
            )
        source = str(json.loads((shards / INDEX_NAME).read_text(encoding="utf-8"))["sha256"])
        codec = profile.codec if profile is not None else reader.index.codec
        if codec not in CODECS:
            raise InputError(f"nothing is written in the old codec {codec!r} any more", hint="give a profile")
        done = 0
        if overwrite or not _is_up_to_date(out, reader, source, codec, plans):
            done = total
            _write_all(reader, out, source, codec, plans, track)
    return Report(
        stage="patches",
        total=total,
        done=done,
        skipped=total - done,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=(str(out / INDEX_NAME),),
    )


_PlannedShard = tuple[str, str, tuple[Patch, ...]]


def _is_up_to_date(out: Path, reader: ShardReader, source: str, codec: str, plans: Sequence[_PlannedShard]) -> bool:
    if not (out / INDEX_NAME).is_file():
        return False
    index = read_patch_index(out)
    same = (index.source, index.codec, index.toolkit) == (source, codec, __version__)
    if not same or [shard.name for shard in index.shards] != [name for name, _, _ in plans]:
        return False
    for shard in index.shards:
        path = out / shard.name
        if not (path.is_file() and path.stat().st_size == shard.bytes and sha256_of(path) == shard.sha256):
            return False
    with PatchReader(out) as written:
        return written.patches == tuple(patch for _, _, rows in plans for patch in rows)


def _write_all(
    reader: ShardReader, out: Path, source: str, codec: str, plans: Sequence[_PlannedShard], track: Track
) -> None:
    if (out / INDEX_NAME).is_file():
        old = read_patch_index(out)
        try:
            (out / INDEX_NAME).unlink()
            for shard in old.shards:
                (out / shard.name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(out, error) from error
    written = []
    with track("patches", sum(len(rows) for _, _, rows in plans)) as advance:
        for name, split, rows in plans:
            header = ShardHeader(split, reader.encoding, reader.index.patch_size, codec)
            with replace_atomically(out / name) as partial_path:
                _write_shard(partial_path, header, reader, rows)
                size, digest = partial_path.stat().st_size, sha256_of(partial_path)
            pairs = tuple(dict.fromkeys(patch.pair for patch in rows))
            written.append(ShardInfo(name, split, pairs, len(rows), size, digest))
            advance(len(rows), name)
    index = PatchIndex(
        name=reader.index.name,
        encoding=reader.encoding,
        transfer=reader.index.transfer,
        patch_size=reader.index.patch_size,
        codec=codec,
        toolkit=__version__,
        source=source,
        shards=tuple(written),
    )
    content = {"format": PATCH_FORMAT, "version": VERSION, **json.loads(to_json(index))}
    write_text(out / INDEX_NAME, text_with_sha256(content))


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
    found = [record.alignment for record in records]
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
        "coc_px": ([math.nan if each is None else each.coc_px for each in found], np.float64),
        "residual_px": ([math.nan if each is None else each.residual_px for each in found], np.float64),
    }
    for name, column in texts.items():
        file.create_dataset(name, data=np.array(column, dtype=object), dtype=h5py.string_dtype())
    for name, (values, dtype) in numbers.items():
        file.create_dataset(name, data=np.array(values, dtype=dtype))


def read_patch_index(folder: Path) -> PatchIndex:
    """Reads and validates the `index.json` of the patch layout.

    Raises:
        InputError: No index there, or one of another format (such as pairs) or version.
        IntegrityError: The index is damaged.
    """
    return read_index_as(folder, PATCH_FORMAT, _INDEX)


class PatchReader:
    """Reads the rows of a folder in the patch layout; processes and threads as with `ShardReader`.

    Args:
        folder: Where `index.json` lies.
        split: Only this split; None means all.

    Raises:
        InputError: No index, an unknown format or version, or no such split.
        IntegrityError: The index is damaged.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self.folder = folder
        self.index = read_patch_index(folder)
        present = sorted({shard.split for shard in self.index.shards})
        if split is not None and split not in present:
            raise InputError(f"{folder} has no split {split!r}", hint=f"splits: {', '.join(present)}")
        self.shards = tuple(shard for shard in self.index.shards if split in (None, shard.split))
        self._firsts = np.cumsum([0, *(shard.patches for shard in self.shards)])
        self._open_shards: ShardCache[StoredArray] = ShardCache(partial(open_shard, folder, kind=PATCH_FORMAT))
        self._patches: tuple[Patch, ...] | None = None

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def patches(self) -> tuple[Patch, ...]:
        """What every row is, in their order; the first use reads every shard's columns."""
        if self._patches is None:
            self._patches = tuple(patch for shard in self.shards for patch in self.shard_patches(shard))
        return self._patches

    def shard_patches(self, shard: ShardInfo) -> tuple[Patch, ...]:
        """What the rows of one shard are."""
        with self._open_shards.reading(shard) as opened:
            pairs = [str(value) for value in opened.file["pair"].asstr()[:]]
            columns = [opened.file[name][:].tolist() for name in ("top", "left", "sharpness", "valid_fraction")]
            return tuple(Patch(*row) for row in zip(pairs, *columns, strict=True))

    def read_images(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """`blur` and `sharp` of row `number`, each (H, W, 3).

        Raises:
            IndexError: No such row.
            IntegrityError: The shard is missing or damaged; names it.
        """
        blur, sharp = self._row(number, ("blur", "sharp"))
        return blur, sharp

    def read(self, number: int) -> StoredPatch:
        """Everything of row `number`; errors as `read_images`."""
        blur, sharp, valid, flow = self._row(number, ("blur", "sharp", "valid", "flow"))
        patch = self.patches[number]
        return StoredPatch(patch, blur, sharp, valid.astype(np.bool_), flow.astype(np.float32))

    def _row(self, number: int, names: tuple[str, ...]) -> Iterator[NDArray[Any]]:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        place = int(np.searchsorted(self._firsts, number, side="right")) - 1
        shard, row = self.shards[place], number - int(self._firsts[place])
        with self._open_shards.reading(shard) as opened:
            for name in names:
                array = opened.parts.get(name)
                if array is None:
                    array = opened.parts[name] = StoredArray(opened.file[name], opened.content)
                yield array.read(((row, row + 1),))[0]

    def close(self) -> None:
        """Closes the shards this process opened."""
        self._open_shards.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_shards": copy(self._open_shards)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
