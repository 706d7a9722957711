from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, model_validator

from sdd_toolkit.config import Section, load_section
from sdd_toolkit.errors import ConfigError


class Example(Section):
    threshold_px: float = Field(1.0, gt=0)
    name: str = "default"


def written(folder: Path, text: str) -> Path:
    path = folder / "sdd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_then_file_then_flags_that_were_given(tmp_path: Path) -> None:
    path = written(tmp_path, "[align]\nthreshold_px = 2.0\nname = 'file'\n")
    section = load_section(Example, "align", path, threshold_px=3.0, name=None)
    assert (section.threshold_px, section.name) == (3.0, "file")


def test_an_unknown_key_names_the_nearest_valid_one(tmp_path: Path) -> None:
    path = written(tmp_path, "[align]\ntreshold_px = 2.0\n")
    with pytest.raises(ConfigError, match="did you mean 'threshold_px'"):
        load_section(Example, "align", path)


def test_an_unknown_section_names_the_nearest_valid_one(tmp_path: Path) -> None:
    path = written(tmp_path, "[allign]\n")
    with pytest.raises(ConfigError, match="did you mean 'align'"):
        load_section(Example, "align", path)


@pytest.mark.parametrize("text", ["[align", "align = 3", "[align]\nthreshold_px = -1", "[align]\nthreshold_px = 'x'"])
def test_a_value_that_does_not_fit_is_a_config_error_naming_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"sdd\.toml"):
        load_section(Example, "align", written(tmp_path, text))


class Range(Section):
    first: int = 0
    last: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.first > self.last:
            raise ValueError("first is above last")
        return self


def test_what_is_wrong_with_keys_together_is_said_in_plain_words() -> None:
    with pytest.raises(ConfigError) as caught:
        load_section(Range, "align", None, first=2)
    assert caught.value.what == "options [align]: first is above last"


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_section(Example, "align", tmp_path / "nowhere.toml")


def test_a_fingerprint_changes_with_any_value_and_with_nothing_else() -> None:
    assert Example().fingerprint() == Example(threshold_px=1.0).fingerprint()
    assert Example().fingerprint() != Example(threshold_px=1.5).fingerprint()


def test_a_key_that_came_later_counts_once_it_is_set() -> None:
    class Later(Example):
        LATER_KEYS = frozenset({"extra"})
        extra: int = 0

    assert Later().fingerprint() == Example().fingerprint()
    assert Later(extra=1).fingerprint() != Example().fingerprint()


def test_a_default_that_has_changed_keeps_the_fingerprint_of_the_former_one() -> None:
    class Changed(Example):
        FORMER_DEFAULTS: ClassVar = {"threshold_px": 1.0}
        threshold_px: float = 3.0

    assert Changed().fingerprint() == Example().fingerprint()
    assert Changed(threshold_px=2.0).fingerprint() == Example(threshold_px=2.0).fingerprint()
