"""Pairs between whose frames the focus of a thin lens moved: how it breathes is known."""

from __future__ import annotations

from dataclasses import replace

from capture.virtual.lens import image_distance_mm
from sdd_toolkit.records import Exposure, FrameMeta, PairRecord
from tests.support.planted_pairs import alignment, record

STEPS_M = ((0.5, 1.0), (3.0, 0.6), (0.8, 2.0), (5.0, 1.0), (1.5, 0.7), (0.55, 4.0), (2.0, 0.5), (0.9, 8.0))


def meta(focus_m: float | None, lens: str | None = "EF 50mm", focal_mm: float | None = 50.0) -> FrameMeta:
    """A frame of a lens at a focus distance."""
    return FrameMeta("Canon", "Canon EOS 6D", lens, exposure=Exposure(focal_mm=focal_mm, focus_m=focus_m))


def pair(name: str, blur: FrameMeta, sharp: FrameMeta, zoom: float = 1.0) -> PairRecord:
    """An aligned pair with this magnification."""
    return record(name, blur_meta=blur, sharp_meta=sharp, alignment=replace(alignment(), zoom=zoom, error_px=0.02))


def thin_lens_pairs(lens: str = "EF 50mm", focal_mm: float = 50.0) -> list[PairRecord]:
    """One pair a step of `STEPS_M`, magnified as a thin lens magnifies."""
    return [
        pair(
            f"{lens}-{blur_m}-{sharp_m}",
            meta(blur_m, lens, focal_mm),
            meta(sharp_m, lens, focal_mm),
            image_distance_mm(focal_mm, sharp_m) / image_distance_mm(focal_mm, blur_m),
        )
        for blur_m, sharp_m in STEPS_M
    ]
