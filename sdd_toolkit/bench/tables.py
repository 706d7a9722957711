"""The tables of the benchmark VSDD in Markdown, made of its table of scores and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.bench.intervals import Interval, difference, mean_of, recovered_share, sample_of
from sdd_toolkit.bench.plan import (
    ABLATION,
    ABLATION_LEVEL,
    ARMS,
    INPUT,
    JDRL,
    LEVELS,
    LOCAL,
    NAIVE,
    ORACLE,
    PRE_ALIGNED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sdd_toolkit.bench.intervals import Sample
    from sdd_toolkit.bench.scoring import ScoreRow

TITLES = {INPUT: "input", **{name: arm.title for name, arm in ARMS.items()}}
FAMILY_OF = {level.name: level.family for level in (*LEVELS.values(), LOCAL)}
DISPLACED = [LEVELS[px] for px in sorted(LEVELS)]
NO_NUMBER = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title; cells are texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown; all columns but the first are numbers."""
        lines = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Scores:
    """Rows of scores, looked up by arm and level; an oracle and the input count for all levels of their family."""

    def __init__(self, rows: Sequence[ScoreRow]) -> None:
        self._rows = rows
        present = {(row.arm, FAMILY_OF[row.level]): row.level for row in rows}
        self._shared = {key: level for key, level in present.items() if key[0] in (INPUT, ORACLE)}

    def sample(self, arm: str, level: str, measure: str) -> Sample | None:
        """The values of a measure, or None."""
        where = self._shared.get((arm, FAMILY_OF[level]), level)
        return sample_of(self._rows, arm, where, measure)

    def against(self, arm: str, reference: str, level: str, measure: str = "psnr_db") -> Interval | None:
        """The difference of two arms."""
        samples = [self.sample(name, level, measure) for name in (arm, reference)]
        return difference(samples[0], samples[1]) if samples[0] and samples[1] else None

    def recovered(self, arm: str, level: str) -> Interval | None:
        """The share of the loss of naive training that an arm recovers."""
        samples = [self.sample(name, level, "psnr_db") for name in (arm, NAIVE, ORACLE)]
        return recovered_share(samples[0], samples[1], samples[2]) if all(samples) else None  # type: ignore[arg-type]

    def has(self, arm: str, level: str) -> bool:
        """Whether there is a score of the arm at the level."""
        return self.sample(arm, level, "psnr_db") is not None


def all_tables(rows: Sequence[ScoreRow]) -> list[Table]:
    """Every table for which there are scores."""
    scores = Scores(rows)
    names = [level.name for level in DISPLACED]
    tables = [
        _by_level("PSNR against the truth, dB, by mean displacement", scores, names, _psnr_cell),
        _by_level("Difference to the oracle, dB, with its 95 % interval", scores, names, _difference_cell),
        _by_level("Recovered share of the loss of naive training", scores, names, _recovered_cell),
        _details(f"All scores at {ABLATION_LEVEL.displacement_px:g} px", scores, ABLATION_LEVEL.name, _MAIN_ROWS),
        _details(
            f"What each part is worth, at {ABLATION_LEVEL.displacement_px:g} px",
            scores,
            ABLATION_LEVEL.name,
            (JDRL, *ABLATION),
            reference=JDRL,
        ),
        _details(
            "Local motion, parallax and a moving object",
            scores,
            LOCAL.name,
            (INPUT, ORACLE, NAIVE, "global", PRE_ALIGNED, JDRL, "jdrl_built", "official"),
            reference=PRE_ALIGNED,
        ),
    ]
    return [table for table in tables if table.rows]


_MAIN_ROWS = (INPUT, ORACLE, NAIVE, PRE_ALIGNED, JDRL, "jdrl_built", "triplet", "official")
_LEVEL_ROWS = (INPUT, ORACLE, NAIVE, PRE_ALIGNED, JDRL, "jdrl_built", "triplet", "official")


def _by_level(title: str, scores: Scores, levels: Sequence[str], cell: Callable[[Scores, str, str], str]) -> Table:
    present = [level for level in levels if any(scores.has(arm, level) for arm in (NAIVE, PRE_ALIGNED, JDRL))]
    displacements = {level.name: f"{level.displacement_px:g} px" for level in DISPLACED}
    rows = []
    for arm in _LEVEL_ROWS:
        cells = [cell(scores, arm, level) if scores.has(arm, level) else "" for level in present]
        if any(text not in ("", NO_NUMBER) for text in cells):
            rows.append((TITLES[arm], *cells))
    return Table(title, ("", *(displacements[level] for level in present)), tuple(rows))


def _details(title: str, scores: Scores, level: str, arms: Sequence[str], reference: str = ORACLE) -> Table:
    head = ("", "PSNR, dB", f"difference to {_short(reference)}, dB", "SSIM", "drift, px", "sharpness", "recovered")
    rows = []
    for arm in arms:
        if not scores.has(arm, level):
            continue
        samples = [scores.sample(arm, level, measure) for measure in ("psnr_db", "ssim", "drift_px", "sharpness")]
        psnr, ssim, drift, sharpness = (None if sample is None else mean_of(sample) for sample in samples)
        gain = None if arm == reference else scores.against(arm, reference, level)
        rows.append((
            TITLES[arm],
            _text(psnr, ".2f", interval=False),
            _text(gain, "+.2f"),
            _text(ssim, ".3f", interval=False),
            _text(drift, ".3f"),
            _text(sharpness, ".2f"),
            _recovered_cell(scores, arm, level),
        ))  # fmt: skip
    return Table(title, head, tuple(rows))


def _psnr_cell(scores: Scores, arm: str, level: str) -> str:
    sample = scores.sample(arm, level, "psnr_db")
    return "" if sample is None else f"{mean_of(sample).mean:.2f}"


def _difference_cell(scores: Scores, arm: str, level: str) -> str:
    return "" if arm == ORACLE else _text(scores.against(arm, ORACLE, level), "+.2f")


def _recovered_cell(scores: Scores, arm: str, level: str) -> str:
    if arm in (INPUT, ORACLE, NAIVE):
        return ""
    share = scores.recovered(arm, level)
    if share is None:
        return NO_NUMBER
    return f"{100 * share.mean:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _text(value: Interval | None, form: str, *, interval: bool = True) -> str:
    if value is None:
        return ""
    mean = f"{value.mean:{form}}"
    return f"{mean} [{value.low:{form}}, {value.high:{form}}]" if interval else mean


def _short(arm: str) -> str:
    return {ORACLE: "the oracle", JDRL: "JDRL", PRE_ALIGNED: "pre-aligned"}[arm]
