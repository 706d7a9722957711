"""Tables of an evaluation for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jdrl.evaluation.page_tables import RADIUS_COLUMNS, harm_rows, radius_rows
from jdrl.evaluation.radius_scores import SIZES
from jdrl.evaluation.scores import MEAN
from sdd_toolkit.cli.terminal_text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jdrl.evaluation.comparison import RankedScore
    from jdrl.evaluation.results import EvaluationResult


def build_tables(evaluation: EvaluationResult) -> Iterator[Table]:
    """Yields the tables: scores; by blur; LPIPS and DISTS if measured; drift; differences from the first method."""
    yield _scores(evaluation)
    if evaluation.radii is not None:
        yield _radii(evaluation)
        if any(row.pixels for row in evaluation.radii.harm):
            yield _harm(evaluation)
    if any(score.lpips is not None or score.dists is not None for score in evaluation.means):
        yield _perceptual(evaluation)
    yield _drift(evaluation)
    if len(evaluation.models) > 1:
        yield _differences(evaluation)


def _scores(evaluation: EvaluationResult) -> Table:
    title = f"{evaluation.split}: {evaluation.report.total} pairs, {evaluation.domain}"
    table = _table(title, ("protocol", "image"), ("PSNR dB", "SSIM", "SSIM gaussian", "MAE"))
    several = len(evaluation.models) > 1
    for score in evaluation.means:
        numbers = ((score.psnr_db, 2), (score.ssim, 4), (score.ssim_gaussian, 4), (score.mae, 4))
        image = score.checkpoint if several and score.checkpoint else score.image
        table.add_row(score.protocol, _name(image), *(_number(*number) for number in numbers))
    return table


def _radii(evaluation: EvaluationResult) -> Table:
    title = "Gain dB by blur of the input, px: disc between its two frames; aligned, colours fitted"
    table = _table(title, ("image",), RADIUS_COLUMNS)
    for row in radius_rows(evaluation):
        table.add_row(_name(row.names[0]), *(cell.value for cell in row.cells))
    return table


def _harm(evaluation: EvaluationResult) -> Table:
    heads = tuple(head for size in SIZES for head in (f"{size} dB", "changed"))
    table = _table("Where the input is in focus: PSNR to input, pixels changed", ("image",), heads)
    for row in harm_rows(evaluation):
        table.add_row(_name(row.names[0]), *(cell.value for cell in row.cells))
    return table


def _perceptual(evaluation: EvaluationResult) -> Table:
    table = _table("Looks: smaller is better", ("protocol", "image"), ("LPIPS", "DISTS"))
    for score in evaluation.means:
        table.add_row(
            score.protocol, _name(score.checkpoint or score.image), _number(score.lpips, 4), _number(score.dists, 4)
        )
    return table


def _drift(evaluation: EvaluationResult) -> Table:
    table = _table("Drift off the blurred frame", ("image",), ("mean px", "95 % px", "blocks", "abstained"))
    for row in evaluation.drifts:
        if row.pair == MEAN:
            name = row.checkpoint or "sharp frame, aligned"
            numbers = (_number(row.mean_px, 3), _number(row.p95_px, 3))
            table.add_row(_name(name), *numbers, str(row.blocks), str(row.abstained))
    return table


def _differences(evaluation: EvaluationResult) -> Table:
    table = _table(
        f"Against {escape_unprintable(evaluation.models[0].label)}, with 95 % intervals",
        ("protocol", "checkpoint"),
        ("PSNR dB", "SSIM", "drift px"),
    )
    rows_by_key = {(row.protocol, row.checkpoint, row.measure): row for row in evaluation.standings}
    for protocol in dict.fromkeys(row.protocol for row in evaluation.standings):
        for model in evaluation.models[1:]:
            rows = [(rows_by_key.get((protocol, model.label, name)), digits) for name, digits in _COMPARED]
            table.add_row(protocol, _name(model.label), *(_difference(row, digits) for row, digits in rows))
    return table


_COMPARED = (("psnr_db", 2), ("ssim", 4), ("drift_px", 3))


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=Text(title))
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _name(name: str) -> Text:
    """Escapes an untrusted name for rich and for the terminal."""
    return Text(escape_unprintable(name))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _difference(row: RankedScore | None, digits: int) -> str:
    if row is None or row.difference is None:
        return "–"
    value = f"{row.difference:+.{digits}f}"
    if row.difference_low is None or row.difference_high is None:
        return value
    return f"{value}\n{row.difference_low:+.{digits}f} … {row.difference_high:+.{digits}f}"
