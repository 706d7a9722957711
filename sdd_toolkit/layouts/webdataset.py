"""Writes WebDataset archives: one tar a shard, the same bytes for the same pairs.

Hugging Face `datasets` takes the members of a sample and the types of its JSON from the first five samples and fails at
any other: so every sample has a mask, even if every pixel is valid, and its JSON holds numbers and texts only, none of
them null. The record, most of whose fields may be missing, is one text.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.formats.colour import colour_of_encoding
from sdd_toolkit.frames.writing import encode_image
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.storage.files import replace_atomically, resolve_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.formats.colour import ImageColour
    from sdd_toolkit.records import ShardInfo
    from sdd_toolkit.shards.schema import PackedPair

_PNG = Path("frame.png")
_UNKNOWN_BOX = (-1, -1, -1, -1)  # of pairs in the first shards


def sample_key(pair_id: str) -> str:
    """The key of a sample, `%`, `.`, `/` and a first `_` of the id escaped.

    WebDataset ends it at the first dot and folders at slashes, and readers skip members that begin with `__`.

    Example:
        >>> sample_key("__a.b")
        '%5F_a%2Eb'
    """
    key = pair_id.replace("%", "%25").replace("/", "%2F").replace(".", "%2E")
    return f"%5F{key[1:]}" if key.startswith("_") else key


def write_archive(shards: Path, shard: ShardInfo, out: Path, overwrite: bool) -> tuple[tuple[str, ...], int]:
    """Writes one shard as a tar of the same name; an existing one is complete and is kept.

    Args:
        shards: Folder of the shards.
        shard: The one to write.
        out: Folder of the archives.
        overwrite: Write it again.

    Returns:
        The line of each pair in `metadata.jsonl`, and the number of pairs that were there already.
    """
    name = shard.name.removesuffix(".h5") + ".tar"
    path = resolve_inside(out, name)
    skipped = 0 if overwrite or not path.is_file() else len(shard.pairs)
    with ShardReader(shards, shard.split) as reader:
        colour = colour_of_encoding(reader.index.encoding)
        if not skipped:
            with replace_atomically(path) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
                for pair_id in shard.pairs:
                    for member, content in _sample_files(reader.read(pair_id), shard.split, colour):
                        archive.addfile(_anonymous_member(member, len(content)), io.BytesIO(content))
        lines = []
        for pair_id in shard.pairs:
            record = reader.record(pair_id)
            facts = {"id": pair_id, "scene": record.scene, "split": shard.split, "archive": name}
            lines.append(to_json({**facts, "key": sample_key(pair_id), "record": json.loads(to_json(record))}))
    return tuple(lines), skipped


def _sample_files(pair: PackedPair, split: str, colour: ImageColour) -> list[tuple[str, bytes]]:
    key = sample_key(pair.id)
    height, width = pair.valid.shape
    facts = {"id": pair.id, "scene": pair.record.scene, "split": split, "height": height, "width": width}
    facts |= {"box": _UNKNOWN_BOX if pair.box is None else pair.box, "record": to_json(pair.record)}
    return [
        (f"{key}.blur.png", encode_image(_PNG, pair.blur, colour=colour)),
        (f"{key}.json", to_json(facts).encode()),
        (f"{key}.sharp.png", encode_image(_PNG, pair.sharp, colour=colour)),
        (f"{key}.valid.png", _encode_mask(pair.valid)),
    ]


def _encode_mask(valid: NDArray[np.bool_]) -> bytes:
    _, encoded = cv2.imencode(".png", valid.astype(np.uint8) * np.uint8(255), (cv2.IMWRITE_PNG_COMPRESSION, 4))
    return bytes(encoded)


def _anonymous_member(name: str, size: int) -> tarfile.TarInfo:
    """A tar member without owner and time, which would make bytes differ from run to run."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
