"""Section `[develop]` of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdd_toolkit.config import load_section
from sdd_toolkit.errors import ConfigError
from sdd_toolkit.raw.development import Demosaic, DevelopConfig, LensCorrection


def test_a_section_of_the_file_says_how_to_develop(tmp_path: Path) -> None:
    (tmp_path / "sdd.toml").write_text(
        '[develop]\ndemosaic = "half"\nhot_pixels = false\nlens_correction = "lensfun-if-known"\n'
    )
    found = load_section(DevelopConfig, "develop", tmp_path / "sdd.toml")
    expected = DevelopConfig(demosaic=Demosaic.HALF, hot_pixels=False, lens_correction=LensCorrection.LENSFUN_IF_KNOWN)
    assert found == expected
    assert found.reduction == 2


def test_by_default_every_pixel_is_developed_and_no_lens_corrected() -> None:
    assert DevelopConfig().reduction == 1
    assert DevelopConfig().lens_correction is LensCorrection.NONE


@pytest.mark.parametrize("line", ['demosaic = "linear"', 'highlights = "blend"', 'lens_correction = "yes"'])
def test_what_it_cannot_do_is_a_config_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "sdd.toml").write_text(f"[develop]\n{line}\n")
    with pytest.raises(ConfigError, match=line.split()[0]):
        load_section(DevelopConfig, "develop", tmp_path / "sdd.toml")
