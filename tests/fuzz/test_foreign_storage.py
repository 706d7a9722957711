"""Shards that take their values from elsewhere, or hold what format 1 does not define, are refused by every reader."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from sdd_toolkit.audit.verify import verify_shards
from sdd_toolkit.errors import IntegrityError
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.shards import PatchReader, ShardReader, write_patches, write_shard
from sdd_toolkit.shards.codecs import CODECS, Profile
from sdd_toolkit.shards.index import ShardHeader, read_index, text_with_sha256, write_index
from sdd_toolkit.shards.schema import StoredPair
from sdd_toolkit.shards.stored_patches import read_pair, read_patches, read_reuse_keys
from sdd_toolkit.shards.tables import read_pair_rows, read_patch_columns
from sdd_toolkit.storage.files import sha256_of
from tests.support.small_shards import SHARD, random_pair, write_folder

SIZE = (48, 64)
SECRET = b"a secret of another file, as pixels. " * 300
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


ATTACKS: dict[str, tuple[str, Attack]] = {
    "external storage": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", external)),
    "external storage beside it": (f"/{PAIR}/sharp", replaced(f"{PAIR}/sharp", external_beside)),
    "external mask": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", external)),
    "external flow": (f"/{PAIR}/flow", replaced(f"{PAIR}/flow", external)),
    "virtual data set": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", virtual)),
    "virtual mask": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", virtual)),
    "virtual data set of its own file": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", virtual_of_itself)),
    "soft link": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", soft)),
    "dangling link": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", dangling)),
    "external link": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", external_link)),
    "pair is a soft link": (f"/{PAIR}", lambda file, _: soft_to(file, PAIR, "/pairs/q")),
    "pair is an external link": (f"/{PAIR}", lambda file, secret: outside(file, PAIR, secret)),
    "pairs are an external link": ("/pairs", lambda file, secret: outside(file, "pairs", secret)),
    "pairs are a soft link": ("/pairs", lambda file, _: (soft_to(file, "pairs", "/patches/q"),)),
    "patches are an external link": ("/patches", lambda file, secret: outside(file, "patches", secret)),
    "two names of a data set": (f"/{PAIR}/", lambda file, _: alias(file, f"{PAIR}/blur", f"{PAIR}/sharp")),
    "two names of a pair": (f"/{PAIR}", lambda file, _: file.__setitem__("pairs/q", file[PAIR])),
    "a pair that holds itself": (f"/{PAIR}", lambda file, _: alias(file, PAIR, f"{PAIR}/blur")),
    "group instead of data set": (f"/{PAIR}/flow", lambda file, _: group_instead(file, f"{PAIR}/flow")),
    "data set instead of pair": (f"/{PAIR}", lambda file, _: data_set_instead(file, PAIR)),
    "no data set": (f"/{PAIR}/flow", lambda file, _: removed(file, f"{PAIR}/flow")),
    "another data set": (f"/{PAIR}/more", lambda file, _: file.create_dataset(f"{PAIR}/more", data=[1])),
    "another group": ("/more", lambda file, _: file.create_group("more")),
    "another link": ("/more", lambda file, secret: outside(file, "more", secret)),
    "filter of another codec": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", with_options(**hdf5plugin.Zstd()))),
    "unknown filter": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", unknown_filter)),
    "no filter": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", with_options(chunks=(8, 8, 3)))),
    "in the header": (f"/{PAIR}/flow", replaced(f"{PAIR}/flow", compact)),
    "that can grow": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", with_options(maxshape=(None, None, 3), **GZIP))),
    "enumeration": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(np.bool_))),
    "references": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(h5py.ref_dtype))),
    "compound": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(np.dtype([("x", "u1")])))),
    "texts": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(h5py.string_dtype()))),
    "opaque": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(np.dtype("V1")))),
    "arrays in arrays": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", of_type(h5py.vlen_dtype(np.uint8)))),
    "type with a name": (f"/{PAIR}/valid", replaced(f"{PAIR}/valid", committed)),
    "other numbers": (f"/{PAIR}/sharp", replaced(f"{PAIR}/sharp", of_type(np.uint16))),
    "other shape": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", cropped)),
    "other shape of the flow": (f"/{PAIR}/flow", replaced(f"{PAIR}/flow", cropped)),
    "never written": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", never_written)),
    "partly written": (f"/{PAIR}/blur", replaced(f"{PAIR}/blur", partly_written)),
    "enormous": (f"/{PAIR}/", replaced(f"{PAIR}/valid", enormous)),
    "attribute of references": (f"/{PAIR}", lambda file, _: file[PAIR].attrs.create("record", file[PAIR].ref)),
    "many attributes": ("/", lambda file, _: [file.attrs.create(f"a{number}", 1) for number in range(80)]),
}
IN_THE_TABLE: dict[str, tuple[str, Attack]] = {
    "external column": ("/patches/top", replaced("patches/top", external)),
    "external texts": ("/patches/pair", replaced("patches/pair", external_texts)),
    "virtual column": ("/patches/sharpness", replaced("patches/sharpness", virtual)),
    "soft link": ("/patches/left", replaced("patches/left", soft)),
    "external link": ("/patches/pair", lambda file, secret: outside(file, "patches/pair", secret)),
    "another column": ("/patches/more", lambda file, _: file.create_dataset("patches/more", data=[1])),
    "column of another length": ("/patches/left", replaced("patches/left", twice)),
    "texts of fixed length": ("/patches/pair", replaced("patches/pair", of_type("S1"))),
    "compressed column": ("/patches/top", replaced("patches/top", with_options(compression="gzip"))),
    "never written": ("/patches/top", replaced("patches/top", of_type("<i4"))),
    "endless texts": ("/patches", endless_texts),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the data set, and an HDF5 file `x` in it of what it holds."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    with h5py.File(f"{path}.h5", "w") as file:
        file["x"] = np.frombuffer(SECRET[: SIZE[0] * SIZE[1] * 3], np.uint8).reshape(*SIZE, 3)
    return path


def attacked(folder: Path, attack: Attack, secret: Path, codec: str = "gzip") -> Path:
    """A folder of one shard that was changed by `attack`; the index has its size and its hash."""
    path = write_folder(folder, [random_pair("p", *SIZE)], codec=codec) / SHARD
    with h5py.File(path, "r+") as file:
        attack(file, secret)
    index = read_index(folder)
    changed = replace(index.shards[0], bytes=path.stat().st_size, sha256=sha256_of(path))
    write_index(folder, replace(index, shards=(changed,)))
    return folder


def readings(folder: Path, codec: str = "gzip") -> dict[str, Callable[[], object]]:
    """Everything that reads a pair of a folder."""
    path, shard = folder / SHARD, read_index(folder).shards[0]
    header = ShardHeader("train", Encoding.SRGB8, 32, codec)
    copied = StoredPair("p", random_pair("p", *SIZE).record, path, "p", None)
    return {
        "reader": lambda: ShardReader(folder, check=True).read("p"),
        "window": lambda: ShardReader(folder).read_window("p", 0, 0, 8, 8),
        "images": lambda: ShardReader(folder).read_images("p", 0, 0, 8, 8),
        "record": lambda: ShardReader(folder).record("p"),
        "rows": lambda: read_pair_rows(folder, shard),
        "stored pair": lambda: read_pair(path, "p"),
        "keys": lambda: read_reuse_keys(path, ["p"]),
        "copy": lambda: write_shard(folder.parent / "copy.h5", header, [(copied, ())]),
        "verify": lambda: verify_shards(folder),
        "quick verify": lambda: verify_shards(folder, pixels=False),
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_no_reader_of_pairs_takes_what_format_1_does_not_define(tmp_path: Path, secret: Path, name: str) -> None:
    place, attack = ATTACKS[name]
    folder = attacked(tmp_path / "set", attack, secret)
    for reading, read in readings(folder).items():
        with pytest.raises(IntegrityError) as caught:
            read()
        assert place in caught.value.what, (reading, caught.value.what)


@pytest.mark.parametrize("name", IN_THE_TABLE)
def test_no_reader_of_patches_takes_what_format_1_does_not_define(tmp_path: Path, secret: Path, name: str) -> None:
    place, attack = IN_THE_TABLE[name]
    folder = attacked(tmp_path / "set", attack, secret)
    shard = read_index(folder).shards[0]
    for read in (
        lambda: ShardReader(folder, check=True).patches,
        lambda: read_patch_columns(folder, shard),
        lambda: read_patches(folder / SHARD, "p"),
        lambda: verify_shards(folder),
        lambda: write_patches(folder, tmp_path / "patches"),
    ):
        with pytest.raises(IntegrityError, match=place):
            read()


@pytest.mark.parametrize(
    ("place", "attack"),
    [
        ("/blur", replaced("blur", external)),
        ("/sharp", replaced("sharp", virtual)),
        ("/valid", replaced("valid", external_link)),
        ("/flow", replaced("flow", cropped)),
        ("/blur", replaced("blur", never_written_rows)),
        ("/more", lambda file, _: file.create_group("more")),
    ],
)
def test_the_patch_layout_is_read_as_strictly(tmp_path: Path, secret: Path, place: str, attack: Attack) -> None:
    folder = tmp_path / "patches"
    write_patches(write_folder(tmp_path / "set", [random_pair("p", *SIZE)]), folder, profile=Profile.PORTABLE)
    path = folder / SHARD
    with h5py.File(path, "r+") as file:
        attack(file, secret)
    content = json.loads((folder / "index.json").read_text())
    content["shards"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    del content["sha256"]
    (folder / "index.json").write_text(text_with_sha256(content))
    with pytest.raises(IntegrityError, match=place):
        PatchReader(folder).read_images(0)


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_toolkit_writes_is_read(tmp_path: Path, secret: Path, codec: str) -> None:
    folder = attacked(tmp_path / "set", lambda file, _: None, secret, codec)
    for name, read in readings(folder, codec).items():
        if "verify" not in name:  # random pixels are not those of the patches
            assert read() is not None


def test_a_virtual_data_set_is_refused_before_its_files_are_opened(tmp_path: Path, secret: Path) -> None:
    """Opening a FIFO waits for its other end."""
    Path(f"{secret}.h5").unlink()
    os.mkfifo(f"{secret}.h5")
    folder = attacked(tmp_path / "set", ATTACKS["virtual mask"][1], secret)
    with pytest.raises(IntegrityError, match="is virtual"):
        ShardReader(folder, check=True).read("p")


def test_a_shard_behind_a_user_block_is_refused(tmp_path: Path, secret: Path) -> None:
    folder = attacked(tmp_path / "set", lambda file, _: None, secret)
    path = folder / SHARD
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file, h5py.File(path) as source:
        file.attrs.update(source.attrs)
        for name in source:
            source.copy(name, file)
    path.write_bytes((tmp_path / "block.h5").read_bytes())
    with pytest.raises(IntegrityError, match="user block"):
        read_pair(path, "p")
