"""`[train]` and `[evaluate]` of sdd.toml. No torch here: `sdd train --help` must stay quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from sdd_toolkit.config import Section

# What may differ between a run and its continuation: none of it changes what a step computes, but for rounding.
FREE_ON_RESUME = frozenset(
    {
        *("steps", "epochs", "weights", "workers", "prefetch", "device", "devices", "nodes", "accumulate"),
        *("channels_last", "compile", "gradient_checkpointing"),
        *("log_every", "sample_every", "validate_every", "validation_crops", "save_every", "keep"),
    }
)


BasisName = Literal["hats", "discs", "rings", "official"]

# `jdrl.networks.build` checks their names and types against the network's own signature.
NetworkOptions = dict[str, JsonValue]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


Fusion = Literal["modulation", "concat"]


class TrainConfig(Section):
    """How a deblurring network is trained: the network, the two phases, the optimiser, the data, the notes."""

    method: Literal["jdrl", "triplet"] = Field(
        "jdrl", description="triplet adds a blur estimator that guides the network: see [triplets](triplet.md)."
    )
    network: str = Field(
        "nafnet",
        description="Name of the deblurring network: see `sdd networks`, or your own as package.module:factory.",
    )
    network_options: NetworkOptions = Field(default_factory=dict, description="Its own options, e.g. {width = 32}.")
    fusion: Fusion = Field(
        "modulation", description="How the estimator guides the network: by scales and shifts, or concat; triplet only."
    )
    estimator_width: int = Field(32, ge=1, le=4096, description="Channels of the blur estimator; triplet only.")
    estimator_weight: float = Field(
        0.5, ge=0, description="Weight of the blur estimator's loss, once reblurring can teach it; triplet only."
    )
    reblur_radius_px: int = Field(7, ge=1, le=16, description="Largest circle-of-confusion radius R can express.")
    reblur_basis: BasisName = Field(
        "hats", description="What a kernel is made of: hats, discs, rings, or official (of radius 7, for comparison)."
    )
    reblur_width: int = Field(32, ge=1, description="Channels of the reblurring network.")
    reblur_scale: Literal[2, 4] = Field(
        2, description="The reblurring network works at 1/2 or 1/4 of the images' resolution."
    )

    weights: Path | None = Field(
        None, description="Where the network starts: a run, a checkpoint, or a file of published weights."
    )

    steps: int = Field(200_000, ge=1, description="Optimiser steps in all, every phase.")
    epochs: float | None = Field(None, gt=0, description="Passes over the training patches, instead of `steps`.")
    frozen_fraction: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps, at the start, in which only the reblurring network learns."
    )
    warm_up_fraction: float = Field(
        0.15, ge=0, le=1, description="Share of the steps in phase 1: the sharp frame warped by the stored flow."
    )
    warm_up_flow: Literal["auto", "stored", "estimated"] = Field(
        "auto",
        description="Flow of phase 1: what the shards hold; auto estimates it where pairs came without alignment.",
    )
    flow: Literal["cached", "pyramid", "dis", "pwcnet", "raft"] = Field(
        "cached",
        description="Flow of the joint phase: cached (the stored one plus a residual), or an estimator of it all.",
    )
    flow_weights: Path | None = Field(None, description="Published weights of pwcnet or raft, a file of your own.")
    mask: Literal["consistency", "official", "none"] = Field(
        "consistency", description="Where warped images are compared: flow there and back, and what both show, agree."
    )
    warp: Literal["exact", "official"] = Field(
        "exact", description="official zooms every warped crop of W px by W/(W - 1), as the published code does."
    )
    reblur_weight: float = Field(0.5, ge=0, description="Weight of the reblurring term in the joint phase.")
    reblur_ramp_fraction: float = Field(
        0.05, ge=0, le=1, description="Share of the steps over which that weight grows from zero."
    )

    optimiser: Literal["adamw", "adam"] = Field("adamw", description="adamw decouples the weight decay.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak rate, for both networks.")
    frozen_learning_rate: float = Field(2e-4, gt=0, description="Rate while the deblurring network is frozen.")
    rate_schedule: Literal["cosine", "step"] = Field("cosine", description="How the rate falls from its peak.")
    final_learning_rate: float = Field(1e-6, ge=0, description="Where the cosine ends.")
    rate_drops: tuple[tuple[Share, Positive], ...] = Field(
        ((0.6, 0.5),), description="step: the share of the steps at which the rate is multiplied, and by what."
    )
    rate_ramp_steps: int = Field(500, ge=0, description="Linear rise of the rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="The optimiser's weight decay.")
    betas: tuple[float, float] = Field((0.9, 0.9), description="The optimiser's moment decays.")
    gradient_norm: float = Field(1.0, ge=0, description="Gradients are scaled down to this norm; 0 scales none.")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights that are saved; 0 averages none.")

    crop: int = Field(256, ge=16, description="Side of the training crops, pixels.")
    batch: int = Field(8, ge=1, description="Crops a step, of all processes together.")
    accumulate: int = Field(1, ge=1, description="Parts in which each process takes its crops, to save memory.")
    augment: bool = Field(True, description="Eight-fold flips and quarter turns.")
    seed: int = Field(0, ge=0, description="Every draw follows from it, the step and the sample's place.")
    workers: int = Field(0, ge=0, description="Loader processes of each process; 0 reads in the training process.")
    prefetch: int = Field(2, ge=1, description="Batches that each loader process keeps ready.")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one.")
    devices: int = Field(
        1, ge=1, description="Devices of each node (on the CPU: processes); `torchrun` and `fabric run` overrule it."
    )
    nodes: int = Field(1, ge=1, description="Machines; `torchrun` and `fabric run` overrule it.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Fabric's name of the precision.")
    channels_last: bool = Field(False, description="Keep the colours of a pixel together: quicker on tensor cores.")
    compile: bool = Field(False, description="Put the deblurring network through torch.compile.")
    gradient_checkpointing: bool = Field(
        False, description="Compute the network's blocks again for the gradient instead of keeping what they made."
    )

    log_every: int = Field(10, ge=1, description="Steps between rows of train.csv.")
    sample_every: int = Field(1000, ge=1, description="Steps between pictures in RUN/samples.")
    validate_every: int = Field(1000, ge=1, description="Steps between validations.")
    validation_crops: int = Field(32, ge=1, description="How many crops a validation scores.")
    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="Share of the training scenes held out where the data set has no val split."
    )
    save_every: int = Field(1000, ge=1, description="Steps between checkpoints.")
    keep: int = Field(2, ge=1, description="Latest checkpoints kept, beside the best one.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        if self.frozen_fraction + self.warm_up_fraction > 1:
            raise ValueError("frozen_fraction and warm_up_fraction exceed 1 together")
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError("steps and epochs are two ways to say the same: leave one out")
        if self.method == "triplet" and self.reblur_basis == "official":
            raise ValueError("method = triplet learns radii; reblur_basis = official, with square corners, tells none")
        if self.reblur_basis == "official" and self.reblur_radius_px != 7:
            raise ValueError(f"reblur_basis = official has reblur_radius_px = 7, not {self.reblur_radius_px}")
        return self


class Tiling(Section):
    """How large images go through a network."""

    tile: int | None = Field(
        None,
        ge=0,
        description="Side of the tiles, pixels; by default what keeps a process below 4 GB, on a GPU half of what is "
        "free; 0 takes every image whole.",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="How far neighbouring tiles overlap, pixels; by default as far as the network looks, both ways.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one.")

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.tile and self.overlap is not None and self.overlap > self.tile // 2:
            raise ValueError(f"overlap {self.overlap} exceeds half a tile of {self.tile}")
        return self


class EvaluateConfig(Tiling):
    """How checkpoints are scored."""

    pictures: int = Field(4, ge=0, description="Before/after pictures written beside the tables.")
    picture_crop: int = Field(256, ge=32, description="Side of their cut-outs, pixels.")
    bootstrap: int = Field(10_000, ge=100, description="Draws of the bootstrap behind the confidence intervals.")
    seed: int = Field(0, ge=0, description="Of these draws.")
    pwcnet: Path | None = Field(None, description="Weights of PWC-Net, for the protocol `official`.")
    lpips_backbone: Path | None = Field(None, description="torchvision's weights of AlexNet, for LPIPS.")
    lpips_weights: Path | None = Field(None, description="The linear weights of LPIPS 0.1 for AlexNet.")
    dists_backbone: Path | None = Field(None, description="torchvision's weights of VGG-16, for DISTS.")
    dists_weights: Path | None = Field(None, description="The weights alpha and beta of DISTS.")
    planted_shifts_px: tuple[float, ...] = Field(
        (0.0, 1.0, 2.0, 4.0, 8.0), description="By how much --misalignment moves the sharp frame, pixels."
    )
    planted_zooms: tuple[float, ...] = Field(
        (0.0, 0.005, 0.01, 0.02), description="By how much --misalignment magnifies it."
    )
    planted_crop: int = Field(
        1024, ge=64, description="Side of the centre of each frame that --misalignment works on, pixels."
    )

    @model_validator(mode="after")
    def _files_come_in_pairs(self) -> Self:
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
    """How photographs are deblurred; not a section of sdd.toml, only options."""

    suffix: str = Field("_deblurred", pattern=r"^[^/\\]*$", description="Added to each file's name.")
