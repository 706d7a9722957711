"""The stored residual flow and the part of it that is applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging.residual_flow import (
    ResidualFlow,
    applicable_flow,
    halve_flow,
    move_with_flow,
    read_residual_flow,
    read_trust,
)

GRID = (60, 80)


def uniform(confidence: np.ndarray, occlusion: np.ndarray | None = None) -> ResidualFlow:
    """A flow of (4, -2) px everywhere."""
    flow = np.broadcast_to(np.array([4.0, -2.0], np.float32), (*GRID, 2)).copy()
    return ResidualFlow(
        flow, confidence.astype(np.float32), np.zeros(GRID, np.bool_) if occlusion is None else occlusion
    )


def test_a_flow_that_is_sure_is_applied_as_it_is() -> None:
    residual = uniform(np.ones(GRID))
    np.testing.assert_array_equal(applicable_flow(residual), residual.flow)


def test_a_flow_that_is_nowhere_sure_is_not_applied() -> None:
    assert not applicable_flow(uniform(np.zeros(GRID))).any()


def test_a_guess_amid_sure_neighbours_takes_their_flow() -> None:
    confidence = np.ones(GRID)
    confidence[28:32, 38:42] = 0
    residual = uniform(confidence)
    residual.flow[28:32, 38:42] = (-50, 50)
    np.testing.assert_allclose(applicable_flow(residual)[30, 40], (4, -2), atol=0.2)


def test_confidence_that_flickers_tears_nothing() -> None:
    confidence = np.random.default_rng(0).random(GRID)
    np.testing.assert_allclose(applicable_flow(uniform(confidence)), uniform(confidence).flow, atol=0.3)


def test_the_flow_fades_where_there_is_no_evidence() -> None:
    confidence = np.zeros(GRID)
    confidence[:, :40] = 1
    row = applicable_flow(uniform(confidence))[30, :, 0]
    assert row[39] == pytest.approx(4, abs=0.2)
    assert abs(row[60:]).max() < 0.01
    assert np.abs(np.diff(row)).max() < 1.2  # full-size px a coarse pixel of 4: far from folding


def test_a_hidden_pixels_flow_counts_for_nothing() -> None:
    occlusion = np.zeros(GRID, np.bool_)
    occlusion[20:40, 30:50] = True
    residual = uniform(np.ones(GRID), occlusion)
    residual.flow[20:40, 30:50] = (-50, 50)
    assert applicable_flow(residual)[20:40, 30:50, 0].min() > 0


def test_values_are_carried_where_the_flow_points() -> None:
    marked = np.zeros(GRID, np.float32)
    marked[30, 40] = 1
    there = move_with_flow(marked, np.broadcast_to(np.array([8.0, -4.0], np.float32), (*GRID, 2)))
    assert np.unravel_index(there.argmax(), GRID) == (29, 42)


def test_a_stored_flow_is_read_with_its_confidence_and_occlusion(tmp_path: Path) -> None:
    flow = np.ones((*GRID, 2), np.float16)
    occlusion = np.zeros(GRID, np.uint8)
    occlusion[3, 4] = 1
    np.savez(tmp_path / "a.npz", flow=flow, confidence=np.full(GRID, 51, np.uint8), occlusion=occlusion)
    found = read_residual_flow(tmp_path / "a.npz", (239, 320))
    assert found.confidence[0, 0] == pytest.approx(0.2)
    assert np.argwhere(found.occlusion).tolist() == [[3, 4]]
    np.savez(tmp_path / "b.npz", flow=flow)
    older = read_residual_flow(tmp_path / "b.npz", (239, 320))
    assert older.confidence.min() == 1
    assert not older.occlusion.any()


def test_the_trust_of_a_stored_flow_is_its_confidence_where_nothing_is_hidden(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    confidence, occlusion = rng.integers(0, 256, GRID, np.uint8), rng.integers(0, 2, GRID, np.uint8)
    np.savez(tmp_path / "a.npz", flow=np.zeros((*GRID, 2), np.float16), confidence=confidence, occlusion=occlusion)
    found = read_trust(tmp_path / "a.npz", (240, 320))
    np.testing.assert_array_equal(found, np.where(occlusion, 0, confidence / np.float32(255)))
    np.testing.assert_array_equal(found, read_residual_flow(tmp_path / "a.npz", (240, 320)).trust)
    np.savez(tmp_path / "b.npz", confidence=confidence[1:])
    for name in ("b", "missing"):
        with pytest.raises(InputError, match=rf"{name}\.npz"):
            read_trust(tmp_path / f"{name}.npz", (240, 320))


@pytest.mark.parametrize("name", ["missing", "empty", "size", "infinite", "no flow", "pickled"])
def test_a_file_without_a_usable_flow_is_an_input_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npz"
    if name == "empty":
        path.write_bytes(b"")
    elif name == "size":
        np.savez(path, flow=np.ones((5, 5, 2), np.float16))
    elif name == "infinite":
        np.savez(path, flow=np.full((*GRID, 2), np.inf, np.float16))
    elif name == "no flow":
        np.savez(path, confidence=np.ones(GRID))
    elif name == "pickled":
        np.savez(path, flow=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"a\.npz"):
        read_residual_flow(path, (240, 320))


def test_a_flow_at_half_size_is_half_as_long_and_hidden_where_any_of_it_was() -> None:
    occlusion = np.zeros((61, 80), np.bool_)
    occlusion[7, 9] = True
    across = np.broadcast_to(np.arange(80, dtype=np.float32), (61, 80))
    flow = np.stack([across, np.full_like(across, -2.0)], axis=-1)
    half = halve_flow(ResidualFlow(flow, np.ones((61, 80), np.float32), occlusion))
    assert half.flow.shape == (31, 40, 2)
    np.testing.assert_allclose(half.flow[:, :, 0], np.broadcast_to((2 * np.arange(40) + 0.5) / 2, (31, 40)))
    np.testing.assert_allclose(half.flow[:, :, 1], -1.0)
    assert np.argwhere(half.occlusion).tolist() == [[3, 4]]


def test_a_damaged_file_is_an_input_error_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "flow.npz"
    noise = np.random.default_rng(0).normal(size=(12, 16, 2)).astype(np.float16)
    np.savez_compressed(path, flow=noise)
    intact = path.read_bytes()
    found = 0
    for place in range(0, len(intact), 3):
        damaged = bytearray(intact)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            read_residual_flow(path, (48, 64))
        except InputError:
            found += 1
    assert found > len(intact) / 3 * 0.8
    path.write_bytes(intact)
    assert np.array_equal(read_residual_flow(path, (48, 64)).flow, noise.astype(np.float32))


def test_a_file_that_unpacks_to_more_than_any_flow_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "flow.npz"
    np.savez_compressed(path, flow=np.zeros((2000, 2000, 2), np.float16))
    with pytest.raises(InputError, match="it claims 16000"):
        read_residual_flow(path, (48, 64))
