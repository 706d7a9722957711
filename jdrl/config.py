"""Sections `[train]` and `[evaluate]` of sdd.toml; without torch, so that `sdd train --help` is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from sdd_toolkit.config import Section

# Keys that may differ between a run and its continuation: up to rounding they do not change the result of a step.
FREE_ON_RESUME = frozenset(
    {
        *("steps", "epochs", "weights", "workers", "prefetch", "device", "devices", "nodes", "accumulate"),
        *("channels_last", "compile", "gradient_checkpointing"),
        *("log_every", "sample_every", "validate_every", "validation_crops", "save_every", "keep"),
    }
)


BasisName = Literal["hats", "discs", "rings", "official", "free"]
DeformationTerms = Literal["both", "to_blur", "to_sharp"]
Light = Literal["linear", "encoded"]

# `jdrl.networks.build` checks their names and types against the network's own signature.
NetworkOptions = dict[str, JsonValue]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


Fusion = Literal["modulation", "concat"]


class TrainConfig(Section):
    """Training of a deblurring network: network, phases, optimiser, data, logs."""

    LATER_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"deformation", "deformation_ramp_fraction", "reblur_light", "reblur_learning_rate", "registration"}
    )
    FORMER_DEFAULTS: ClassVar = {"reblur_ramp_fraction": 0.05, "channels_last": False}

    method: Literal["jdrl", "triplet"] = Field(
        "jdrl", description="triplet adds a blur estimator that guides the network: see [triplets](triplet.md)."
    )
    network: str = Field(
        "nafnet",
        description="Name of the deblurring network: see `sdd networks`; a custom one as package.module:factory.",
    )
    network_options: NetworkOptions = Field(
        default_factory=dict, description="Options of the network, e.g. {width = 32}."
    )
    fusion: Fusion = Field(
        "modulation", description="Guidance by the estimator: scales and shifts, or concat; triplet only."
    )
    estimator_width: int = Field(32, ge=1, le=4096, description="Channels of the blur estimator; triplet only.")
    estimator_weight: float = Field(0.5, ge=0, description="Final weight of the blur estimator's loss; triplet only.")
    reblur_radius_px: int = Field(
        7, ge=1, le=16, description="Largest circle-of-confusion radius of the reblurring kernels."
    )
    reblur_basis: BasisName = Field(
        "hats", description="Basis of the kernels: hats, discs, rings; for comparison official (of radius 7) and free."
    )
    reblur_light: Literal["auto", "linear", "encoded"] = Field(
        "auto",
        description="The output is reblurred as linear light, or as encoded; auto: as light.",
    )
    reblur_width: int = Field(32, ge=1, description="Channels of the reblurring network.")
    reblur_scale: Literal[2, 4] = Field(
        2, description="The reblurring network works at 1/2 or 1/4 of the images' resolution."
    )

    weights: Literal["default"] | Path | None = Field(
        None,
        description="Initial weights of the network: default (those that ship; network and network_options are then "
        "theirs unless given), a run, a checkpoint, or a file of published weights.",
    )

    steps: int = Field(200_000, ge=1, description="Optimiser steps of all phases together.")
    epochs: float | None = Field(None, gt=0, description="Passes over the training patches, instead of `steps`.")
    frozen_fraction: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps, at the start, that train only the reblurring network."
    )
    warm_up_fraction: float = Field(
        0.15, ge=0, le=1, description="Share of the steps in phase 1: the sharp frame warped by the stored flow."
    )
    warm_up_flow: Literal["auto", "stored", "estimated"] = Field(
        "auto",
        description="Flow of phase 1: that of the shards; auto estimates it if a pair has no stored alignment.",
    )
    registration: Literal["auto", "pairs", "crops"] = Field(
        "auto",
        description="pairs: those without a stored alignment are registered whole, once, before training; crops: all "
        "flow is estimated on crops; auto: pairs, if mask is consistency.",
    )
    flow: Literal["cached", "pyramid", "dis", "pwcnet", "raft"] = Field(
        "cached",
        description="Flow of the joint phase: cached (the stored one plus a residual), or an estimator of all flow.",
    )
    flow_weights: Path | None = Field(None, description="File of published weights of pwcnet or raft.")
    mask: Literal["consistency", "official", "none"] = Field(
        "consistency", description="Validity mask: consistency is forward-backward and photometric consistency."
    )
    warp: Literal["exact", "official"] = Field(
        "exact", description="official zooms every warped crop of W px by W/(W - 1), as the published code does."
    )
    deformation: DeformationTerms = Field(
        "both", description="Terms of the joint phase; to_blur only warps the sharp frame, to_sharp only the output."
    )
    reblur_weight: float = Field(0.5, ge=0, description="Weight of the reblurring term in the joint phase.")
    reblur_ramp_fraction: float = Field(
        0.0, ge=0, le=1, description="Share of the steps over which reblur_weight grows from zero."
    )
    deformation_ramp_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the steps over which the joint phase's comparison on the sharp frame's grid grows from "
        "zero.",
    )

    optimiser: Literal["adamw", "adam"] = Field("adamw", description="adamw decouples the weight decay.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak rate of the deblurring network.")
    reblur_learning_rate: float | None = Field(
        None, gt=0, description="Peak rate of the reblurring network; by default a third of learning_rate."
    )
    frozen_learning_rate: float = Field(2e-4, gt=0, description="Rate while the deblurring network is frozen.")
    rate_schedule: Literal["cosine", "step"] = Field("cosine", description="Fall of the rate from its peak.")
    final_learning_rate: float = Field(1e-6, ge=0, description="Rate at the end of the cosine.")
    rate_drops: tuple[tuple[Share, Positive], ...] = Field(
        ((0.6, 0.5),), description="step: shares of the steps at which the rate is multiplied, with the factors."
    )
    rate_ramp_steps: int = Field(500, ge=0, description="Linear rise of the rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="The optimiser's weight decay.")
    betas: tuple[float, float] = Field((0.9, 0.9), description="The optimiser's moment decays.")
    gradient_norm: float = Field(
        1.0, ge=0, description="Each network's gradient is clipped to this norm; 0: no clipping."
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the exponential moving average of the weights, which is saved; 0: no average.",
    )

    crop: int = Field(256, ge=16, description="Side of the training crops, pixels.")
    batch: int = Field(8, ge=1, description="Crops a step, of all processes together.")
    accumulate: int = Field(1, ge=1, description="Parts into which each process divides its crops, to save memory.")
    augment: bool = Field(True, description="Eight-fold flips and quarter turns.")
    seed: int = Field(0, ge=0, description="Seed of all random draws.")
    workers: int = Field(0, ge=0, description="Loader processes of each process; 0 reads in the training process.")
    prefetch: int = Field(2, ge=1, description="Batches that each loader process keeps ready.")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA if available.")
    devices: int = Field(
        1, ge=1, description="Devices of each node (on the CPU: processes); `torchrun` and `fabric run` override it."
    )
    nodes: int = Field(1, ge=1, description="Machines; `torchrun` and `fabric run` override it.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Fabric's name of the precision.")
    channels_last: bool | Literal["auto"] = Field(
        "auto",
        description="Memory layout with the colours of a pixel together: faster on tensor cores; auto: on one CPU "
        "thread, where it is faster, too.",
    )
    compile: bool = Field(False, description="Compile the deblurring network by torch.compile.")
    gradient_checkpointing: bool = Field(
        False, description="Compute the network's blocks again for the gradient instead of storing their activations."
    )

    log_every: int = Field(10, ge=1, description="Steps between rows of train.csv.")
    sample_every: int = Field(1000, ge=1, description="Steps between pictures in RUN/samples.")
    validate_every: int = Field(1000, ge=1, description="Steps between validations.")
    validation_crops: int = Field(32, ge=1, description="Number of crops of a validation.")
    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="Share of the training scenes held out if the data set has no val split."
    )
    save_every: int = Field(1000, ge=1, description="Steps between checkpoints.")
    keep: int = Field(2, ge=1, description="Number of latest checkpoints kept, beside the best one.")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        if self.frozen_fraction + self.warm_up_fraction > 1:
            raise ValueError("frozen_fraction and warm_up_fraction exceed 1 together")
        if self.frozen_fraction and not self.reblur_weight and self.method == "jdrl":
            raise ValueError(
                "frozen_fraction trains the reblurring network alone, which reblur_weight = 0 does not use"
            )
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError("steps and epochs exclude each other: leave one out")
        if self.method == "triplet" and self.reblur_basis in ("official", "free"):
            raise ValueError(f"method = triplet needs a basis with radii; reblur_basis = {self.reblur_basis} has none")
        if self.reblur_basis == "official" and self.reblur_radius_px != 7:
            raise ValueError(f"reblur_basis = official has reblur_radius_px = 7, not {self.reblur_radius_px}")
        return self


class Tiling(Section):
    """Tiles of large images, and the device."""

    tile: int | None = Field(
        None,
        ge=0,
        description="Side of the tiles, pixels; by default the largest that keeps a process below 4 GB, on a GPU "
        "within half of the free memory; 0: no tiles.",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="Overlap of neighbouring tiles, pixels; by default 8/3 of the network's reach.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA if available.")

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.tile and self.overlap is not None and self.overlap > self.tile // 2:
            raise ValueError(f"overlap {self.overlap} exceeds half a tile of {self.tile}")
        return self


class EvaluateConfig(Tiling):
    """Scoring of checkpoints."""

    pictures: int = Field(4, ge=0, description="Number of before/after pictures.")
    picture_crop: int = Field(256, ge=32, description="Side of the pictures' crops, pixels.")
    bootstrap: int = Field(10_000, ge=100, description="Draws of the bootstrap behind the confidence intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
    pwcnet: Path | None = Field(None, description="Weights of PWC-Net, for the protocol `official`.")
    lpips_backbone: Path | None = Field(None, description="torchvision's weights of AlexNet, for LPIPS.")
    lpips_weights: Path | None = Field(None, description="The linear weights of LPIPS 0.1 for AlexNet.")
    dists_backbone: Path | None = Field(None, description="torchvision's weights of VGG-16, for DISTS.")
    dists_weights: Path | None = Field(None, description="The weights alpha and beta of DISTS.")
    planted_shifts_px: tuple[float, ...] = Field(
        (0.0, 1.0, 2.0, 4.0, 8.0), description="Shifts of the sharp frame by --misalignment, pixels."
    )
    planted_zooms: tuple[float, ...] = Field(
        (0.0, 0.005, 0.01, 0.02), description="Zooms of the sharp frame by --misalignment, shares."
    )
    planted_crop: int = Field(
        1024, ge=64, description="Side of the centre of each frame that --misalignment scores, pixels."
    )

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        for name in ("lpips", "dists"):
            backbone, weights = f"{name}_backbone", f"{name}_weights"
            if (getattr(self, backbone) is None) != (getattr(self, weights) is None):
                raise ValueError(f"{backbone} and {weights} go together: give both or neither")
        if not all(0 <= shift <= 16 for shift in self.planted_shifts_px):
            raise ValueError("planted_shifts_px must lie in 0 … 16")
        if not all(0 <= zoom <= 0.1 for zoom in self.planted_zooms):
            raise ValueError("planted_zooms must lie in 0 … 0.1")
        return self


class DeblurConfig(Tiling):
    """Options of `sdd deblur`; not a section of sdd.toml."""

    scale: Literal["auto", "1", "1/2", "1/4"] = Field(
        "auto", description="Scale at which the network works; auto chooses by the local blur."
    )
    strength: float = Field(1.0, ge=0, le=1.5, description="Factor of the network's change; 0: none.")
    everywhere: bool = Field(False, description="Also change what is sharp already.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Of the network's arithmetic.")
    suffix: str = Field("_deblurred", pattern=r"^[^/\\]*$", description="Appended to each file's name.")
    strip: bool = Field(False, description="Copy no metadata but the colour profile.")
