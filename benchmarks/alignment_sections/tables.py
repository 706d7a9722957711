"""The tables of the alignment benchmark: methods down, cases across."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.alignment_sections import calibration, honesty
from benchmarks.alignment_sections.aligners import NOTHING, OURS
from benchmarks.alignment_sections.measurement import Measurement, distinct, median, values

FAILED_PX = 2.0
NEAR_PX = 0.5
NAME_WIDTH = 26
RATIO = "best rival / ours"


@dataclass(frozen=True, slots=True)
class Table:
    """Words in cells; the first column names the row."""

    header: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        """For a terminal: columns as wide as they need to be."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        widths[0] = max(widths[0], NAME_WIDTH)
        lines = []
        for name, *cells in (self.header, *self.rows):
            padded = (cell.rjust(width + 2) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append(name.ljust(widths[0]) + "".join(padded))
        return "\n".join(lines)

    def markdown(self) -> str:
        rule = ["---", *("---:" for _ in self.header[1:])]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))


def px(value: float) -> str:
    """Three decimals where they say something; a dash where there is nothing to say."""
    if not math.isfinite(value):
        return "fails" if value > 0 else "–"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def spread(found: list[float]) -> str:
    """Median, and the worst answer in brackets."""
    answers = [value for value in found if not math.isnan(value)]
    return f"{px(median(found))} ({px(max(answers))})" if answers else "fails" if found else "–"


def wrong(found: list[float]) -> str:
    """The count of answers that are missing or more than 2 px off."""
    return f"{sum(not value <= FAILED_PX for value in found)}/{len(found)}"


def seconds(found: list[float]) -> str:
    return f"{median(found):.2f}" if found else "–"


def by_group(rows: list[Measurement], section: str, quantity: str, label: Callable[[str], str]) -> Table:
    """Every group's median and worst; all failures; CPU seconds; a last row for the best rival's share of ours."""
    rows = [row for row in rows if row.section == section]
    measured = [row for row in rows if row.quantity == quantity]
    groups, methods = distinct(row.group for row in measured), distinct(row.method for row in measured)
    lines, medians = [], {}
    for method in methods:
        cells = [values(rows, quantity, group=group, method=method) for group in groups]
        medians[method] = [median(cell) for cell in cells]
        every = [value for cell in cells for value in cell]
        cpu = seconds(values(rows, "cpu_s", method=method))
        lines.append([method, *map(spread, cells), wrong(every), cpu])
    rivals = [medians[method] for method in methods if method not in (NOTHING, OURS)]
    if rivals and OURS in medians:
        best = [min(column) for column in zip(*rivals, strict=True)]
        lines.append([RATIO, *(f"{a / b:.1f}" for a, b in zip(best, medians[OURS], strict=True)), "", ""])
    return Table(["", *map(label, groups), f"> {FAILED_PX:g} px", "CPU s"], lines)


def planted(rows: list[Measurement]) -> list[Table]:
    return [by_group(rows, "planted", "corner_error_px", lambda radius: f"disc {radius} px")]


def large(rows: list[Measurement]) -> list[Table]:
    rows = [row for row in rows if row.section == "large"]
    lines = []
    for method in distinct(row.method for row in rows):
        errors = values(rows, "corner_error_px", method=method)
        near = sum(error <= NEAR_PX for error in errors) / len(errors)
        cpu = seconds(values(rows, "cpu_s", method=method))
        lines.append([method, f"{near:.0%}", spread(errors), wrong(errors), cpu])
    return [Table(["", f"within {NEAR_PX:g} px", "median (worst) px", f"> {FAILED_PX:g} px", "CPU s"], lines)]


def virtual(rows: list[Measurement]) -> list[Table]:
    """Homographies; then dense motion, one table a kind of pair."""
    mine = [row for row in rows if row.section == "virtual"]
    tables = [by_group(rows, "virtual", "corner_error_px", str)]
    for group in distinct(row.group for row in mine):
        lines = []
        for method in distinct(row.method for row in mine if row.quantity == "epe_median_px"):
            middle, tail, f1 = (
                values(mine, quantity, group=group, method=method)
                for quantity in ("epe_median_px", "epe_p95_px", "occlusion_f1")
            )
            cpu = seconds(values(mine, "flow_cpu_s", group=group, method=method))
            known = [value for value in f1 if not math.isnan(value)]
            lines.append([method, spread(middle), spread(tail), f"{median(known):.2f}" if known else "–", cpu])
        header = [group, "median over pixels, px", "95th percentile, px", "occlusion F1", "CPU s"]
        tables.append(Table(header, lines))
    return tables


def loops(rows: list[Measurement]) -> list[Table]:
    """Stacks by their motion from the first frame to the last; pairs by the motion left."""
    rows = [row for row in rows if row.section == "loops"]
    stacks = distinct(row.group for row in rows if row.quantity == "loop_px")
    motions = [median(values(rows, "motion_px", group=stack)) for stack in stacks]
    lines = []
    for method in sorted(distinct(row.method for row in rows), key=lambda name: name != NOTHING):
        ways = [spread(values(rows, "loop_px", group=stack, method=method)) for stack in stacks]
        left = (spread(values(rows, quantity, method=method)) for quantity in ("residual_px", "own_residual_px"))
        lines.append([method, *ways, *left])
    known = zip(stacks, motions, strict=True)
    header = [f"{stack}, moves {motion:.1f} px" if math.isfinite(motion) else stack for stack, motion in known]
    return [Table(["", *header, "pairs: motion left", "by our own flow"], lines)]


def honest(rows: list[Measurement]) -> list[Table]:
    kinds = Table(["", "pairs", "refused", "true error, median (worst) px", "own estimate, median (largest) px"], [])
    for kind in (*honesty.EASY, *honesty.HARD, *honesty.IMPOSSIBLE):
        pairs = honesty.pairs_of(rows, (kind,))
        answered = [pair for pair in pairs if not math.isnan(pair[1])]
        true, estimated = ([pair[side] for pair in answered] for side in (0, 1))
        refused = f"{len(pairs) - len(answered)}"
        kinds.rows.append([kind, str(len(pairs)), refused, spread(true), spread(estimated)])
    every = honesty.pairs_of(rows, (*honesty.EASY, *honesty.HARD, *honesty.IMPOSSIBLE))
    answered = [pair for pair in every if not math.isnan(pair[1])]
    impossible, easy = (honesty.pairs_of(rows, group) for group in (honesty.IMPOSSIBLE, honesty.EASY))
    summary = [
        ["rank correlation of estimate and error, all pairs", f"{honesty.rank_correlation(every):.3f}"],
        ["the same, pairs it answered", f"{honesty.rank_correlation(answered):.3f}"],
        ["impossible pairs refused", f"{honesty.refused_fraction(impossible):.1%}"],
        ["pairs with a disc up to 16 px refused", f"{honesty.refused_fraction(easy):.1%}"],
    ]
    return [kinds, Table(["", f"{len(every)} pairs"], summary)]


def calibrated(rows: list[Measurement]) -> list[Table]:
    """Every stack and every disc, then all of each; shares of the cases that have an estimate."""
    cases = calibration.cases_of(rows)
    header = ["", "cases", "refused", "error, median (worst) px", "own estimate, median (largest) px"]
    table = Table([*header, "within 1 x", "within 2 x", "within, scaled by the others"], [])
    for name, pairs in (*cases.items(), *calibration.pooled(cases).items()):
        answered = [pair for pair in pairs if not math.isnan(pair[1])]
        shares = [calibration.share_within(pairs, factor) for factor in (1, 2)]
        shares.append(calibration.share_by_the_others(cases, name) if name in cases else math.nan)
        known = (spread([pair[side] for pair in answered]) for side in (0, 1))
        counts = str(len(pairs)), str(len(pairs) - len(answered))
        table.rows.append([name, *counts, *known, *("–" if math.isnan(share) else f"{share:.0%}" for share in shares)])
    return [table]


def cost(rows: list[Measurement]) -> list[Table]:
    rows = [row for row in rows if row.section == "cost"]
    lines = []
    for method in distinct(row.method for row in rows):
        memory = (f"{median(values(rows, field, method=method)):.0f}" for field in ("before_mb", "peak_mb"))
        lines.append([method, seconds(values(rows, "cpu_s", method=method)), *memory])
    return [Table([*distinct(row.group for row in rows), "CPU s", "MB before", "peak MB"], lines)]
