from __future__ import annotations

import numpy as np

from capture.virtual.compositing import composite
from capture.virtual.scene import Surface, VirtualScene


def test_a_surface_outside_the_canvas_is_not_seen() -> None:
    ground = Surface(np.ones((20, 30, 4), np.float32), 0, 0, 0.1)
    far_off = Surface(np.zeros((5, 5, 4), np.float32), 100, -50, 0.2)
    assert np.all(composite(VirtualScene((ground, far_off), (20, 30)), [0.0, 3.0]) == 1)
