"""Changes of a shard by which it takes values from elsewhere, or holds what format 1 does not define."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

Attack = Callable[[h5py.File, Path], object]
GZIP: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
PAIR = "pairs/p"


def replaced(name: str, make: Callable[[h5py.Group, str, np.ndarray[Any, Any], Path], object]) -> Attack:
    """The attack that makes the member `name` anew from its values."""

    def attack(file: h5py.File, secret: Path) -> None:
        parent, _, own = name.rpartition("/")
        group = file[parent or "/"]
        values = group[own][:]
        del group[own]
        make(group, own, values, secret)

    return attack


def external(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, values.dtype, external=[(str(secret), 0, values.nbytes)])


def external_beside(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, values.dtype, external=[(f"../{secret.name}", 0, values.nbytes)])


def virtual(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(str(secret) + ".h5", "x", values.shape)
    group.create_virtual_dataset(name, layout)


def virtual_of_itself(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(".", "/pairs/p/sharp", values.shape)
    group.create_virtual_dataset(name, layout)


def soft(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group[name] = h5py.SoftLink("/patches/top")


def dangling(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group[name] = h5py.SoftLink("/nowhere")


def external_link(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group[name] = h5py.ExternalLink(str(secret) + ".h5", "x")


def with_options(**options: Any) -> Callable[[h5py.Group, str, np.ndarray[Any, Any], Path], object]:
    return lambda group, name, values, _: group.create_dataset(name, data=values, **options)


def unknown_filter(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk(values.shape)
    made.set_filter(4711, h5py.h5z.FLAG_OPTIONAL)
    data = h5py.h5d.create(group.id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple(values.shape), made)
    data.write_direct_chunk((0,) * values.ndim, values.tobytes())


def compact(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.COMPACT)
    kind = h5py.h5t.py_create(values.dtype)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(values.shape), made)


def of_type(dtype: object) -> Callable[[h5py.Group, str, np.ndarray[Any, Any], Path], object]:
    def make(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
        group.create_dataset(name, values.shape, dtype)

    return make


def committed(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    kind = h5py.h5t.STD_U8LE.copy()
    kind.commit(group.file.id, b"kind")
    space = h5py.h5s.create_simple(values.shape)
    h5py.h5d.create(group.id, name.encode(), kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    del group.file["kind"]


def never_written(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, values.dtype, chunks=(8, 8, 3), fillvalue=7, **GZIP)


def partly_written(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, values.dtype, chunks=(8, 8, 3), **GZIP)[:8, :8] = values[:8, :8]


def enormous(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, (60_000, 60_000), values.dtype, chunks=(600, 600), **GZIP)


def external_texts(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, h5py.string_dtype(), external=[(str(secret), 0, 16 * len(values))])


def cropped(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, data=values[:, 1:], **GZIP)


def twice(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, data=np.repeat(values, 2))


def never_written_rows(group: h5py.Group, name: str, values: np.ndarray[Any, Any], secret: Path) -> None:
    group.create_dataset(name, values.shape, values.dtype, chunks=(1, *values.shape[1:]), **GZIP)


def endless_texts(file: h5py.File, secret: Path) -> None:
    """Many rows that all point to the same long text; the file holds little but their references."""
    table, rows = file["patches"], 2000
    for name in list(table):
        values = table[name][:]
        del table[name]
        table.create_dataset(name, data=np.repeat(values, rows), dtype=table_type(values))
    table["pair"][0] = "a" * 60_000
    file.flush()
    offset = table["pair"].id.get_offset()
    path = Path(file.filename)
    file.close()
    with path.open("r+b") as stream:
        stream.seek(offset)
        reference = stream.read(16)
        stream.seek(offset)
        stream.write(reference * rows)


def table_type(values: np.ndarray[Any, Any]) -> object:
    return h5py.string_dtype() if values.dtype == object else values.dtype


def soft_to(file: h5py.File, name: str, target: str) -> None:
    file.move(name, target)
    file[name] = h5py.SoftLink(target)


def outside(file: h5py.File, name: str, secret: Path) -> None:
    if name in file:
        del file[name]
    file[name] = h5py.ExternalLink(f"{secret}.h5", "/x")


def alias(file: h5py.File, name: str, other: str) -> None:
    del file[other]
    file[other] = file[name]


def group_instead(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


def data_set_instead(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_dataset(name, data=np.zeros(4))


def removed(file: h5py.File, name: str) -> None:
    del file[name]


IN_ANOTHER_FILE, UNKNOWN, INCOMPLETE = (
    "lies in another file",
    "is nothing that format 1 defines",
    "is not stored completely",
)
SOFT, EXTERNAL = "is a soft link", "is an external link"
NO_BYTES = f"/{PAIR}/valid is not of type uint8"
# The codec of the shard, so that nothing but the attack is wrong with it; the reason of the refusal; the attack.
ATTACKS: dict[str, tuple[str, str, Attack]] = {
    "external storage": ("none", f"/{PAIR}/blur {IN_ANOTHER_FILE}", replaced(f"{PAIR}/blur", external)),
    "external storage beside it": (
        "none",
        f"/{PAIR}/sharp {IN_ANOTHER_FILE}",
        replaced(f"{PAIR}/sharp", external_beside),
    ),
    "external mask": ("none", f"/{PAIR}/valid {IN_ANOTHER_FILE}", replaced(f"{PAIR}/valid", external)),
    "external flow": ("none", f"/{PAIR}/flow {IN_ANOTHER_FILE}", replaced(f"{PAIR}/flow", external)),
    "virtual data set": ("none", f"/{PAIR}/blur is virtual", replaced(f"{PAIR}/blur", virtual)),
    "virtual mask": ("none", f"/{PAIR}/valid is virtual", replaced(f"{PAIR}/valid", virtual)),
    "virtual data set of its own file": (
        "none",
        f"/{PAIR}/blur is virtual",
        replaced(f"{PAIR}/blur", virtual_of_itself),
    ),
    "soft link": ("gzip", f"/{PAIR}/valid {SOFT}", replaced(f"{PAIR}/valid", soft)),
    "dangling link": ("gzip", f"/{PAIR}/blur {SOFT}", replaced(f"{PAIR}/blur", dangling)),
    "external link": ("gzip", f"/{PAIR}/blur {EXTERNAL}", replaced(f"{PAIR}/blur", external_link)),
    "pair is a soft link": ("gzip", f"/{PAIR} {SOFT}", lambda file, _: soft_to(file, PAIR, "/pairs/q")),
    "pair is an external link": ("gzip", f"/{PAIR} {EXTERNAL}", lambda file, secret: outside(file, PAIR, secret)),
    "pairs are an external link": ("gzip", f"/pairs {EXTERNAL}", lambda file, secret: outside(file, "pairs", secret)),
    "pairs are a soft link": ("gzip", f"/pairs {SOFT}", lambda file, _: soft_to(file, "pairs", "/patches/q")),
    "patches are an external link": (
        "gzip",
        f"/patches {EXTERNAL}",
        lambda file, secret: outside(file, "patches", secret),
    ),
    "two names of a data set": (
        "gzip",
        f"/{PAIR}/blur has 2 names",
        lambda file, _: alias(file, f"{PAIR}/blur", f"{PAIR}/sharp"),
    ),
    "two names of a pair": ("gzip", f"/{PAIR} has 2 names", lambda file, _: file.__setitem__("pairs/q", file[PAIR])),
    "a pair that holds itself": ("gzip", f"/{PAIR} has 2 names", lambda file, _: alias(file, PAIR, f"{PAIR}/blur")),
    "group instead of data set": (
        "gzip",
        f"/{PAIR}/flow is not a data set",
        lambda file, _: group_instead(file, f"{PAIR}/flow"),
    ),
    "data set instead of pair": ("gzip", f"/{PAIR} is not a group", lambda file, _: data_set_instead(file, PAIR)),
    "no data set": ("gzip", f"/{PAIR}/flow is missing", lambda file, _: removed(file, f"{PAIR}/flow")),
    "another data set": (
        "gzip",
        f"/{PAIR}/more {UNKNOWN}",
        lambda file, _: file.create_dataset(f"{PAIR}/more", data=[1]),
    ),
    "another group": ("gzip", f"/more {UNKNOWN}", lambda file, _: file.create_group("more")),
    "another link": ("gzip", f"/more {UNKNOWN}", lambda file, secret: outside(file, "more", secret)),
    "filter of another codec": (
        "gzip",
        f"/{PAIR}/blur is stored with filters (32015,)",
        replaced(f"{PAIR}/blur", with_options(**hdf5plugin.Zstd())),
    ),
    "unknown filter": (
        "gzip",
        f"/{PAIR}/valid is stored with filters (4711,)",
        replaced(f"{PAIR}/valid", unknown_filter),
    ),
    "no filter": (
        "none",
        f"/{PAIR}/blur is stored with filters ()",
        replaced(f"{PAIR}/blur", with_options(chunks=(8, 8, 3))),
    ),
    "no chunks": ("gzip", f"/{PAIR}/blur is stored with filters ()", replaced(f"{PAIR}/blur", with_options())),
    "in the header": ("none", f"/{PAIR}/flow is neither chunked nor contiguous", replaced(f"{PAIR}/flow", compact)),
    "that can grow": (
        "gzip",
        f"/{PAIR}/blur can grow",
        replaced(f"{PAIR}/blur", with_options(maxshape=(None, None, 3), **GZIP)),
    ),
    "enumeration": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(np.bool_))),
    "references": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(h5py.ref_dtype))),
    "compound": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(np.dtype([("x", "u1")])))),
    "texts": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(h5py.string_dtype()))),
    "opaque": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(np.dtype("V1")))),
    "arrays in arrays": ("none", NO_BYTES, replaced(f"{PAIR}/valid", of_type(h5py.vlen_dtype(np.uint8)))),
    "type with a name": ("none", NO_BYTES, replaced(f"{PAIR}/valid", committed)),
    "other numbers": ("none", f"/{PAIR}/sharp is not of type uint8", replaced(f"{PAIR}/sharp", of_type(np.uint16))),
    "other shape": ("gzip", f"/{PAIR}/blur has shape (48, 63, 3), expected", replaced(f"{PAIR}/blur", cropped)),
    "other shape of the flow": (
        "gzip",
        f"/{PAIR}/flow has shape (12, 15, 2), expected",
        replaced(f"{PAIR}/flow", cropped),
    ),
    "never written": ("gzip", f"/{PAIR}/blur {INCOMPLETE}", replaced(f"{PAIR}/blur", never_written)),
    "never written, without chunks": (
        "none",
        f"/{PAIR}/blur {INCOMPLETE}",
        replaced(f"{PAIR}/blur", of_type(np.uint8)),
    ),
    "partly written": ("gzip", f"/{PAIR}/blur {INCOMPLETE}", replaced(f"{PAIR}/blur", partly_written)),
    "enormous": ("gzip", f"/{PAIR}/valid has shape (60000, 60000), which", replaced(f"{PAIR}/valid", enormous)),
    "attribute of references": (
        "gzip",
        f"the attribute 'record' of /{PAIR} is no plain number or text",
        lambda file, _: file[PAIR].attrs.create("record", file[PAIR].ref),
    ),
    "many attributes": (
        "gzip",
        "/ has 95 attributes",
        lambda file, _: [file.attrs.create(f"a{number}", 1) for number in range(80)],
    ),
}
IN_THE_TABLE: dict[str, tuple[str, Attack]] = {
    "external column": (f"/patches/top {IN_ANOTHER_FILE}", replaced("patches/top", external)),
    "external texts": (f"/patches/pair {IN_ANOTHER_FILE}", replaced("patches/pair", external_texts)),
    "virtual column": ("/patches/sharpness is virtual", replaced("patches/sharpness", virtual)),
    "soft link": (f"/patches/left {SOFT}", replaced("patches/left", soft)),
    "external link": (f"/patches/pair {EXTERNAL}", lambda file, secret: outside(file, "patches/pair", secret)),
    "another column": (f"/patches/more {UNKNOWN}", lambda file, _: file.create_dataset("patches/more", data=[1])),
    "column of another length": ("/patches/left has shape (", replaced("patches/left", twice)),
    "texts of fixed length": ("/patches/pair is not of type text", replaced("patches/pair", of_type("S1"))),
    "compressed column": (
        "/patches/top is stored with filters (1,)",
        replaced("patches/top", with_options(compression="gzip")),
    ),
    "never written": (f"/patches/top {INCOMPLETE}", replaced("patches/top", of_type("<i4"))),
    "endless texts": ("the texts of /patches are longer than the file", endless_texts),
}
