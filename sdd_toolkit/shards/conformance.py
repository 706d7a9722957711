"""Opens HDF5 files for reading, and refuses everything in them that format 1 does not define.

HDF5 can take the values of a data set from any other file that its path names: by external storage, virtual data sets
and links. It can also claim arrays that the file does not hold. A shard does none of that: its arrays are chunked or
contiguous, complete, in the file itself, under their own names. The file is checked when it is opened, a pair or table
when it is first used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5i, h5p, h5t, h5z

from sdd_toolkit.formats.containers import LARGEST_PX
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.shards.index import (
    FORMAT,
    KNOWN_CODECS,
    VERSION,
    damaged_shard_error,
    unknown_codec_error,
    unknown_format_error,
)
from sdd_toolkit.shards.schema import ARRAYS, DTYPE, PATCH_FORMAT, group_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sdd_toolkit.storage.locations import Location


READ_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
"""The errors that h5py and the checks of this module raise for a damaged file."""

_TEXT = "text"
_TABLE = {"pair": _TEXT, "top": "int32", "left": "int32", "sharpness": "float64", "valid_fraction": "float64"}
_COLUMNS = {**_TABLE, "scene": _TEXT, "split": _TEXT, "coc_px": "float64", "residual_px": "float64"}
_TYPES = {
    "uint8": (h5t.STD_U8LE, h5t.STD_U8BE),
    "uint16": (h5t.STD_U16LE, h5t.STD_U16BE),
    "int32": (h5t.STD_I32LE, h5t.STD_I32BE),
    "float16": (h5t.IEEE_F16LE, h5t.IEEE_F16BE),
    "float64": (h5t.IEEE_F64LE, h5t.IEEE_F64BE),
}
_CONTIGUOUS: tuple[int, ...] = ()
_SHUFFLE, _DEFLATE, _FLETCHER32 = h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32
_GZIP = (_SHUFFLE, _DEFLATE, _FLETCHER32)
# The filters of arrays, in their order, by codec. The first uncompressed shards had chunks, too.
_FILTERS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "blosc2-bitshuffle-lz4": ((32026, _FLETCHER32), _GZIP),
    "htj2k": ((32033, _FLETCHER32), _GZIP),
    "gzip": (_GZIP,),
    "none": (_CONTIGUOUS, (_FLETCHER32,)),
    "bitshuffle-lz4": ((32008, _FLETCHER32), _GZIP),
}
_MAX_MEMBERS, _MAX_ATTRIBUTE_BYTES = 64, 1 << 16
# A text is stored as its length, and its address and number in a heap.
_STORED_TEXT = np.dtype([("bytes", "<u4"), ("address", "<u8"), ("number", "<u4")])


class ShardFile(h5py.File):  # type: ignore[misc]
    """An open shard whose attributes and names have been checked; see `open_conforming`.

    Attributes:
        location: Where it lies.
        codec: How its arrays are stored, one of `KNOWN_CODECS`.
        pixels: Type of its frames, by the encoding.
    """

    location: Location
    codec: str
    pixels: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A data set that lies in its own file."""

    group: h5py.Group
    name: str
    data: h5d.DatasetID
    created: h5p.PropDCID
    shape: tuple[int, ...]


def open_conforming(path: Location, kind: str = FORMAT) -> ShardFile:
    """Opens the shard at `path`, of format `kind`, for reading.

    Raises:
        IntegrityError: It is not HDF5, damaged, or holds what format 1 does not define; names the object.
        InputError: It has an unknown format, version or codec.
    """
    try:
        # Finished shards never change, and file locks fail on shared or read-only disks. No chunk cache: HDF5 would
        # keep 8 MiB for every data set ever read.
        file = ShardFile(path if isinstance(path, Path) else path.open(), "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise damaged_shard_error(path.name, str(error)) from error
    try:
        _check_file(file, path, kind)
    except READ_ERRORS as error:
        file.close()
        raise damaged_shard_error(path.name, str(error)) from error
    except BaseException:
        file.close()
        raise
    return file


def _check_file(file: ShardFile, path: Location, kind: str) -> None:
    file.location = path
    _check_attributes(file)
    attributes = file.attrs
    stored = tuple(np.asarray(attributes.get(name)).tolist() for name in ("format", "version"))
    if stored != (kind, VERSION):
        raise unknown_format_error(path, stored[0], stored[1], kind)
    file.codec = attributes.get("codec")
    if file.codec not in KNOWN_CODECS:
        raise unknown_codec_error(path, file.codec)
    file.pixels = np.dtype(DTYPE[Encoding(attributes.get("encoding"))]).name
    if file.id.get_create_plist().get_userblock():
        raise ValueError("it begins with a user block")
    if kind == PATCH_FORMAT:
        _check_names(file, (*ARRAYS, *_COLUMNS))
    else:
        _check_names(file, ("pairs", "patches"))
        for name in ("pairs", "patches"):
            _check_link(file, name, h5g.GROUP)


def conforming_pair(file: ShardFile, pair_id: str) -> tuple[h5py.Group, dict[str, h5py.Dataset]]:
    """The group of a pair of an open shard and its arrays by name, checked.

    Raises:
        ValueError: It holds what format 1 does not define; names the object. h5py may raise other `READ_ERRORS`.
    """
    pairs = file["pairs"]
    name = group_name(pair_id).removeprefix("pairs/")
    _check_link(pairs, name, h5g.GROUP)
    group = pairs[name]
    _check_attributes(group)
    _check_names(group, ARRAYS)
    return group, _open_arrays(file, group, 0)


def conforming_rows(file: ShardFile) -> dict[str, h5py.Dataset]:
    """The arrays of an open shard of the patch layout, checked; errors as `conforming_pair`."""
    arrays = _open_arrays(file, file, 1)
    rows = _open_stored(file, "top", (_CONTIGUOUS,)).shape
    for name, array in arrays.items():
        if array.shape[:1] != rows:
            raise _violation(file, name, f"has {array.shape[0]} rows, the table of patches {rows[0] if rows else 0}")
        # Others would be decoded again for every row that they hold.
        if array.chunks is not None and array.chunks[0] != 1:
            raise _violation(file, name, f"has chunks of {array.chunks[0]} rows")
    return arrays


def conforming_table(file: ShardFile) -> h5py.Group:
    """The table of patches of an open shard, of either layout, checked; errors as `conforming_pair`."""
    is_patches = "pairs" not in file
    table, types = (file, _COLUMNS) if is_patches else (file["patches"], _TABLE)
    if not is_patches:
        _check_names(table, types)
    columns = {name: _open_stored(table, name, (_CONTIGUOUS,)) for name in types}
    (rows,) = columns["top"].shape or (0,)
    for name, column in columns.items():
        _check_values(column, types[name], (rows,))
    # Texts share no bytes, but could claim to: a small file would take any amount of memory.
    texts = [columns[name].data for name, dtype in types.items() if dtype == _TEXT]
    if _text_bytes(file, texts) > file.id.get_filesize():
        raise ValueError(f"the texts of {table.name} are longer than the file")
    return table


def _open_arrays(file: ShardFile, group: h5py.Group, first_axes: int) -> dict[str, h5py.Dataset]:
    """The checked arrays of `group`, whose frames have `first_axes` axes before height and width."""
    arrays = {name: _open_stored(group, name, _FILTERS[file.codec]) for name in ARRAYS}
    frames = arrays["valid"].shape
    size = frames[first_axes:]
    if len(size) != 2 or math.prod(size) > LARGEST_PX:
        raise _violation(group, "valid", f"has shape {frames}, which is not that of frames")
    quarter = tuple(-(-edge // FLOW_FACTOR) for edge in size)
    _check_values(arrays["blur"], file.pixels, (*frames, 3))
    _check_values(arrays["sharp"], file.pixels, (*frames, 3))
    _check_values(arrays["valid"], "uint8", frames)
    _check_values(arrays["flow"], "float16", (*frames[:first_axes], *quarter, 2))
    return {name: h5py.Dataset(array.data) for name, array in arrays.items()}


def _check_link(group: h5py.Group, name: str, kind: int) -> None:
    """Refuses a member that is no group or data set of its own."""
    link = h5g.get_objinfo(group.id, name.encode(), follow_link=False)
    if link.type not in (h5g.GROUP, h5g.DATASET, h5g.TYPE):
        raise _violation(group, name, f"is {'a soft' if link.type == h5g.LINK else 'an external'} link")
    if link.type != kind:
        raise _violation(group, name, f"is not a {'group' if kind == h5g.GROUP else 'data set'}")
    if link.nlink != 1:
        raise _violation(group, name, f"has {link.nlink} names")


def _check_names(group: h5py.Group, names: Collection[str]) -> None:
    count = group.id.get_num_objs()
    if count > _MAX_MEMBERS:
        raise ValueError(f"{group.name} holds {count} objects")
    held = {name.decode(errors="replace") for name in group.id}
    for name in sorted(held - set(names)):
        raise _violation(group, name, "is nothing that format 1 defines")
    for name in sorted(set(names) - held):
        raise _violation(group, name, "is missing")


def _check_attributes(group: h5py.Group) -> None:
    """Refuses attributes other than numbers and texts that fit into the header of their object."""
    count = h5a.get_num_attrs(group.id)
    if count > _MAX_MEMBERS:
        raise ValueError(f"{group.name} has {count} attributes")
    for number in range(count):
        attribute = h5a.open(group.id, index=number)
        is_plain = isinstance(attribute.get_type(), (h5t.TypeStringID, h5t.TypeIntegerID, h5t.TypeFloatID))
        if not is_plain or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
            name = attribute.name.decode(errors="replace")
            raise ValueError(f"the attribute {name!r} of {group.name} is no plain number or text")


def _open_stored(group: h5py.Group, name: str, accepted: Collection[tuple[int, ...]]) -> _Stored:
    """Opens a data set that lies in the file, in chunks of `accepted` filters."""
    _check_link(group, name, h5g.DATASET)
    data = h5d.open(group.id, name.encode())
    created = data.get_create_plist()
    layout = created.get_layout()
    # Before its shape is read: to find out that of a virtual data set HDF5 opens the files that it names.
    if layout not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        raise _violation(group, name, "is virtual" if layout == h5d.VIRTUAL else "is neither chunked nor contiguous")
    if created.get_external_count():
        raise _violation(group, name, "lies in another file")
    filters = tuple(created.get_filter(number)[0] for number in range(created.get_nfilters()))
    if filters not in accepted or (layout == h5d.CONTIGUOUS) != (filters == _CONTIGUOUS):
        raise _violation(group, name, f"is stored with filters {filters}, other than those of its codec")
    space = data.get_space()
    shape = tuple(space.get_simple_extent_dims())
    if tuple(space.get_simple_extent_dims(maxdims=True)) != shape:
        raise _violation(group, name, "can grow")
    return _Stored(group, name, data, created, shape)


def _check_values(stored: _Stored, dtype: str, shape: tuple[int, ...]) -> None:
    """Refuses another type or shape, and what the file does not hold: HDF5 would read that as zeros."""
    if not _is_of_type(stored.data.get_type(), dtype):
        raise _violation(stored.group, stored.name, f"is not of type {dtype}")
    if stored.shape != shape:
        raise _violation(stored.group, stored.name, f"has shape {stored.shape}, expected {shape}")
    if not (_has_all_chunks(stored) if stored.created.get_layout() == h5d.CHUNKED else _has_all_bytes(stored, dtype)):
        raise _violation(stored.group, stored.name, "is not stored completely")


def _is_of_type(stored: h5t.TypeID, dtype: str) -> bool:
    if stored.committed():
        return False
    if dtype != _TEXT:
        return any(stored.equal(known) for known in _TYPES[dtype])
    return isinstance(stored, h5t.TypeStringID) and stored.is_variable_str() and stored.get_cset() == h5t.CSET_UTF8


def _has_all_chunks(stored: _Stored) -> bool:
    edges = stored.created.get_chunk()
    if any(edge > size for edge, size in zip(edges, stored.shape, strict=True)):
        raise _violation(stored.group, stored.name, f"has chunks of {edges}, larger than itself")
    count = math.prod(-(-size // edge) for size, edge in zip(stored.shape, edges, strict=True))
    return bool(stored.data.get_num_chunks() == count)


def _has_all_bytes(stored: _Stored, dtype: str) -> bool:
    size = math.prod(stored.shape) * (_STORED_TEXT if dtype == _TEXT else np.dtype(dtype)).itemsize
    if stored.data.get_storage_size() != size:
        return False
    offset = stored.data.get_offset()
    return not size or (offset is not None and offset + size <= h5i.get_file_id(stored.data).get_filesize())


def _text_bytes(file: ShardFile, columns: Iterable[h5d.DatasetID]) -> int:
    """The length of all texts of some columns; read past HDF5, which would read the texts themselves."""
    total = 0
    with file.location.open("rb") as stream:
        for column in columns:
            stream.seek(column.get_offset() or 0)
            stored = stream.read(column.get_storage_size())
            total += int(np.frombuffer(stored, _STORED_TEXT)["bytes"].sum(dtype=np.int64))
    return total


def _violation(group: h5py.Group, name: str, what: str) -> ValueError:
    return ValueError(f"{group.name.rstrip('/')}/{name} {what}")
