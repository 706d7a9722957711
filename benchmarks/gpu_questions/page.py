"""The page of the questions on a GPU, from the results of a run."""

from __future__ import annotations

from typing import Any

HEAD = """# Questions on a GPU

```sh
.venv/bin/python benchmarks/gpu.py --out docs/benchmarks
```

One command, at most ten minutes on one card. Every question runs in a process of its own with a limit of seconds; a
question that fails or is stopped keeps the rows it has, and its reason stands below its table. `gpu.json` holds the
same and is written after every question. Without a CUDA device all of it runs at tiny size on the CPU, which says that
the code works and nothing about a GPU. `--only NAME …` asks some of the questions; `loader` and `training` need `data`.

On a machine without network access, carry the repository (without `../shared`) and the wheels of what its Python lacks;
`pip download --no-deps --only-binary=:all:` fetches them: at least `hdf5plugin`, `blosc2`, `ndindex`, `numexpr`,
`msgpack`, `exifread`, `pebble`, `rawpy`, `pydantic`, `pydantic-core`, `annotated-types`, `typing-inspection` and
`lightning-fabric`.
"""
TINY = """
**Measured on a CPU at tiny size, as a test of the code: no number below says anything about a GPU.**
"""


def page(results: dict[str, Any]) -> str:
    """Markdown: the machine, then a table a question."""
    lines = [HEAD]
    if not results["on gpu"]:
        lines.append(TINY)
    lines.append(f"{results['device']}, torch {results['torch']}; {results['seconds']:.0f} s in all.\n")
    for name, answer in results["questions"].items():
        lines.append(f"## {name}\n\n{answer['about']}\n")
        lines.append(table(answer["rows"]))
        state = "done" if answer["error"] is None else f"**not finished: {answer['error']}**"
        lines.append(f"{state}, {answer['seconds']:.1f} s of at most {answer['limit_s']:.0f} s\n")
    return "\n".join(lines).rstrip() + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """All rows, with every column that one of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return ""
    lines = [columns, ["---"] * len(columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
