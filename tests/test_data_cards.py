"""The written cards in `data_cards/`: front matter that parses, the headings of every card, a source for every fact."""

from __future__ import annotations

import re
import tomllib

import yaml

from capture.virtual.defects import Defect
from tests.support.paths import ROOT

FOLDER = ROOT / "data_cards"
CARDS = sorted(FOLDER.glob("*.md"))
HEADINGS = ("## Contents", "## How it was made", "## How it is scored", "## Licence", "## Limitations")


def test_the_three_public_data_sets_and_the_demo_have_a_card() -> None:
    assert {"SDD.md", "DPDD.md", "RealDOF.md", "SDD-demo.md"} <= {card.name for card in CARDS}


def test_the_front_matter_is_yaml_of_the_hugging_face_form() -> None:
    for card in CARDS:
        before, front, body = card.read_text(encoding="utf-8").split("---\n", 2)
        values = yaml.safe_load(front)
        assert before == "", card
        assert body.strip(), card
        assert values["task_categories"] == ["image-to-image"], card
        assert {"license", "pretty_name", "size_categories", "tags"} <= set(values), card


def test_every_fact_has_a_source_or_is_not_found() -> None:
    for card in CARDS:
        text = card.read_text(encoding="utf-8")
        rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|") and line.count("|") == 4]
        facts = [[cell.strip() for cell in row] for row in rows if row[0].strip() not in ("fact", "---")]
        assert len(facts) >= 8, card
        for fact, value, source in facts:
            assert ("[" in source) != value.startswith("not found"), f"{card}: {fact}"
        assert [heading for heading in HEADINGS if heading not in text] == [], card


def test_the_card_of_the_demo_states_what_its_recipe_says() -> None:
    card, recipe = (FOLDER / "SDD-demo.md").read_text(encoding="utf-8"), FOLDER.parent / "examples"
    (scenes, seed) = re.findall(r"--scenes (\d+) .*--seed (\d+)", (recipe / "demo.sh").read_text())[0]
    config = tomllib.loads((recipe / "demo.toml").read_text())
    assert f"{scenes} good ones and {len(Defect)} with a planted defect each, seed {seed}" in card
    assert f"{config['simulate']['width']} x {config['simulate']['height']}, DNG" in card
    assert f"\nlicense: {config['card']['license']}\n" in card
