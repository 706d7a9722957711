"""The page of the benchmark VSDD: what is measured, in words, and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdd_toolkit.bench.tables import all_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdd_toolkit.bench.scoring import ScoreRow

CSV, PLOT, STRIP, PAGE = "vsdd.csv", "vsdd.png", "vsdd-strip.png", "vsdd.md"

_TOP = f"""# VSDD: training on misaligned pairs, scored against the truth

```sh
make bench-vsdd                                  # the same as:
sdd bench vsdd --out vsdd --profile cpu          # two cores, no GPU; resumes
sdd bench vsdd --out vsdd-gpu --profile gpu      # larger, three seeds
```

What does misalignment of training pairs cost, and what brings it back? Rendered pairs know it. The virtual camera
shoots focus and aperture pairs; their sharp frames are displaced by 0 to 25 px on average (pan, tilt, roll and
breathing in the proportions of the camera's defaults), their blurred frames are the same bytes at every displacement.
In a second set the tripod has moved between the shots (parallax), leaves have moved and an object has. Every arm
trains the same network for the same number of steps on crops of the same number and size; only its data or its loss
differs. It is scored on test scenes that no arm has seen, against the noise-free truth on the blurred frame's grid.
Every number here is made from [`{CSV}`]({CSV}).

All arms estimate flow by the toolkit's own estimator, the official form, too (the published one needs PWC-Net's
weights). `sdd build` runs with its limits opened so that it keeps every pair, also those that it would reject for
what moved in them.

*Recovered* is (arm - naive) / (oracle - naive) in dB of PSNR, where naive training loses at least 0.3 dB. *Drift* is
the displacement of the output against its input ([evaluation](../evaluation.md#geometry-drift)). *Sharpness* is the
contrast of detail below about 2 px, divided by that of the truth; noise and artefacts count, too. Brackets are 95 %
intervals of a bootstrap over test scenes and seeds, the same draws for all arms; with one seed they hold no training
noise (about 0.04 dB).
"""

_PICTURES = f"""
![PSNR against the mean displacement, a line an arm]({PLOT})

![input, naive, JDRL, oracle, truth]({STRIP})
"""


def write_text(rows: Sequence[ScoreRow]) -> str:
    """The page in Markdown."""
    parts = [f"\n## {table.title}\n\n{table.markdown()}\n" for table in all_tables(rows)]
    return _TOP + (_PICTURES if rows else "\nNo run is finished yet.\n") + "".join(parts)
