"""Section `[simulate]` of the configuration: body, lens, handling and noise of the virtual camera."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sdd_toolkit.config import Section


class SimulateConfig(Section):
    """The virtual camera and the errors in its handling.

    The default is a full-frame body (36 mm wide) with a 50 mm f/1.2 lens.
    """

    LATER_KEYS: ClassVar[frozenset[str]] = frozenset({
        "optical_low_pass_px",
        *("mean_displacement_px", "parallax_px", "moving_leaves", "leaf_motion_px", "object_motion_px"),
    })  # fmt: skip

    width: int = Field(default=1296, ge=64, le=16384, multiple_of=2)
    """Columns of the sensor; even, so that whole Bayer blocks fit."""
    height: int = Field(default=864, ge=64, le=16384, multiple_of=2)
    """Rows of the sensor; even."""
    pixel_pitch_um: float | None = Field(default=None, gt=0.3, le=100)
    """Distance between neighbouring pixel centres; None: 27.8 um, or less where the frame would be wider than 36 mm."""
    focal_mm: float = Field(default=50.0, gt=1, le=2000)
    """Focal length of the thin lens."""
    f_number_min: float = Field(default=1.2, ge=0.7, le=64)
    """Widest opening of the lens."""
    f_number_max: float = Field(default=22.0, ge=0.7, le=64)
    """Smallest opening of the lens."""
    blades: int = Field(default=0, ge=0, le=16)
    """Blades of the diaphragm, visible when stopped down: a polygon of the disc's area; 0 is round."""
    blade_roundness: float = Field(default=0.0, ge=0, le=1)
    """0 for straight blades, 1 for blades that close to a circle."""
    blade_turn_deg: float = Field(default=0.0, ge=-180, le=180)
    """Rotation of the polygon; at 0 one corner points to the right."""
    cat_eye: float = Field(default=0.0, ge=0, lt=1)
    """Depth to which the barrel's rim cuts into the widest opening at the corners, in radii; replaces `vignetting`."""
    spherical_aberration_px: float = Field(default=0.0, ge=-32, le=32)
    """Spherical aberration at the widest opening: above 0 soft edges beyond the focus and rings before it, below 0 the
    other way round; falls with the cube of the opening."""
    longitudinal_ca: tuple[float, float] = (0.0, 0.0)
    """Relative increase of the focal length for red and for blue against green, such as 0.001."""
    focus_roll_mm: float = Field(default=0.0, ge=-2, le=2)
    """Distance by which the lens moves while the blurred frame is read out (rolling shutter)."""
    depth: Literal["layers", "ramp"] = "layers"
    """Dead leaves at one depth each, or ground that recedes with leaves lying and standing on it; of a photograph,
    surfaces of one depth each, or continuous ones."""
    focus_min_m: float = Field(default=1.0, gt=0)
    """Nearest distance of a scene."""
    focus_max_m: float = Field(default=2.2, gt=0)
    """Farthest distance of a scene."""
    min_coc_px: float = Field(default=3.0, ge=0)
    """Smallest radius drawn for the most blurred part of a blurred frame."""
    max_coc_px: float = Field(default=8.0, gt=0, le=64)
    """Largest circle-of-confusion radius in any blurred frame."""
    sharp_coc_px: float = Field(default=0.5, gt=0, le=8)
    """Largest circle-of-confusion radius in a sharp frame; sets the depth of the scene."""
    max_zoom: float = Field(default=0.02, gt=0, le=0.1)
    """Largest focus breathing between the two shots of a focus pair, as a fraction."""
    max_shift_px: float = Field(default=8.0, ge=0, le=200)
    """Largest shift of any part of the frame by pan and tilt between the shots."""
    max_rotation_deg: float = Field(default=0.3, ge=0, le=5)
    """Largest roll between the shots."""
    mean_displacement_px: float | None = Field(default=None, ge=0, le=32)
    """Mean displacement over the frame to which pan, tilt, roll and breathing of a pair are scaled together: only the
    sharp frame depends on it, the blurred frame and the truth on its grid do not. None: as drawn within the limits."""
    parallax_px: float = Field(default=0.0, ge=0, le=32)
    """Difference of displacement between the nearest and the farthest surface, for a tripod that has moved between the
    shots; in proportion to the inverse depth, to whole pixels."""
    moving_leaves: int = Field(default=0, ge=0, le=100)
    """Number of visible leaves that move between the shots."""
    leaf_motion_px: float = Field(default=4.0, ge=0, le=32)
    """Longest motion of a leaf; the shortest is half of it."""
    object_motion_px: float = Field(default=0.0, ge=0, le=64)
    """Motion of an object of 3 … 4 % of the frame between the shots; 0: there is no object."""
    exposure_error_ev: float = Field(default=0.1, ge=0, le=2)
    """Largest exposure error of the blurred frame, which its EXIF does not contain."""
    highlight_level: float = Field(default=0.85, gt=0, le=4)
    """Level to which the brightest 0.5 % of the scene is exposed; 1 = saturation."""
    vignetting: float = Field(default=0.3, ge=0, lt=1)
    """Loss of light in the corners at the widest opening, on top of the natural cos⁴ law."""
    iso: int = Field(default=200, ge=50, le=102400)
    """Sensitivity: at ISO 100 white is a full well."""
    full_well_e: float = Field(default=30000.0, gt=100)
    """Electrons at white, ISO 100."""
    read_noise_e: float = Field(default=4.0, ge=0, le=1000)
    """Standard deviation of the read noise in electrons."""
    noise: bool = True
    """Whether the sensor has noise; values are rounded to whole numbers in any case."""
    black_level: int = Field(default=512, ge=0, le=8192)
    """Raw value without light."""
    white_level: int = Field(default=16383, ge=255, le=16383)
    """Raw value of saturation; at most 14 bits."""
    optical_low_pass_px: float = Field(default=0.0, ge=0, le=1)
    """Optical low-pass filter before the sensor: standard deviation of a Gaussian, 0.4 to 0.5 in typical cameras; 0 is
    none."""
    cfa: Literal["RGGB", "BGGR", "GRBG", "GBRG"] = "RGGB"
    """Bayer pattern, the 2x2 block row by row."""
    near_m: float | None = Field(default=None, gt=0)
    """Distance of the largest value of a PNG depth map; None fits it to the pair's depth of field."""
    far_m: float | None = Field(default=None, gt=0)
    """Distance of the smallest value of a PNG depth map; given together with `near_m`."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in (
            ("f_number_min", "f_number_max"),
            ("focus_min_m", "focus_max_m"),
            ("min_coc_px", "max_coc_px"),
            ("sharp_coc_px", "max_coc_px"),
            ("black_level", "white_level"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}")
        return self

    @model_validator(mode="after")
    def _check_camera(self) -> Self:
        if self.focus_min_m * 1000 < 4 * self.focal_mm:
            raise ValueError(f"focus_min_m = {self.focus_min_m} is nearer than four focal lengths")
        if self.blades in (1, 2):
            raise ValueError("a diaphragm has no blades (0) or at least three")
        if max(abs(shift) for shift in self.longitudinal_ca) > 0.01:
            raise ValueError(f"longitudinal_ca = {self.longitudinal_ca} is beyond ±0.01")
        if abs(self.focus_roll_mm) > 0.05 * self.focal_mm:
            raise ValueError(f"focus_roll_mm = {self.focus_roll_mm} is more than a twentieth of the focal length")
        if self.white_level - self.black_level < 64:
            raise ValueError("white_level must be at least 64 above black_level")
        return self

    @model_validator(mode="after")
    def _check_depths(self) -> Self:
        if (self.near_m is None) != (self.far_m is None):
            raise ValueError("near_m and far_m must be given together")
        if self.near_m is not None and self.far_m is not None and self.near_m >= self.far_m:
            raise ValueError(f"near_m = {self.near_m} is not nearer than far_m = {self.far_m}")
        if self.near_m is not None and self.near_m * 1000 < 2 * self.focal_mm:
            raise ValueError(f"near_m = {self.near_m} is nearer than two focal lengths")
        return self

    @model_validator(mode="after")
    def _check_motion(self) -> Self:
        if self.depth == "ramp" and (self.parallax_px or self.moving_leaves):
            raise ValueError("parallax_px and moving_leaves need surfaces of one depth each: depth = layers")
        if self.focus_roll_mm and self.mean_displacement_px is not None:
            raise ValueError("mean_displacement_px needs focus_roll_mm = 0: rolling focus displaces rows by itself")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frame."""
        return self.height, self.width

    @property
    def pitch_mm(self) -> float:
        """Pixel pitch in millimetres."""
        pitch_um = min(27.8, 36000.0 / self.width) if self.pixel_pitch_um is None else self.pixel_pitch_um
        return pitch_um / 1000.0
