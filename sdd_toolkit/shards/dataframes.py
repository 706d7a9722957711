"""A packed data set as pandas tables (`read_index`) and as an iterator of dictionaries (`iterate`)."""

from __future__ import annotations

import io
import json
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from sdd_toolkit.errors import InputError
from sdd_toolkit.measurement_table import COLUMNS, NUMBER_COLUMNS, build_table
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.shards.index import INDEX_NAME, read_index
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.tables import PATCH_COLUMNS, read_pair_rows, read_patch_columns
from sdd_toolkit.storage.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.shards.index import Index

PAIRS_FILE = "pairs.csv"
CROISSANT_FILE = "croissant.json"
_LOCATION_COLUMNS = ("id", "split", "shard", "packed_height", "packed_width")
_FILE_COLUMNS = ("blur_bytes", "blur_sha256", "sharp_bytes", "sharp_sha256")
PAIR_COLUMNS = (*_LOCATION_COLUMNS, *(name for name in COLUMNS if name != "id"), *_FILE_COLUMNS)
_INTEGER_COLUMNS = ("packed_height", "packed_width", "blur_bytes", "sharp_bytes")


def pairs_table(folder: Path | str, level: Literal["pairs", "patches"] = "pairs") -> pd.DataFrame:
    """The table of a packed data set, one row a pair or a patch, in reading order; no pixel is read.

    Pairs: split, shard, packed size, all measurements of `sdd report`, bytes and SHA-256 of the two source files. If
    `sdd card` has written a `pairs.csv` that still belongs to the index, it is read instead of the shards.
    Patches: pair, split, shard, `top`, `left`, `sharpness`, `valid_fraction`.

    Args:
        folder: Folder with `index.json`.
        level: `pairs` or `patches`.

    Raises:
        InputError: No index, one of an unknown version, or no such level.
        IntegrityError: The index or a shard is damaged.

    Example:
        >>> from sdd_toolkit import read_index
        >>> pairs = read_index("shards")
        >>> pairs[pairs.split == "train"][["id", "packed_height", "packed_width"]].values.tolist()
        [['scene/01', 24, 32]]
        >>> len(read_index("shards", level="patches"))
        2
    """
    from pathlib import Path

    folder = Path(folder)
    index = read_index(folder)
    if level == "patches":
        return _patches_table(folder, index)
    if level != "pairs":
        raise InputError(f"no level {level!r}", hint='level="pairs" or level="patches"')
    saved = _read_saved_pairs(folder)
    if saved is not None:
        return saved
    rows = list(chain.from_iterable(read_pair_rows(folder, shard) for shard in index.shards))
    return pairs_frame(index, [row.record for row in rows], [row.size for row in rows])


def pairs_frame(
    index: Index,
    records: Sequence[PairRecord],
    sizes: Sequence[tuple[int, int]],
    measured: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The table of pairs.

    Args:
        index: Of the data set.
        records: Of all its pairs, in reading order.
        sizes: (height, width) as packed, in the same order.
        measured: `measurement_table.build_table` of the records, if it has been built.
    """
    shards = [(shard.split, shard.name) for shard in index.shards for _ in shard.pairs]
    frame = (build_table(records) if measured is None else measured).assign(
        split=pd.Series([split for split, _ in shards], dtype=str),
        shard=pd.Series([name for _, name in shards], dtype=str),
        packed_height=np.array([height for height, _ in sizes], dtype=np.int64),
        packed_width=np.array([width for _, width in sizes], dtype=np.int64),
    )
    for role in ("blur", "sharp"):
        refs = [getattr(record, role) for record in records]
        frame[f"{role}_bytes"] = np.array([ref.bytes for ref in refs], dtype=np.int64)
        frame[f"{role}_sha256"] = pd.Series([ref.sha256 for ref in refs], dtype=str)
    return frame[list(PAIR_COLUMNS)]


def pairs_to_csv(frame: pd.DataFrame) -> str:
    """The table of pairs as `pairs.csv`: numbers in full, missing ones empty."""
    # Lines end as in RFC 4180: only then is a lone "\r" in a name quoted, which pandas would read as the end of a line.
    return str(frame.to_csv(index=False, lineterminator="\r\n"))


def pairs_from_csv(text: str) -> pd.DataFrame:
    """The table of pairs from the text of `pairs.csv`, equal to the one it was written from."""
    # As text first: the number parser of pandas is not exact in every version.
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    counts = {name: frame[name].astype(np.int64) for name in _INTEGER_COLUMNS}
    numbers = {name: pd.Series(_parse_floats(frame[name])) for name in NUMBER_COLUMNS}
    return frame.assign(**counts, **numbers, aligned=frame["aligned"] == "True")


def _parse_floats(texts: pd.Series[str]) -> NDArray[np.float64]:
    values = texts.to_numpy(dtype=np.str_)
    return np.where(values == "", "nan", values).astype(np.float64)


def iterate(folder: Path | str, split: str | None = None) -> Iterator[dict[str, Any]]:
    """Iterates over the pairs of a packed folder as plain dictionaries.

    Fits `datasets.Dataset.from_generator(iterate, gen_kwargs={"folder": …, "split": …})`.

    Args:
        folder: Folder with `index.json`.
        split: `train`, `val` or `test`; None for all.

    Yields:
        `id`, `scene`, `split`; `blur` and `sharp` (H, W, 3) uint8 or uint16; `valid` (H, W) bool; `flow` (H/4, W/4, 2)
        float32; `encoding`; `record`, the record of the pair as JSON.

    Raises:
        InputError: No index, or no such split.
        IntegrityError: A shard is missing or damaged.

    Example:
        >>> from sdd_toolkit import iterate
        >>> for pair in iterate("shards", split="train"):
        ...     print(pair["id"], pair["blur"].shape, pair["sharp"].dtype, pair["encoding"])
        scene/01 (24, 32, 3) uint8 srgb8
    """
    with ShardReader(folder, split) as reader:
        for shard in reader.shards:
            for name in shard.pairs:
                pair = reader.read(name)
                yield {
                    "id": name,
                    "scene": pair.record.scene,
                    "split": shard.split,
                    "blur": pair.blur,
                    "sharp": pair.sharp,
                    "valid": pair.valid,
                    "flow": pair.flow,
                    "encoding": reader.encoding.value,
                    "record": to_json(pair.record),
                }


def _read_saved_pairs(folder: Path) -> pd.DataFrame | None:
    """The table in `pairs.csv`, if the hashes in the Croissant file show that it belongs to the index."""
    try:
        croissant = json.loads((folder / CROISSANT_FILE).read_text(encoding="utf-8"))
        hashes = {entry["@id"]: entry["sha256"] for entry in croissant["distribution"]}
        if hashes[INDEX_NAME] != sha256_of(folder / INDEX_NAME) or hashes[PAIRS_FILE] != sha256_of(folder / PAIRS_FILE):
            return None
        return pairs_from_csv((folder / PAIRS_FILE).read_bytes().decode())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _patches_table(folder: Path, index: Index) -> pd.DataFrame:
    tables = [(shard, read_patch_columns(folder, shard)) for shard in index.shards]
    columns: dict[str, Any] = {
        name: np.concatenate([columns[name] for _, columns in tables] or [np.empty(0)]) for name in PATCH_COLUMNS
    }
    lengths = [len(columns["top"]) for _, columns in tables]
    for name in ("split", "shard"):
        values = [shard.split if name == "split" else shard.name for shard, _ in tables]
        columns[name] = np.repeat(np.array(values, dtype=object), lengths)
    frame = pd.DataFrame(columns).astype({name: str for name in ("pair", "split", "shard")})
    return frame[["pair", "split", "shard", *PATCH_COLUMNS[1:]]]
