"""The plan of the benchmark VSDD: levels of displacement, arms, profiles; numbers and words, nothing is run here."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = ("focus", "aperture")
INPUT, ORACLE, NAIVE, PRE_ALIGNED, JDRL = "input", "oracle", "naive", "prealigned", "jdrl"
PIXEL_LOSS = MappingProxyType({"warm_up_fraction": 1.0, "warm_up_flow": "stored"})
SMALL_NAFNET = {"width": 16, "encoder_blocks": [0, 2, 2], "middle_blocks": 2, "decoder_blocks": [2, 1, 0]}


@dataclass(frozen=True, slots=True)
class Level:
    """A set of pairs whose sharp frames are displaced in one way.

    Attributes:
        name: Also the name of its folder.
        family: Levels of one family have the same blurred frames and the same truth, and so one oracle.
        displacement_px: Mean displacement by pan, tilt, roll and breathing.
        motion: Further keys of `[simulate]`.
    """

    name: str
    family: str
    displacement_px: float
    motion: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train the deblurring network.

    Attributes:
        name: Also the name of its folder.
        title: Its name in tables.
        data: `truth`, `shot` (pairs as shot), `built` (by `sdd build`) or `global` (built, without residual flow).
        train: Keys of `[train]` that differ from the profile's.
    """

    name: str
    title: str
    data: str
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """One arm to train and score at one level, with each seed."""

    arm: Arm
    level: Level


@dataclass(frozen=True, slots=True)
class Profile:
    """The size of a run of the benchmark.

    Attributes:
        name: Of the profile.
        size: (width, height) of the frames.
        scenes: Scenes of each kind for training, validation and test.
        seeds: Seeds of the training.
        train: Keys of `[train]` of all arms.
        tasks: What is trained, the most telling first.
        threads: Threads of every process; 0: as many as there are cores.
        step_s: Guess of the seconds of a training, for the time left until one is done.
    """

    name: str
    size: tuple[int, int]
    scenes: tuple[int, int, int]
    seeds: tuple[int, ...]
    train: Mapping[str, Any]
    tasks: tuple[Task, ...]
    threads: int = 1
    step_s: float = 150.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the benchmark.

    Attributes:
        profile: Its size.
        seed: Of the scenes.
        photographs: Folder of photographs to shoot instead of dead leaves; None: dead leaves.
    """

    profile: Profile
    seed: int = 0
    photographs: Path | None = None

    @property
    def levels(self) -> list[Level]:
        """The levels of its tasks, in their order."""
        return list(dict.fromkeys(task.level for task in self.profile.tasks))

    def truth_level(self, family: str) -> Level:
        """The level whose blurred frames and truth stand for the whole family."""
        return next(level for level in self.levels if level.family == family)

    @property
    def scenes(self) -> dict[str, list[str]]:
        """Ids of the scenes of each split."""
        train, val, test = self.profile.scenes
        ends = {"train": (0, train), "val": (train, train + val), "test": (train + val, train + val + test)}
        return {
            split: [f"{kind}-scene-{number + 1:04d}" for kind in KINDS for number in range(first, last)]
            for split, (first, last) in ends.items()
        }


ARMS = {
    arm.name: arm
    for arm in (
        Arm(ORACLE, "oracle: pixel loss on the truth", "truth", PIXEL_LOSS),
        Arm(NAIVE, "naive: pixel loss on pairs as shot", "shot", PIXEL_LOSS),
        Arm("global", "`sdd build`, homography only, pixel loss", "global", PIXEL_LOSS),
        Arm(PRE_ALIGNED, "pre-aligned: `sdd build`, pixel loss", "built", PIXEL_LOSS),
        Arm(JDRL, "JDRL on pairs as shot", "shot"),
        Arm("jdrl_built", "JDRL on what `sdd build` aligned", "built"),
        Arm(
            "official",
            "official form: its kernels, mask, warp, no registration",
            "shot",
            {
                "registration": "crops",
                "flow": "pyramid",
                "reblur_basis": "official",
                "reblur_light": "encoded",
                "mask": "official",
                "warp": "official",
                "deformation_ramp_fraction": 0.0,
            },
        ),
        Arm("triplet", "JDRL with triplets", "shot", {"method": "triplet"}),
        Arm("to_blur", "sharp frame to output only", "shot", {"deformation": "to_blur"}),
        Arm("to_sharp", "output to sharp frame only", "shot", {"deformation": "to_sharp"}),
        Arm("mask_none", "no mask", "shot", {"mask": "none", "registration": "pairs"}),
        Arm("mask_official", "official mask", "shot", {"mask": "official", "registration": "pairs"}),
        Arm("warp_official", "official warp", "shot", {"warp": "official"}),
        Arm("no_reblur", "no reblurring", "shot", {"reblur_weight": 0.0}),
        Arm("square", "official square-cornered kernels", "shot", {"reblur_basis": "official"}),
        Arm("free", "free 15x15 kernels", "shot", {"reblur_basis": "free"}),
        Arm("encoded", "reblurring of encoded values, not of light", "shot", {"reblur_light": "encoded"}),
        Arm("crops", "no registration of whole pairs, flow on crops alone", "shot", {"registration": "crops"}),
        Arm("one_rate", "a rate of 3e-3 for the reblurring network, too", "shot", {"reblur_learning_rate": 3e-3}),
    )
}
ABLATION = (
    "crops",
    "to_blur",
    "to_sharp",
    "mask_none",
    "mask_official",
    "warp_official",
    "no_reblur",
    "encoded",
    "square",
    "free",
    "one_rate",
)
MAIN = (NAIVE, PRE_ALIGNED, JDRL, "official")

LEVELS = {
    px: Level(f"displaced-{px:02d}", "displaced", float(px)) for px in (0, 2, 4, 8, 15, 25)
}  # fmt: skip
LOCAL = Level(
    "local",
    "local",
    4.0,
    (("parallax_px", 8.0), ("moving_leaves", 12), ("leaf_motion_px", 6.0), ("object_motion_px", 20.0)),
)
ABLATION_LEVEL = LEVELS[8]


def _tasks() -> tuple[Task, ...]:
    ordered = [(ORACLE, ABLATION_LEVEL), *((name, ABLATION_LEVEL) for name in MAIN)]
    ordered += [(name, LEVELS[px]) for px in (15, 25, 4, 2, 0) for name in MAIN]
    ordered += [(name, LOCAL) for name in (ORACLE, NAIVE, PRE_ALIGNED, JDRL, "jdrl_built", "global", "official")]
    ordered += [(name, ABLATION_LEVEL) for name in ("jdrl_built", "triplet", *ABLATION)]
    return tuple(Task(ARMS[name], level) for name, level in ordered)


_CPU_TRAIN = {
    "network": "nafnet",
    "network_options": SMALL_NAFNET,
    "reblur_width": 16,
    "reblur_scale": 4,
    "reblur_radius_px": 7,
    "warm_up_fraction": 0.4,
    "steps": 350,
    "batch": 2,
    "crop": 128,
    "learning_rate": 3e-3,
    "rate_ramp_steps": 20,
    "betas": [0.9, 0.99],
    "ema": 0.99,
    "device": "cpu",
    "channels_last": True,
    "validate_every": 1_000_000,
    "validation_crops": 1,
    "sample_every": 1_000_000,
    "log_every": 20,
    "save_every": 50,
    "keep": 1,
}
_GPU_TRAIN = {
    **_CPU_TRAIN,
    "network_options": {**SMALL_NAFNET, "width": 32},
    "reblur_width": 32,
    "reblur_scale": 2,
    "steps": 8000,
    "batch": 8,
    "crop": 256,
    "learning_rate": 1e-3,
    "rate_ramp_steps": 200,
    "ema": 0.999,
    "device": "cuda",
    "precision": "bf16-mixed",
    "workers": 2,
    "log_every": 100,
    "save_every": 1000,
}
_SMOKE_TRAIN = {**_CPU_TRAIN, "steps": 3, "crop": 64, "batch": 1, "save_every": 1}
_SMOKE_TASKS = tuple(Task(ARMS[name], ABLATION_LEVEL) for name in (ORACLE, NAIVE, PRE_ALIGNED, JDRL))

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("cpu", (768, 512), (8, 1, 3), (0,), _CPU_TRAIN, _tasks()),
        Profile("gpu", (1296, 864), (24, 3, 8), (0, 1, 2), _GPU_TRAIN, _tasks(), threads=0),
        Profile("smoke", (384, 256), (1, 1, 1), (0,), _SMOKE_TRAIN, _SMOKE_TASKS, step_s=20.0),
    )
}
