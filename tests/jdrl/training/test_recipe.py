"""Recipes of the toolkit, and the precedence of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from jdrl.config import TrainConfig
from jdrl.training.recipe import load_train_config, recipe_names
from jdrl.training.schedule import joint_start_step, learning_rate, reblur_weight
from jdrl.training.settings import epochs_to_steps
from sdd_toolkit.errors import ConfigError


def test_there_are_three_recipes() -> None:
    assert recipe_names() == ("fine_tune", "official", "sdd")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    assert load_train_config(name) != TrainConfig()


def test_the_official_recipe_is_the_published_schedule() -> None:
    # 300 patches, batch 1: an epoch is 300 steps, the rate is halved after 60, the joint phase begins after 15.
    config = epochs_to_steps(load_train_config("official"), 300)
    assert (config.network, config.optimiser, config.batch, config.crop) == ("unet", "adam", 1, 256)
    assert (config.steps, joint_start_step(config)) == (30_000, 15 * 300)
    rates = [learning_rate(step, config) for step in (0, 60 * 300 - 1, 60 * 300, 29_999)]
    assert rates == pytest.approx([2e-5, 2e-5, 1e-5, 1e-5])
    assert [reblur_weight(step, config) for step in (15 * 300 - 1, 15 * 300)] == [0.0, 0.5]
    assert (config.ema, config.gradient_norm) == (0, 0)


def test_the_sdd_recipe_ends_at_a_two_hundredth_of_its_peak_rate() -> None:
    config = load_train_config("sdd")
    rates = [learning_rate(step, config) for step in range(0, config.steps, 100)]
    assert max(rates) == pytest.approx(2e-4)
    assert learning_rate(config.steps - 1, config) == pytest.approx(1e-6)


def test_the_fine_tuning_recipe_goes_on_at_a_hundredth_to_a_tenth_of_the_rate() -> None:
    config = load_train_config("fine_tune")
    assert config.frozen_fraction > 0
    assert joint_start_step(config) == round(config.frozen_fraction * config.steps)
    usual = TrainConfig().learning_rate
    assert 0.01 * usual <= config.learning_rate <= 0.1 * usual


def test_the_file_overrides_the_recipe_and_flags_override_both(tmp_path: Path) -> None:
    path = tmp_path / "sdd.toml"
    path.write_text("[train]\nbatch = 3\ncrop = 128\n")
    config = load_train_config("official", path, crop=64, seed=None)
    assert (config.optimiser, config.batch, config.crop, config.seed) == ("adam", 3, 64, 0)


def test_later_steps_replace_earlier_epochs_and_vice_versa(tmp_path: Path) -> None:
    path = tmp_path / "sdd.toml"
    path.write_text("[train]\nsteps = 10\n")
    assert epochs_to_steps(load_train_config("official", path), 300).steps == 10
    assert epochs_to_steps(load_train_config("official", path, epochs=2.0), 300).steps == 600
    assert load_train_config("sdd", epochs=1.0).epochs == 1.0


def test_steps_and_epochs_in_one_place_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sdd.toml"
    path.write_text("[train]\nsteps = 10\nepochs = 1\n")
    with pytest.raises(ConfigError, match=r"\[train\]: steps and epochs exclude each other: leave one out"):
        load_train_config(None, path)


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no recipe 'paper'") as caught:
        load_train_config("paper")
    assert "official" in caught.value.hint
