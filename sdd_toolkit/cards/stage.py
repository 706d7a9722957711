"""The card stage: writes `README.md` beside the index, in the form of the Hugging Face Hub, and Croissant metadata."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.audit import leakage
from sdd_toolkit.cards import croissant
from sdd_toolkit.cards.config import CardConfig
from sdd_toolkit.config import validate
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.measurement_table import build_table
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import reject_counts, stream_records
from sdd_toolkit.quality.criteria import FilterConfig
from sdd_toolkit.records import REASON_TEXT, Reason, Report, Step, value_counts
from sdd_toolkit.shards.dataframes import CROISSANT_FILE, PAIRS_FILE, pairs_frame
from sdd_toolkit.shards.index import INDEX_NAME, Index, read_index
from sdd_toolkit.shards.tables import read_pair_rows
from sdd_toolkit.statistics import Quantiles, Summary, quantiles, summary
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.targets import check_own, is_own, sealed
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from sdd_toolkit.audit.leakage import Leakage
    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.storage.locations import Location

CARD_NAME = "README.md"
CARD_FILES = (CARD_NAME, CROISSANT_FILE, PAIRS_FILE)
_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_MISALIGNMENT = {
    "shift_px": "shift of the frame centre, px",
    "zoom_percent": "zoom (focus breathing), %",
    "rotation_deg": "rotation, degrees",
    "perspective_px": "perspective at the corners, px",
    "radial_px": "radial term at the corners, px",
    "before_px": "displacement before alignment, median of a pair, px",
    "before_p95_px": "displacement before alignment, 95 % of a pair, px",
    "residual_px": "residual displacement after alignment, median of a pair, px",
    "residual_p95_px": "residual displacement after alignment, 95 % of a pair, px",
    "error_px": "estimated error of the homography at the corners, px",
    "coc_px": "circle of confusion, radius, median of a pair, px",
    "coc_p95_px": "circle of confusion, radius, 95 % of a pair, px",
}
_EXPOSURE = {
    "f_number": "f-number",
    "shutter_s": "exposure time, s",
    "iso": "ISO",
    "focal_mm": "focal length, mm",
    "focus_m": "focus distance, m",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$]|^[-+=#])")


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """A row of the table of splits."""

    name: str
    hub_name: str
    scenes: int
    pairs: int
    patches: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Card:
    """The content of the template.

    Attributes:
        exposures: (quantity, blurred frames, sharp frames).
        misalignment: (quantity, quantiles of its absolute value over the packed pairs).
        thresholds: (key, value, meaning); empty if not known.
        rejected_pairs: (reason, meaning, count) of the pairs of the manifest; None without a manifest.
        rejected_files: (reason, meaning, count) of files that are in no pair; None without a list of them.
        steps: Every stage, version and configuration the packed pairs went through, with the number of pairs.
        sizes: (height, width) of the packed pairs, most frequent first, with the number of pairs.
        fused: Number of packed pairs whose sharp frame is an all-in-focus fusion.
        imported: Number of packed pairs that were imported unchanged, without alignment.
        colours: What was done with frames that were not plain sRGB, with the number of frames.
        leakage: Near duplicates in different splits.
    """

    config: CardConfig
    index: Index
    title: str
    size_category: str
    splits: tuple[SplitFacts, ...]
    summary: Summary
    lenses: dict[str, int]
    sizes: dict[tuple[int, int], int]
    exposures: tuple[tuple[str, Quantiles | None, Quantiles | None], ...]
    misalignment: tuple[tuple[str, Quantiles], ...]
    thresholds: tuple[tuple[str, str, str], ...]
    rejected_pairs: tuple[tuple[str, str, int], ...] | None
    rejected_files: tuple[tuple[str, str, int], ...] | None
    steps: tuple[tuple[Step, int], ...]
    reasons: dict[Reason, str]
    toolkit: str
    fused: int
    imported: int
    colours: dict[str, int]
    leakage: Leakage


def write_card(
    shards: Location,
    config: CardConfig,
    *,
    manifest: Path | None = None,
    thresholds: FilterConfig | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes the card of the packed data set in `shards`, and `croissant.json` with the table `pairs.csv`.

    Args:
        shards: Folder with `index.json`.
        config: Section `[card]`.
        manifest: The packed manifest, for rejections; by default `filtered.jsonl` in the parent folder on disk.
        thresholds: Thresholds of the filter; by default those in `config.json` beside the manifest.
        overwrite: Whether files of others, and a card that was edited, are replaced.

    Raises:
        InputError: There is no index or no such manifest, or the card cannot be written.
        IntegrityError: A shard is missing or damaged.
    """
    started = time.monotonic()
    check_own((shards / name for name in CARD_FILES), overwrite=overwrite)
    if manifest is None and isinstance(shards, Path):
        default = shards.parent / "filtered.jsonl"
        manifest = default if default.is_file() else None
    index = read_index(shards)
    rows = [(shard.split, row) for shard in index.shards for row in read_pair_rows(shards, shard)]
    records, sizes = tuple(row.record for _, row in rows), [row.size for _, row in rows]
    frame = build_table(records)
    leaks = leakage.find_leaks([leakage.hash_pair(row.record, split, row.perceptual_hash) for split, row in rows])
    if thresholds is None and manifest is not None:
        thresholds = _recorded_thresholds(manifest)
    card = gather_facts(index, records, frame, sizes, config, manifest, thresholds, leaks)
    files = croissant.croissant_files(
        index, (shards / INDEX_NAME).read_bytes(), pairs_frame(index, records, sizes, frame), config
    )
    for name, text in {CARD_NAME: sealed(render_card(card)), **files}.items():
        write_text(shards / name, text)
    return Report(
        stage="card",
        total=len(records),
        done=len(records),
        skipped=0,
        rejected={},
        seconds=time.monotonic() - started,
        outputs=tuple(str(shards / name) for name in (CARD_NAME, *files)),
    )


def remove_card(shards: Location) -> None:
    """Removes the card, the Croissant metadata and the table from a folder that no longer holds a data set."""
    if (shards / INDEX_NAME).is_file():
        return
    for path in (shards / name for name in CARD_FILES):
        with suppress(OSError):
            if is_own(path):
                path.unlink()


def gather_facts(
    index: Index,
    records: Sequence[PairRecord],
    frame: pd.DataFrame,
    sizes: Sequence[tuple[int, int]],
    config: CardConfig,
    manifest: Path | None,
    thresholds: FilterConfig | None,
    leaks: Leakage,
) -> Card:
    """Gathers the facts of a data set for the template.

    Args:
        index: Index of the data set.
        records: Its packed pairs.
        frame: `measurement_table.build_table` of `records`.
        sizes: (height, width) of each pair.
        config: Section `[card]`.
        manifest: The packed manifest, if there is one.
        thresholds: Thresholds of the filter, if known.
        leaks: Near duplicates in different splits.
    """
    listed = None if manifest is None else manifest.parent / "rejected_files.csv"
    return Card(
        config=config,
        index=index,
        title=config.name or index.name,
        size_category=next((label for limit, label in _SIZES if len(records) < limit), "n>1M"),
        splits=tuple(_split_facts(index, split) for split in SPLITS if index.splits.get(split)),
        summary=summary(frame),
        lenses=value_counts(name or "unknown" for name in frame["lens"]),
        sizes=dict(Counter(sizes).most_common()),
        exposures=tuple(
            (label, quantiles(frame[f"blur_{name}"]), quantiles(frame[f"sharp_{name}"]))
            for name, label in _EXPOSURE.items()
        ),
        misalignment=_misalignment(frame),
        thresholds=() if thresholds is None else _threshold_rows(thresholds),
        rejected_pairs=None if manifest is None else _with_meaning(_count_rejected(manifest)),
        rejected_files=None if listed is None or not listed.is_file() else _with_meaning(_count_file_reasons(listed)),
        steps=tuple(Counter(step for record in records for step in _steps_without_inputs(record)).items()),
        reasons=REASON_TEXT,
        toolkit=__version__,
        fused=sum(any(step.stage == "fuse" for step in record.history) for record in records),
        imported=sum(record.alignment is None for record in records),
        colours=value_counts(meta.colour for record in records for meta in (record.blur_meta, record.sharp_meta)),
        leakage=leaks,
    )


def render_card(card: Card) -> str:
    """The card as Markdown with YAML front matter."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sdd_toolkit.cards"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({"yaml": yaml_text, "md": markdown_text, "number": lambda value: f"{value:.3g}"})
    return environment.get_template("card.md.jinja").render(card=card)


def yaml_text(value: object) -> str:
    """Quotes any value as a double-quoted YAML scalar."""
    quoted = json.dumps(str(value), ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in quoted)


def markdown_text(value: object) -> str:
    """Escapes any value as one line of Markdown text without markup."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", escaped)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _steps_without_inputs(record: PairRecord) -> Iterable[Step]:
    # The hash of a step's inputs differs from pair to pair; stage, version and configuration do not.
    return (Step(step.stage, step.version, step.config, inputs="") for step in record.history)


def _split_facts(index: Index, split: str) -> SplitFacts:
    shards = [shard for shard in index.shards if shard.split == split]
    return SplitFacts(
        name=split,
        hub_name=_HUB_SPLITS[split],
        scenes=len(index.splits[split]),
        pairs=sum(len(shard.pairs) for shard in shards),
        patches=sum(shard.patches for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
    )


def _misalignment(frame: pd.DataFrame) -> tuple[tuple[str, Quantiles], ...]:
    rows = ((label, quantiles(frame[name].abs())) for name, label in _MISALIGNMENT.items())
    return tuple((label, spread) for label, spread in rows if spread is not None)


def _threshold_rows(config: FilterConfig) -> tuple[tuple[str, str, str], ...]:
    values = config.model_dump(mode="json")
    fields = type(config).model_fields
    return tuple((key, f"{value:g}", fields[key].description or "") for key, value in values.items())


def _recorded_thresholds(manifest: Path) -> FilterConfig | None:
    path = manifest.parent / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["filter"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return validate(FilterConfig, values, where=f"{path} [filter]") if isinstance(values, dict) else None


def _with_meaning(counts: dict[str, int]) -> tuple[tuple[str, str, int], ...]:
    return tuple((str(name), REASON_TEXT[Reason(name)], count) for name, count in counts.items())


def _count_file_reasons(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return value_counts(Reason(row["reason"]) for row in csv.DictReader(stream))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ManifestError(
            f"{path} is not a list of rejected files: {error}", hint="run `sdd ingest` again"
        ) from error


def _count_rejected(manifest: Path) -> dict[str, int]:
    _, pairs = stream_records(manifest)
    return reject_counts(record for record, _ in pairs)
