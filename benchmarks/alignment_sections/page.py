"""The page of the alignment benchmark: what was done in words, what came out in tables and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.alignment_sections import tables
from benchmarks.alignment_sections.aligners import aligners
from benchmarks.alignment_sections.measurement import Measurement, distinct
from benchmarks.alignment_sections.tables import Table

NAME = "alignment"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Part:
    """One section: its title, what it is, its tables, and what its picture shows if it has one."""

    title: str
    words: str
    tables: Callable[[list[Measurement]], list[Table]]
    picture: str = ""


PARTS = {
    "planted": Part(
        "Planted motion, a disc for the whole frame",
        "Photographs with a homography of up to 2 % zoom, 8 px shift along either axis, 0.3° rotation and 2 px of "
        "perspective; a gain of up to 10 %; noise of 1.5 grey levels; 8 bits; 1896x1184 pixels or what of it the "
        "photograph holds. The aligner knows neither the motion "
        "nor the radius. Median over the photographs, the worst in brackets.",
        tables.planted,
        "corner error of every aligner against the radius of the disc, logarithmic; one dot a pair, medians joined",
    ),
    "large": Part(
        "Large motion",
        "The same with 5 to 10 % zoom, 35 to 70 px shift along either axis and 1 to 2° rotation, all at once, under a "
        "disc of 0, 4 or 8 px. Where the photograph ends, the frame is smaller, so that all it shows is real.",
        tables.large,
    ),
    "virtual": Part(
        "Blur that changes over the frame",
        "Pairs of the virtual camera, their circle of confusion anywhere from 0 to 12 px, in the first frame, in the "
        "second (*swapped*) or in both in different places (*both soft*); registered at half size as `sdd align` does, "
        "measured in full-size pixels. First the homographies, corner error as above. Then dense motion, endpoint "
        "error on textured pixels that are not occluded: every figure is the median over the scenes, the worst in "
        "brackets. Occlusion is scored where there is any.",
        tables.virtual,
    ),
    "loops": Part(
        "Real photographs",
        "Focal stacks: the corner distance between registering the first frame to the last and going by way of a frame "
        "between them; median over all such detours, the worst in brackets. Nearly aligned pairs, wide open against "
        "stopped down: the median motion that dense inverse search still sees after each homography, in the more "
        "textured half of the frame (it sees some in any two frames of different blur), and what our own flow says.",
        tables.loops,
        "loop error of every aligner on every stack, logarithmic; bars are medians, dots single detours",
    ),
    "honesty": Part(
        "Does ours know?",
        "Planted pairs as above, from easy to impossible; what is refused has no estimate. For the rank correlation "
        "(Spearman's) a refused pair counts as estimated worse than any other, and its true error as that of the pair "
        "as it came. None of the rivals says how far off it is.",
        tables.honest,
        "our own estimate of the corner error against the true one, one dot a pair; refused pairs in a strip above",
    ),
    "calibration": Part(
        "Is the estimate as large as the error?",
        "Loops of focal stacks at half size: from the first frame to the last by way of each other one, and from "
        "each frame to the next but one by the next; the estimate of a loop adds those of its three pairs in "
        "quadrature, and a loop with a refused pair is refused. Below them planted pairs, half as large as those "
        "above. For a right estimate 68 % of the errors are within it and 95 % within twice. All groups share one "
        "constant; the last column replaces it by the one that puts 68 % of the cases of all *other* groups "
        "within. What all pairs of a stack have in common (near and far seen from a camera that moved) cancels in "
        "a loop, so the estimates of such stacks look large.",
        tables.calibrated,
        "corner error against our own estimate, one dot a loop or a planted pair; lines at one and two estimates",
    ),
    "cost": Part(
        "Cost",
        "One pair, a disc of 8 px, one thread, in a fresh process. What is there before is the interpreter, the "
        "libraries and both frames as float32.",
        tables.cost,
    ),
}

TOP = """# Aligners on defocused pairs

```sh
{command}
```

How far off are aligners when one of two frames is out of focus? *Corner error* is the root mean square distance of the
four frame corners from where they belong; *> 2 px* counts pairs with no answer or one that is more than 2 px wrong; a
method's median is over all pairs, no answer counting as infinitely wrong; *CPU s* is the median per pair, one thread.
Every number behind the tables and pictures is in [`alignment.csv`](alignment.csv). Everything but seconds and memory is
the same in every run.

The motion is planted without the toolkit's own code: the photograph's quintic spline is evaluated at the mapped
positions in float64, which is exact, the disc is drawn at 16 times the resolution, and the frames keep real content
around them. Photographs smaller than the frame are laid side by side, mirrored at random, cross-faded.
"""

BOTTOM = """
## The rivals

They get 8-bit frames and the options that suit them best. *ECC as in focus-stack* is that program's alignment written
again by its source (affine ECC on 256 px, then on up to 2048 px): the program itself prints its matrix with three
decimals, which is a pixel at the corners. `align_image_stack` is Hugin's 2022 release with `-m -i --corr=0.7 -c 20`,
read through `pano_trafo`; with free radial distortion (`-d`) or at full resolution (`-s 0`) it did worse on these
pairs. kornia's `ImageRegistrator` has its defaults; it is not among our dependencies: `pip install kornia` to include
it. A program that is not installed has no row{missing}.
"""


def format_tables(rows: list[Measurement]) -> str:
    """The tables for a terminal."""
    parts = [(part.title, part.tables(rows)) for name, part in PARTS.items() if present(rows, name)]
    return "\n\n".join("\n\n".join([title, *(table.text() for table in found)]) for title, found in parts)


def write(folder: Path, rows: list[Measurement], command: str) -> None:
    """`alignment.md` and its pictures."""
    # Matplotlib stays out of the processes whose memory is measured.
    from benchmarks.alignment_sections import figures

    text = TOP.format(command=command)
    for name, part in PARTS.items():
        if not present(rows, name):
            continue
        count = len(distinct(f"{row.group} {row.case}" for row in rows if row.section == name))
        words = part.words + (f" {count} pairs." if name != "cost" else "")
        text += f"\n## {part.title}\n\n{textwrap.fill(words, WIDTH, break_on_hyphens=False)}\n"
        if part.picture:
            picture = f"{NAME}-{name}.png"
            figures.draw(folder / picture, rows, name)
            text += f"\n![{part.picture}]({picture})\n"
        text += "".join(f"\n{table.markdown()}\n" for table in part.tables(rows))
    absent = [name for name, run in aligners().items() if run is None]
    text += BOTTOM.format(missing=f" (here: {', '.join(absent)})" if absent else "")
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")


def present(rows: list[Measurement], section: str) -> bool:
    return any(row.section == section for row in rows)
