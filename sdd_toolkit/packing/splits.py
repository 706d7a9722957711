"""Divides scenes into training, validation and test; never single pairs or patches, which look alike in a scene."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from sdd_toolkit.config import Section, read_toml, validate
from sdd_toolkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPLIT_LISTS = "splits.toml"


class SplitConfig(Section):
    """Division of scenes into splits, section `[pack.split]`.

    A split with a list of scenes is exactly that list; the other splits share the remaining scenes by fraction.
    """

    train_fraction: float = Field(default=0.7, ge=0, le=1, description="Share of scenes to train on.")
    val_fraction: float = Field(default=0.1, ge=0, le=1, description="Share of scenes to choose checkpoints by.")
    test_fraction: float = Field(default=0.2, ge=0, le=1, description="Share of scenes to report figures on.")
    seed: int = Field(default=0, description="Another seed is another shuffle of the scenes.")
    train: tuple[str, ...] = Field(default=(), description="Scenes of the training split, by name.")
    val: tuple[str, ...] = Field(default=(), description="Scenes of the validation split, by name.")
    test: tuple[str, ...] = Field(default=(), description="Scenes of the test split, by name.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = self.train_fraction + self.val_fraction + self.test_fraction
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, val and test fractions add up to {total:g}, not 1")
        listed = [*self.train, *self.val, *self.test]
        repeated = sorted({scene for scene in listed if listed.count(scene) > 1})
        if repeated:
            raise ValueError(f"scene {repeated[0]!r} is listed twice")
        return self


def assign_splits(scenes: Iterable[str], config: SplitConfig, known: Collection[str] = ()) -> dict[str, str]:
    """The split of every scene; equal scenes, configuration and seed give the same result.

    Scenes are sorted by a hash of their name and divided by rounded shares. From two unlisted scenes on, no split with
    a fraction above 0 stays empty while another has scenes to spare; test and train are served first.

    Args:
        scenes: Names; repeated ones count once.
        config: Fractions, seed and lists.
        known: Further names that lists may mention, such as scenes whose pairs were all rejected.

    Raises:
        ConfigError: A list names an unknown scene, or a scene is in no list and no split without list takes it.
    """
    names = set(scenes)
    lists = {split: getattr(config, split) for split in SPLITS}
    listed = {scene: split for split, members in lists.items() for scene in members}
    unknown = sorted(set(listed) - names - set(known))
    if unknown:
        raise ConfigError(f"[pack.split]: no scene is called {unknown[0]!r}", hint="see `scene` in the manifest")
    free = sorted(names - set(listed), key=lambda scene: _shuffle_key(scene, config.seed))
    weights = {split: getattr(config, f"{split}_fraction") for split in SPLITS if not lists[split]}
    if free and not any(weights.values()):
        raise ConfigError(
            f"[pack.split]: scene {sorted(free)[0]!r} is in no list and no fraction is left for it",
            hint="list it, or leave one list empty and its fraction above 0",
        )
    counts = split_sizes(len(free), weights) if free else {}
    assigned = {scene: split for scene, split in listed.items() if scene in names}
    # Test first: its scenes then change least when scenes are added.
    for split in ("test", "val", "train"):
        taken, free = free[: counts.get(split, 0)], free[counts.get(split, 0) :]
        assigned.update(dict.fromkeys(taken, split))
    return dict(sorted(assigned.items()))


def published_splits(folder: Path, config: SplitConfig, scenes: Collection[str], *, given: bool) -> SplitConfig:
    """The lists of scenes that `sdd import` left beside a manifest, in place of fractions; says which of them count.

    Args:
        folder: Folder of the manifest, perhaps with `splits.toml`.
        config: Section `[pack.split]`.
        scenes: The scenes of the manifest; others are left out of the lists.
        given: Whether the section was given: it then counts more.

    Raises:
        ConfigError: `splits.toml` is damaged.
    """
    path = folder / SPLIT_LISTS
    if not path.is_file():
        return config
    section = read_toml(path).get("pack", {})
    content = section.get("split", {}) if isinstance(section, dict) else {}
    listed = validate(SplitConfig, content if isinstance(content, dict) else {}, str(path))
    lists = {split: tuple(scene for scene in getattr(listed, split) if scene in scenes) for split in SPLITS}
    if not any(lists.values()):
        return config
    if given:
        log.warning("[pack.split] takes the place of the splits in %s", path)
        return config
    log.warning("the splits are those of the imported data set, in %s; [pack.split] would count more", path)
    return config.model_copy(update=lists)


def scenes_by_split(splits: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The sorted scenes of each split, from the split of each scene."""
    return {split: tuple(sorted(scene for scene in splits if splits[scene] == split)) for split in SPLITS}


def split_sizes(count: int, weights: dict[str, float]) -> dict[str, int]:
    """Divides `count` scenes in proportion to `weights`, by largest remainder; train and test do not stay empty."""
    total = sum(weights.values())
    exact = {split: count * weight / total for split, weight in weights.items()}
    counts = {split: int(round(value, 9)) for split, value in exact.items()}
    by_remainder = sorted(weights, key=lambda split: -round(exact[split] - counts[split], 9))
    for split in by_remainder[: count - sum(counts.values())]:
        counts[split] += 1
    for split in ("train", "test"):
        richest = max(counts, key=lambda name: counts[name])
        if weights.get(split, 0.0) > 0 and counts[split] == 0 and (counts[richest] > 1 or richest == "val"):
            counts[richest] -= 1
            counts[split] += 1
    return counts


def _shuffle_key(scene: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{scene}".encode()).hexdigest()
