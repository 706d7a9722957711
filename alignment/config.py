"""Section `[align]` of the configuration; lengths are pixels of the registered frames (half size in the stage)."""

from __future__ import annotations

from pydantic import Field

from sdd_toolkit.calibration.lens_breathing import LensBreathing
from sdd_toolkit.config import Section


class AlignConfig(Section):
    """Section `[align]`: search ranges of the registration and the limits of an accepted alignment."""

    max_radius_px: float = Field(default=24.0, ge=1.0, le=64.0)
    """Largest disc radius that blur matching tries."""
    max_zoom_percent: float = Field(default=12.0, ge=0.0, le=20.0)
    """Largest magnification between the frames that the first search covers, either way."""
    max_rotation_deg: float = Field(default=3.0, ge=0.0, le=10.0)
    """Largest rotation between the frames that the first search covers, either way."""
    working_megapixels: float = Field(default=2.6, ge=0.05)
    """Frames with more pixels are registered on 2x2 means."""
    precise_px: float = Field(default=0.015, ge=0.0)
    """`sdd align` stops at the pyramid level whose estimated corner error is below this; 0: at the finest level."""
    radial: bool = False
    """Also fit a radial term (breathing with distortion); it is used where the evidence supports it."""
    min_textured_tiles: int = Field(default=12, ge=4)
    """Fewer textured tiles than this: `no_texture`."""
    min_ncc: float = Field(default=0.5, ge=0.0, le=1.0)
    """Median tile correlation, blur-matched and aligned, below which the pair is `different_scene`."""
    max_error_px: float = Field(default=1.0, gt=0.0)
    """Estimated corner error beyond which the pair is `not_aligned`."""
    max_parallax_px: float = Field(default=4.0, gt=0.0)
    """Median residual displacement beyond which no single homography fits: `parallax`."""
    explained_shift_px: float = Field(default=3.0, ge=0.0)
    """Largest residual displacement that counts as explained in the search for moving objects."""
    breathing: tuple[LensBreathing, ...] = ()
    """Breathing models of the lenses, which predict the zoom of a pair; `--breathing` reads them from a file."""
