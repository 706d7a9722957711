"""The stage `ingest`: from folders of RAW files and images to a manifest of pairs and a list of all other files."""

from __future__ import annotations

import csv
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from capture.ingest.last_run import LAST_RUN_FILE, hash_state, read_last_report, save_run
from capture.inspection.inspection_cache import CACHE_FILE
from capture.inspection.scan import scan_folders
from capture.pairing.pair_table import read_table
from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.execution.progress import silent
from sdd_toolkit.execution.spec import workers_of
from sdd_toolkit.pipeline.configurations import CONFIGURATIONS
from sdd_toolkit.recorded_config import RECORDED_CONFIG
from sdd_toolkit.records import PairKind, Reason, Report, value_counts
from sdd_toolkit.storage.files import PARTIAL, write_csv
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from capture.config import IngestConfig
    from capture.ingest.pairs import IngestResult
    from capture.inspection.scan import Scan
    from capture.pairing.pair_table import TableRow
    from sdd_toolkit.execution.progress import Track

MANIFEST = "ingested.jsonl"
REJECTED = "rejected_files.csv"


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The files to pair, and the table of pairs if there is one."""

    scan: Scan
    rows: tuple[TableRow, ...]


def ingest_photographs(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    table: Path | None = None,
    executor: str = "serial",
    overwrite: bool = False,
    track: Track = silent,
) -> Report:
    """Writes `out/ingested.jsonl` and `out/rejected_files.csv`.

    A file unchanged since an earlier run into the same folder is not opened again; if nothing changed at all, the
    outputs are left as they are.

    Args:
        sources: Folders, searched recursively, or single files.
        out: Folder of the data set.
        config: Grouping and pairing.
        table: The pairs, for `pairing = "csv"`.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Read every file again.
        track: Shows progress.

    Raises:
        InputError: A source is missing, there is no photograph, the table is wrong, or `out` cannot be written.
        ConfigError: The executor's name is unknown.
    """
    started = time.monotonic()
    check_own((out / name for name in (MANIFEST, REJECTED, CONFIGURATIONS, RECORDED_CONFIG)), overwrite=overwrite)
    cache = out / CACHE_FILE
    if overwrite:
        cache.unlink(missing_ok=True)
        (out / LAST_RUN_FILE).unlink(missing_ok=True)
    workers_of(executor)
    inputs = _find_inputs(sources, out, config, table)
    state = hash_state(inputs.scan, config, table)
    report = read_last_report(out, state)
    if report is None:
        result = _inspect_and_pair(inputs, config, executor, cache, track)
        # Before the manifest: a run that finds it finished does not copy the configuration.
        _copy_configuration(out, config)
        report = _write_result(out, result)
        save_run(out, state, len(inputs.scan.files), report)
    return replace(report, seconds=time.monotonic() - started)


def find_pairs(
    sources: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    table: Path | None = None,
    executor: str = "serial",
    track: Track = silent,
) -> IngestResult:
    """The result that `ingest_photographs` writes, without writing anything; see there for the arguments."""
    workers_of(executor)
    return _inspect_and_pair(_find_inputs(sources, out, config, table), config, executor, None, track)


def count_pairs(out: Path) -> int:
    """Number of pairs in the manifest of `out`: its lines without the header."""
    return max((out / MANIFEST).read_bytes().count(b"\n") - 1, 0)


def check_has_pairs(out: Path, pairing: PairKind) -> None:
    """Refuses a data set without pairs, with the commonest reason of `rejected_files.csv`.

    Raises:
        InputError: `ingest_photographs` found no pair.
    """
    if count_pairs(out):
        return
    with (out / REJECTED).open(encoding="utf-8", newline="") as stream:
        rows = [(row["reason"], row["detail"]) for row in csv.DictReader(stream)]
    raise _no_pair_error(rows, f"{_REMEDIES[pairing]}; see {out / REJECTED}")


def check_found_pairs(result: IngestResult, pairing: PairKind) -> None:
    """Refuses the result of `find_pairs` as `check_has_pairs` would refuse its data set.

    Raises:
        InputError: It has no pair.
    """
    if not result.pairs.records:
        raise _no_pair_error([(entry.reason, entry.detail) for entry in result.rejected], _REMEDIES[pairing])


def _no_pair_error(rows: Sequence[tuple[str, str]], hint: str) -> InputError:
    # Copies and foreign files have done their part; what is left tells why there is no pair.
    telling = [row for row in rows if row[0] not in (Reason.DUPLICATE, Reason.UNSUPPORTED)] or rows
    reason = Counter(reason for reason, _ in telling).most_common(1)[0][0]
    detail = Counter(detail for other, detail in telling if other == reason).most_common(1)[0][0]
    return InputError(f"{len(rows)} files, no pair: {reason}, {detail}", hint=hint)


_REMEDIES = {
    PairKind.APERTURE: "try --pairing focus or auto",
    PairKind.FOCUS: "try --pairing aperture, sequence or auto",
    PairKind.SEQUENCE: "try --pairing focus or auto",
    PairKind.AUTO: "name the pairs in a table: --pairing csv --table FILE",
    PairKind.CSV: "check the files that the table names",
}


def _find_inputs(sources: Sequence[Path], out: Path, config: IngestConfig, table: Path | None) -> _Inputs:
    rows = _read_rows(table, sources, config)
    in_table = [path for row in rows for path in (row.blur, row.sharp)]
    if not sources and not in_table:
        raise InputError("no folder to search", hint="sdd ingest DIR --out DATASET")
    return _Inputs(scan_folders([*sources, *in_table], _toolkit_outputs(sources, out)), rows)


def _read_rows(table: Path | None, sources: Sequence[Path], config: IngestConfig) -> tuple[TableRow, ...]:
    if (table is not None) != (config.pairing is PairKind.CSV):
        raise ConfigError(
            f"pairing {config.pairing.value!r} {'without' if table is None else 'with'} a table",
            hint="--table FILE goes with --pairing csv, and neither without the other",
        )
    rows = read_table(table, [source for source in sources if source.is_dir()]) if table is not None else ()
    if table is not None and not rows:
        raise InputError(f"{table} lists no pair", hint="a first line blur,sharp and one line a pair")
    return rows


def _toolkit_outputs(sources: Sequence[Path], out: Path) -> list[Path]:
    """Paths to leave out of the search: the data set's folder, or, where sources lie in it, the stages' outputs."""
    if not any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        return [out]
    from sdd_toolkit.pipeline.dataset_folder import DatasetFolder
    from sdd_toolkit.pipeline.stage_runner import JOURNAL
    from sdd_toolkit.storage.folder_lock import LOCK_FILES

    dataset = DatasetFolder(out)
    files = (
        *(dataset.ingested, dataset.fused, dataset.aligned, dataset.filtered, dataset.config),
        *(out / REJECTED, out / CACHE_FILE, out / LAST_RUN_FILE, out / CONFIGURATIONS),
    )
    # A killed run leaves journals and partial files.
    leftovers = [path.with_name(path.name + ending) for path in files for ending in ("", JOURNAL, PARTIAL)]
    locks = [out / name for name in LOCK_FILES]
    return [*locks, *leftovers, out / "shards", dataset.report, out / "flow", out / "fused"]


def _inspect_and_pair(
    inputs: _Inputs, config: IngestConfig, executor: str, cache: Path | None, track: Track
) -> IngestResult:
    # Late: a run in which nothing changed is over before these are needed.
    from capture.ingest.pairs import form_pairs
    from capture.inspection.survey import Survey

    use_exiftool = config.exiftool and _has_exiftool()
    survey = Survey(inputs.scan.files, cache, executor, use_exiftool, track)
    if config.check_pixels:
        survey.measure_pixels([file.ref for file in inputs.scan.files])
    result = form_pairs(inputs.scan, survey, inputs.rows, config)
    survey.save()
    return result


def _has_exiftool() -> bool:
    from sdd_toolkit.metadata.exiftool import find_program

    return find_program() is not None


def _copy_configuration(out: Path, config: IngestConfig) -> None:
    from sdd_toolkit.pipeline import configurations

    configurations.copy_configurations(out, out, "ingest", config)


def _write_result(out: Path, result: IngestResult) -> Report:
    from sdd_toolkit.pipeline import manifest

    manifest.write_manifest(out / MANIFEST, result.pairs)
    rows = [(entry.path, entry.reason, entry.detail) for entry in result.rejected]
    write_csv(out / REJECTED, ("path", "reason", "detail"), rows)
    return Report(
        stage="ingest",
        total=result.files,
        done=result.files - result.unchanged,
        skipped=result.unchanged,
        rejected=value_counts(entry.reason for entry in result.rejected),
        seconds=0.0,
        outputs=(str(out / MANIFEST), str(out / REJECTED)),
        side_files=result.side_files,
    )
