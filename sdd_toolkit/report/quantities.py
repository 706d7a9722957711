"""Names, units and number formats of the measured quantities in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdd_toolkit.records import Exposure

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured column with its name, unit, number of decimals and meaning."""

    column: str
    name: str
    unit: str
    digits: int
    meaning: str = ""


PANELS = (
    Quantity("shift_x_px", "Shift, horizontal", "px", 2, "of the frame centre, blurred to sharp"),
    Quantity("shift_y_px", "Shift, vertical", "px", 2, "of the frame centre, blurred to sharp"),
    Quantity("zoom_percent", "Zoom", "%", 2, "magnification, blurred to sharp: focus breathing"),
    Quantity("rotation_deg", "Rotation", "°", 3, "counter-clockwise positive"),
    Quantity("perspective_px", "Perspective", "px", 2, "largest deviation of a corner from the best similarity"),
    Quantity("radial_px", "Radial term", "px", 2, "displacement of the corners; 0 for most lenses"),
    Quantity("coc_px", "Circle of confusion", "px", 2, "median radius of the blur disc"),
    Quantity("sharpness_gain", "Sharpness gain", "×", 2, "fine detail, sharp over blurred"),
    Quantity("residual_p95_px", "Residual flow, 95th percentile", "px", 2, "after alignment, textured pixels"),
    Quantity("error_px", "Estimated error", "px", 3, "of the registration, at the frame corners"),
)
BEFORE = Quantity("before_px", "Displacement before alignment", "px", 2)
AFTER = Quantity("residual_px", "Residual flow after alignment", "px", 2)
TABLE_COLUMNS = (
    Quantity("shift_px", "Shift", "px", 1),
    Quantity("zoom_percent", "Zoom", "%", 2),
    Quantity("rotation_deg", "Rotation", "°", 2),
    Quantity("before_px", "Before", "px", 1, "Median displacement before alignment"),
    Quantity("residual_px", "After", "px", 2, "Median residual flow after alignment"),
    Quantity("coc_px", "Blur", "px", 1, "Median circle of confusion radius"),
    Quantity("sharpness_gain", "Gain", "×", 2, "Sharpness gain"),
    Quantity("error_px", "Error", "px", 2, "Estimated error of the registration"),
)
CARD_NUMBERS = (
    Quantity("shift_x_px", "Shift, horizontal", "px", 2),
    Quantity("shift_y_px", "Shift, vertical", "px", 2),
    Quantity("zoom_percent", "Zoom", "%", 3),
    Quantity("rotation_deg", "Rotation", "°", 3),
    Quantity("perspective_px", "Perspective", "px", 2),
    Quantity("radial_px", "Radial term at the corners", "px", 2),
    BEFORE,
    Quantity("before_p95_px", "… 95th percentile", "px", 2),
    AFTER,
    Quantity("residual_p95_px", "… 95th percentile", "px", 2),
    Quantity("coc_px", "Circle of confusion radius", "px", 2),
    Quantity("coc_p95_px", "… 95th percentile", "px", 2),
    Quantity("error_px", "Estimated error", "px", 3),
    Quantity("ncc", "Correlation, blur matched", "", 4),
    Quantity("unexplained_fraction", "Tiles unexplained", "", 4),
    Quantity("align_texture_fraction", "Tiles used to align", "", 3),
    Quantity("gain", "Brightness gain applied", "×", 4),
    Quantity("gain_red", "… of red, relative", "×", 4),
    Quantity("gain_blue", "… of blue, relative", "×", 4),
    Quantity("offset", "Brightness offset applied", "", 5),
    Quantity("sharpness_gain", "Sharpness gain", "×", 2),
    Quantity("sharper_fraction", "Tiles sharper", "", 3),
    Quantity("softer_fraction", "Tiles softer", "", 3),
    Quantity("sharp_acuity", "Acuity, sharp frame", "", 3),
    Quantity("blur_acuity", "Acuity, blurred frame", "", 3),
    Quantity("exposure_ev", "Exposure difference", "EV", 3),
    Quantity("clipped_fraction", "Clipped pixels", "", 4),
    Quantity("blur_level", "Level, blurred frame", "", 4),
    Quantity("sharp_level", "Level, sharp frame", "", 4),
    Quantity("texture_fraction", "Tiles with texture", "", 3),
)
COMPONENTS = (
    Quantity("shift_px", "Shift", "px", 2, "of the frame centre"),
    Quantity("zoom_percent", "Zoom", "%", 3, "blurred to sharp"),
    Quantity("rotation_deg", "Rotation", "°", 3),
    Quantity("perspective_px", "Perspective", "px", 2, "Largest deviation of a corner from the best similarity"),
    Quantity("radial_px", "Radial", "px", 2, "Displacement of the corners by the radial term"),
    Quantity("before_px", "Before", "px", 2, "Median displacement before alignment"),
    Quantity("residual_px", "After", "px", 2, "Median residual flow after alignment"),
    Quantity("error_px", "Error", "px", 3, "Estimated error at the corners"),
)


def format_number(value: float | None, digits: int) -> str:
    """Formats a number with thousands separators and a typographic minus sign; a dash for a missing one."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{digits}f}" if abs(value) < 1e7 else f"{value:.3g}"
    return (text[1:] if float(text.replace(",", "")) == 0 and text.startswith("-") else text).replace("-", "−")


def exposure_text(exposure: Exposure) -> str:
    """Formats the known parts of an exposure, as in `f/2.8 · 1/60 s · ISO 100 · 50 mm · focus 1.2 m`."""
    shutter = exposure.shutter_s
    parts = (
        f"f/{exposure.f_number:g}" if exposure.f_number else "",
        "" if not shutter else f"1/{1 / shutter:.0f} s" if shutter < 0.3 else f"{shutter:g} s",
        f"ISO {exposure.iso:g}" if exposure.iso else "",
        f"{exposure.focal_mm:g} mm" if exposure.focal_mm else "",
        _focus_text(exposure.focus_m),
    )
    return " · ".join(part for part in parts if part)


def _focus_text(focus_m: float | None) -> str:
    return "" if not focus_m else "focus ∞" if math.isinf(focus_m) else f"focus {focus_m:g} m"
