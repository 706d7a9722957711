from __future__ import annotations

import pytest

from capture.tether.journal import FocusState
from capture.tether.operator import Unattended


@pytest.mark.parametrize("consents", [True, False])
def test_an_unattended_session_repeats_no_scene_and_replaces_only_what_was_agreed_to(consents: bool) -> None:
    unattended = Unattended(consents=consents)
    unattended.wait_until_ready("a", "")
    unattended.report("1/2 a/blur.dng")
    assert unattended.confirm_replacement(["a/blur.dng is missing"]) is consents
    assert unattended.confirm_reshoot("a", ["over-exposed"]) is False
    assert unattended.confirm_refocused("a", FocusState("a", 40)) is False
