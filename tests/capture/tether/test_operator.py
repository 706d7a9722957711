from __future__ import annotations

import pytest

from capture.tether.journal import FocusState
from capture.tether.operator import Unattended


@pytest.mark.parametrize("consents", [True, False])
def test_nobody_repeats_a_scene_and_replaces_only_what_was_agreed_to(consents: bool) -> None:
    nobody = Unattended(consents=consents)
    nobody.ready("a", "")
    nobody.told("1/2 a/blur.dng")
    assert nobody.replace(["a/blur.dng is missing"]) is consents
    assert nobody.shoot_again("a", ["over-exposed"]) is False
    assert nobody.refocused("a", FocusState("a", 40)) is False
