"""Croissant metadata (mlcommons.org/croissant, 1.0): every file with its hash, and the table of pairs as a record set.

It is written as plain JSON; the tests validate it with mlcroissant.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from sdd_toolkit.measurement_table import NUMBER_COLUMNS
from sdd_toolkit.shards.dataframes import CROISSANT_FILE, PAIRS_FILE, pairs_to_csv
from sdd_toolkit.shards.index import INDEX_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pandas as pd

    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.shards.index import Index

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_CROISSANT_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _CROISSANT_TERMS},
}
_INDEX_TEXT = "the index of the shards: splits, scenes, hashes, pairs that could not be packed, configurations"


def croissant_files(index: Index, index_bytes: bytes, frame: pd.DataFrame, config: CardConfig) -> dict[str, str]:
    """The texts of `pairs.csv` and `croissant.json` by file name.

    Args:
        index: Index of the data set.
        index_bytes: Content of its file.
        frame: Its pairs, see `index_table.pairs_frame`.
        config: Section `[card]`.
    """
    pairs = pairs_to_csv(frame)
    content = build_metadata(index, index_bytes, frame, pairs.encode(), config)
    return {PAIRS_FILE: pairs, CROISSANT_FILE: json.dumps(content, ensure_ascii=False, indent=1) + "\n"}


def build_metadata(
    index: Index, index_bytes: bytes, frame: pd.DataFrame, pairs_bytes: bytes, config: CardConfig
) -> dict[str, Any]:
    """The content of `croissant.json`; arguments as of `croissant_files`."""
    title = config.name or index.name
    files = [
        _file(PAIRS_FILE, "text/csv", hashlib.sha256(pairs_bytes).hexdigest(), len(pairs_bytes), "one row a pair"),
        _file(INDEX_NAME, "application/json", hashlib.sha256(index_bytes).hexdigest(), len(index_bytes), _INDEX_TEXT),
        *(
            _file(
                shard.name, "application/x-hdf5", shard.sha256, shard.bytes, f"{len(shard.pairs)} {shard.split} pairs"
            )
            for shard in index.shards
        ),
    ]
    descriptions = {
        "license": config.license,
        "url": config.url,
        "version": config.version,
        "datePublished": config.published,
        "citeAs": config.citation or _citation(title, config.authors),
    }
    creators = [{"@type": "sc:Person", "name": name} for name in config.authors]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": title,
        "description": config.description or f"{len(frame)} pairs of an out-of-focus and a sharp photograph.",
        **{key: value for key, value in descriptions.items() if value},
        **({"creator": creators} if creators else {}),
        "distribution": files,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "pairs",
                "name": "pairs",
                "description": "One pair a record; its pixels are the group of its id in the file of the column shard.",
                "key": {"@id": "pairs/id"},
                "field": [_field(name, frame) for name in frame.columns],
            }
        ],
    }


def _citation(title: str, authors: Sequence[str]) -> str:
    return f"{', '.join(authors)}: {title}" if authors else title


def _file(name: str, media_type: str, sha256: str, size: int, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": media_type,
        "sha256": sha256,
    }


def _field(name: str, frame: pd.DataFrame) -> dict[str, Any]:
    if name in NUMBER_COLUMNS:
        data_type = "sc:Float"
    else:
        data_type = {"int64": "sc:Integer", "bool": "sc:Boolean"}.get(str(frame[name].dtype), "sc:Text")
    return {
        "@type": "cr:Field",
        "@id": f"pairs/{name}",
        "name": name,
        "dataType": data_type,
        "source": {"fileObject": {"@id": PAIRS_FILE}, "extract": {"column": name}},
    }
