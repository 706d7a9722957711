"""The language of the project: words that code, tests and documents do not use, and how module docstrings begin."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.paths import ROOT
from tests.test_architecture import BENCHMARKS, PACKAGES, SOURCES, TESTS, tree_of

BANNED = "somebody|anybody|nobody|strangers?|front.door|ground.floor|doors?|for.want.of|rooms?"
WORD = re.compile(rf"(?<![a-z])({BANNED})(?![a-z])", re.IGNORECASE)
SYMBOL = re.compile(r"(?<=[a-z])Doors?(?![a-z])")  # in a name in camel case
# A real focal stack shows one; names of scenes.
ALLOWED = (
    '"room", "ring"',
    '"focal_stacks/room"',
    '"focal_stacks" / "room"',
    '("room", 6)',
    '["room", "room", "room", "room-2"]',
    '["room", "room-3", "room-4", "room-2"]',
    '"room": ["room_1.jpg"]',
    '"room_1.jpg"',
    "*room*",
    "| room, moves",
    "| room | ",
)
QUESTION = re.compile(r"(What|Who|Where|How|Which|Whether)\b")
TEXTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "CITATION.cff")),
    *(path for folder in ("docs", "data_cards", "examples") for path in sorted((ROOT / folder).rglob("*.md"))),
    *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("templates/*"))),
)
CODE = (*SOURCES, *BENCHMARKS, *TESTS)


def banned_words(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    """The lines that hold a banned word, once the allowed phrases are taken out."""
    hits = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            text = line
            for phrase in ALLOWED:
                text = text.replace(phrase, "")
            if WORD.search(text) or SYMBOL.search(text):
                hits.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return hits


def questions(paths: Sequence[Path], root: Path = ROOT) -> list[str]:
    """The modules whose docstring begins with a question word."""
    docstrings = {path: ast.get_docstring(tree_of(path)) or "" for path in paths}
    return [f"{path.relative_to(root)}: {text[:60]}" for path, text in docstrings.items() if QUESTION.match(text)]


def test_banned_words_are_nowhere() -> None:
    assert banned_words([path for path in (*TEXTS, *CODE) if path.name != "test_language.py"]) == []


def test_no_module_docstring_begins_with_a_question_word() -> None:
    assert questions(CODE) == []


def test_planted_banned_words_are_seen(tmp_path: Path) -> None:
    lines = (
        "A file of nobody.",
        "def test_what_somebody_wrote(): ...",
        "class LazyDoor: ...",
        "DOORS = ()",
        "The front door, the ground-floor and the rooms.",
        "It stops for want of space.",
        'STACKS = ("room", "ring")',
        "A strange bathroom, indoors.",
    )
    path = tmp_path / "planted.py"
    path.write_text("\n".join(lines))
    assert banned_words([path], tmp_path) == [f"planted.py:{number}: {lines[number - 1]}" for number in range(1, 7)]


def test_a_planted_question_word_is_seen(tmp_path: Path) -> None:
    for name, text in (("a", "Where it lies."), ("b", "Whatever it is."), ("c", "Reads a file.")):
        (tmp_path / f"{name}.py").write_text(f'"""{text}"""\n')
    assert questions(sorted(tmp_path.glob("*.py")), tmp_path) == ["a.py: Where it lies."]
