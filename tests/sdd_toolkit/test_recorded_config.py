from __future__ import annotations

from pathlib import Path

import pytest

from sdd_toolkit.errors import ConfigError, InputError
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.recorded_config import check_section, read_recorded, record_sections


def test_another_value_is_named_with_both_and_the_file(tmp_path: Path) -> None:
    record_sections(tmp_path, {"pack": {"encoding": "srgb16", "patch_size": 128}})
    with pytest.raises(ConfigError) as caught:
        check_section(tmp_path, "pack", PackConfig())
    assert '[pack] encoding = "srgb8", patch_size = 512, but' in caught.value.what
    assert f'encoding = "srgb16", patch_size = 128 ({tmp_path / "config.json"})' in caught.value.what
    assert "--change-config" in caught.value.hint


def test_the_recorded_values_pass_and_so_do_those_chosen_by_an_option(tmp_path: Path) -> None:
    record_sections(tmp_path, {"pack": {"patch_size": 128}})
    check_section(tmp_path, "pack", PackConfig(patch_size=128))
    check_section(tmp_path, "pack", PackConfig(), ["patch_size"])


def test_what_is_not_recorded_or_of_another_version_passes(tmp_path: Path) -> None:
    check_section(tmp_path, "pack", PackConfig())
    for text in ('{"pack": {"gone": 1}}', '{"pack": 3}', "[]", "{", '{"method": "jdrl"}'):
        (tmp_path / "config.json").write_text(text)
        check_section(tmp_path, "pack", PackConfig())


def test_sections_are_added_to_those_that_are_recorded(tmp_path: Path) -> None:
    record_sections(tmp_path, {"pack": {"patch_size": 128}})
    record_sections(tmp_path, {"filter": {"min_level": 0.5}})
    assert list(read_recorded(tmp_path).items()) == [("filter", {"min_level": 0.5}), ("pack", {"patch_size": 128})]
    before = (tmp_path / "config.json").stat().st_mtime_ns
    record_sections(tmp_path, {"pack": {"patch_size": 128}})
    assert (tmp_path / "config.json").stat().st_mtime_ns == before


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_name_or_path": "mine"}')
    with pytest.raises(InputError, match="was not written by sdd"):
        record_sections(tmp_path, {"pack": {}})
