"""Recipes: `[train]` sections shipped with the toolkit, and the order in which settings override each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdrl.checkpoints.arguments import DEFAULT
from sdd_toolkit.config import read_toml, validate
from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jdrl.config import TrainConfig

_FOLDER = Path(__file__).with_name("recipes")


def recipe_names() -> tuple[str, ...]:
    """Names of the available recipes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_train_config(recipe: str | None = None, path: Path | None = None, **flags: object) -> TrainConfig:
    """Loads the `[train]` section: defaults, then the recipe, then the file at `path`, then `flags` that are not None.

    `steps` and `epochs` replace each other; the one of the later layer counts. With `weights = "default"` network and
    options are those of the default network unless a layer gives them.

    Args:
        recipe: One of `recipe_names()`.
        path: The configuration file.
        **flags: Command-line values by field name.

    Raises:
        ConfigError: There is no such recipe; unknown key, wrong type or value out of range.
    """
    from jdrl.config import TrainConfig

    values: dict[str, object] = {}
    given = {key: value for key, value in flags.items() if value is not None}
    for layer in (_read_recipe(recipe), _read_section(path), given):
        if "steps" in layer or "epochs" in layer:
            values = {key: value for key, value in values.items() if key not in ("steps", "epochs")}
        values.update(layer)
    if values.get("weights") == DEFAULT:
        values = {**_default_network(values), **values}
    return validate(TrainConfig, values, where=f"{path or 'options'} [train]")


def _default_network(values: Mapping[str, object]) -> dict[str, object]:
    """Network and options of the default network; none of its options for another network."""
    from jdrl.checkpoints.default_model import default_header

    header = default_header()
    if values.get("network", header.network) != header.network:
        return {}
    return {"network": header.network, "network_options": header.network_options}


def _read_recipe(name: str | None) -> dict[str, Any]:
    if name is not None and name not in recipe_names():
        raise ConfigError(f"no recipe {name!r}", hint=f"valid: {', '.join(recipe_names())}")
    return _read_section(None if name is None else _FOLDER / f"{name}.toml")


def _read_section(path: Path | None) -> dict[str, Any]:
    values = read_toml(path).get("train", {})
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: train must be a section", hint="write [train] on a line of its own")
    return values
