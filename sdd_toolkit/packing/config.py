"""Section `[pack]` of the configuration: encoding, storage, warp, patches and splits of packed pairs."""

from __future__ import annotations

from pydantic import Field

from sdd_toolkit.config import Section
from sdd_toolkit.imaging.encoding import Encoding
from sdd_toolkit.packing.patches import Patching, Sampler, patching_of
from sdd_toolkit.packing.splits import SplitConfig
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.shards.index import Brightness, Warp


class PackConfig(Section):
    """Settings of packing, section `[pack]`."""

    name: str = Field(default="defocus-pairs", min_length=1, description="Name of the data set.")
    encoding: Encoding = Field(default=Encoding.SRGB8, description="srgb8, srgb16 or linear16.")
    profile: Profile = Field(
        default=Profile.FAST,
        description="fast (to train from), small (to keep, to send), raw (largest, quickest) or portable (no plugin).",
    )
    pairs_per_shard: int = Field(default=4, ge=1, description="Pairs in one HDF5 file.")
    patch_size: int = Field(default=512, ge=16, description="Edge of the training patches in packed px.")
    patches: Sampler = Field(
        default=Sampler.GRID,
        description="grid, or dpdd: without the 30 % least sharp training patches of each frame, as DPDD cuts them.",
    )
    train_overlap: float = Field(
        default=0.6, ge=0, le=0.95, description="Overlap of training patches; others have none."
    )
    warp: Warp = Field(
        default=Warp.HOMOGRAPHY,
        description="homography, or homography+flow: the residual flow is applied too, in the same resampling.",
    )
    brightness: Brightness = Field(
        default=Brightness.GAIN,
        description="gain, or full: colour gain, vignetting and offset too; to the blurred frame, in linear light.",
    )
    min_valid_fraction: float = Field(
        default=1.0, ge=0, le=1, description="Patches with a smaller share of valid pixels are left out."
    )
    min_size_px: int = Field(
        default=256, ge=8, description="Pairs that overlap on a smaller box of packed px are left out: too_small."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="How scenes are divided among the splits.")

    def patching(self, split: str) -> Patching:
        """The rule that chooses the patches of a split."""
        return patching_of(split, self.patches, self.patch_size, self.train_overlap, self.min_valid_fraction)
