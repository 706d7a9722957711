from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.config import IngestConfig
from capture.pairing.clocks import correct_clocks, estimate_offset
from capture.pairing.scenes import Frame, group_scenes
from sdd_toolkit.records import FrameMeta

START = datetime(2026, 3, 29, 1, 59, 50)  # ten seconds before clocks go forward in central Europe
SCENES_S = (0, 41, 100, 177, 203, 260, 333)


def shot(name: str, at_s: float, model: str = "A", zone: str | None = None, serial: str | None = None) -> Frame:
    taken = (START + timedelta(seconds=at_s)).isoformat()
    return Frame(name, FrameMeta(make="M", model=model, taken_at=taken, utc_offset=zone, serial=serial))


def scenes(frames: list[Frame], **config: object) -> list[list[str]]:
    section = IngestConfig(**config)
    right, _ = correct_clocks(frames, section)
    return sorted([frame.name for frame in scene.frames] for scene in group_scenes(right, section))


def test_two_bodies_that_differ_by_an_hour_and_a_little_find_each_other() -> None:
    frames = [shot(f"a{n}.dng", at) for n, at in enumerate(SCENES_S)]
    frames += [shot(f"b{n}.dng", at - 3588.0, "B") for n, at in enumerate(SCENES_S)]
    found = scenes(frames, cameras="together", gap_s=20)
    assert found == [[f"a{n}.dng", f"b{n}.dng"] for n in range(len(SCENES_S))]
    _, notes = correct_clocks(frames, IngestConfig(cameras="together"))
    assert notes == ("M B: +3588.0 s against M A, 7 of 7 shots agree",)


def test_bodies_apart_are_never_one_scene() -> None:
    frames = [shot("a.dng", 0), shot("b.dng", 1, "B"), shot("c.dng", 2, serial="1"), shot("d.dng", 3, serial="2")]
    assert len(scenes(frames)) == 4


def test_a_configured_offset_is_added_and_reported() -> None:
    frames = [shot("a.dng", 0), shot("b.dng", -7200, "B", serial="77"), shot("c.dng", -5, "C")]
    right, notes = correct_clocks(frames, IngestConfig(clock_offsets_s={"77": 7200.0, "m c": 5.0}))
    assert len({frame.time_s for frame in right}) == 1
    assert notes == ("M B #77: +7200 s, as configured", "M C: +5 s, as configured")


def test_an_offset_for_an_absent_body_is_reported() -> None:
    _, notes = correct_clocks([shot("a.dng", 0)], IngestConfig(clock_offsets_s={"Leica": 1.0}))
    assert notes == ("Leica: no frame was taken with it, its offset is not used",)


def test_times_of_two_zones_are_compared_in_utc() -> None:
    right, _ = correct_clocks([shot("a.dng", 0, zone="+01:00"), shot("b.dng", 3605, zone="+02:00")], IngestConfig())
    assert right[1].time_s - right[0].time_s == 5.0


def test_a_clock_that_goes_forward_within_a_scene_does_not_split_it() -> None:
    frames = [shot("p1.dng", 0), shot("p2.dng", 5), shot("p3.dng", 3612), shot("p4.dng", 3700)]
    assert scenes(frames) == [["p1.dng", "p2.dng", "p3.dng"], ["p4.dng"]]


def test_a_clock_that_goes_back_does_not_merge_what_was_an_hour_apart() -> None:
    frames = [shot(f"p{n}.dng", 600 * n) for n in range(7)]
    frames += [shot("p7.dng", 3610 - 3600), shot("p8.dng", 4200 - 3600)]
    assert scenes(frames) == [["p0.dng"], *([f"p{n}.dng"] for n in range(1, 6)), ["p6.dng", "p7.dng"], ["p8.dng"]]
    assert len(scenes(frames, clock="trust")) == 7


def test_a_pause_of_an_hour_by_day_is_a_pause() -> None:
    frames = [shot("p1.dng", 50_000), shot("p2.dng", 50_005), shot("p3.dng", 53_610), shot("p4.dng", 53_615)]
    assert scenes(frames) == [["p1.dng", "p2.dng"], ["p3.dng", "p4.dng"]]


def test_names_in_no_order_of_time_are_no_clock_that_jumps() -> None:
    order = [4, 0, 3, 6, 1, 5, 2]
    frames = [shot(f"p{n}.dng", 1795.0 * place) for n, place in enumerate(order)]
    right, notes = correct_clocks(frames, IngestConfig())
    assert notes == ()
    assert [frame.time_s for frame in right] == [
        (START + timedelta(seconds=1795.0 * place)).replace(tzinfo=UTC).timestamp() for place in order
    ]


def test_shots_that_share_no_rhythm_have_no_offset() -> None:
    assert estimate_offset([0, 100, 250, 470], [1e5, 1e5 + 37, 1e5 + 333, 1e5 + 900]) is None


def test_of_two_possible_offsets_the_clocks_as_they_are_win() -> None:
    assert estimate_offset([0, 10, 20, 30], [0.5, 10.5, 20.5, 30.5]) == (0.0, 4)


@given(
    st.lists(st.integers(0, 20_000), min_size=8, max_size=30, unique=True).map(lambda times: [9 * t for t in times]),
    st.floats(-50_000, 50_000).filter(lambda offset: abs(offset) > 10),
    st.randoms(use_true_random=False),
)
def test_a_planted_offset_is_found_to_the_jitter_of_the_shots(times: list[int], offset: float, random: object) -> None:
    other = [time - offset + random.uniform(-0.5, 0.5) for time in times]  # type: ignore[attr-defined]
    found = estimate_offset(times, other)
    assert found is not None
    assert found[0] == pytest.approx(offset, abs=2.5) or found[1] >= 0.9 * len(times)


@pytest.mark.parametrize("pause_s", [5.0, 600.0, 1500.0])
def test_an_hour_back_is_set_right_however_long_the_pause_across_it(pause_s: float) -> None:
    before = [shot(f"IMG_{n}.dng", 60.0 * n) for n in range(4)]
    after = [shot(f"IMG_{n}.dng", 180.0 + pause_s - 3600.0 + 60.0 * (n - 4)) for n in range(4, 8)]
    right, notes = correct_clocks([*before, *after], IngestConfig())
    assert notes == ("M A: +3600 s from IMG_4.dng on, where its clock jumps by an hour",)
    times = [frame.time_s for frame in sorted(right, key=lambda frame: frame.name)]
    assert times == sorted(times)
