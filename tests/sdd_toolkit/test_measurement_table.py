from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdd_toolkit import statistics
from sdd_toolkit.measurement_table import COLUMNS, build_table
from sdd_toolkit.records import FrameMeta, Reason
from tests.support.planted_pairs import alignment, record


def test_the_table_has_one_row_a_pair_with_its_measured_numbers() -> None:
    frame = build_table([record("a"), record("b", alignment=alignment((3.0, 4.0)))])
    assert list(frame["id"]) == ["a", "b"]
    assert frame["shift_px"].tolist() == pytest.approx([np.hypot(6, 4), 5.0])
    assert frame["zoom_percent"].tolist() == pytest.approx([1.0, 1.0])
    assert frame["texture_fraction"][0] == 0.9
    assert frame["align_texture_fraction"][0] == 0.8
    assert tuple(frame.columns) == COLUMNS


def test_what_was_not_measured_is_missing_not_zero() -> None:
    bare = record("a", alignment=None, quality=None, verdict=None, blur_meta=FrameMeta(), sharp_meta=FrameMeta())
    row = build_table([bare]).iloc[0]
    assert np.isnan([row["shift_px"], row["sharpness_gain"], row["blur_iso"], row["height"]]).all()
    assert (row["verdict"], row["reason"], row["make"], bool(row["aligned"])) == ("open", "", "", False)


def test_the_geometry_of_a_failed_alignment_is_left_out() -> None:
    failed = replace(alignment(), failure=Reason.PARALLAX, error_px=None)
    frame = build_table([record("a", Reason.PARALLAX, alignment=failed)])
    assert np.isnan(frame["shift_px"][0])
    assert statistics.summary(frame).aligned == 0


def test_the_radial_term_is_told_as_the_displacement_of_the_corners() -> None:
    bent = replace(alignment(), radial=-0.01, colour_gain=(1.1, 1.0, 0.9), vignetting=(0.02, -0.01))
    row = build_table([record("a", alignment=bent)]).iloc[0]
    assert row["radial_px"] == pytest.approx(0.01 * np.hypot(160, 240) / 2)
    assert row[["gain_red", "gain_blue", "vignetting_a"]].tolist() == [1.1, 0.9, 0.02]
