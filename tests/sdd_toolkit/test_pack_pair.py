from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sdd_toolkit.develop import Encoding, decode
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.pack_pair import crop_box, pack_pair
from sdd_toolkit.shard_index import FailedPair
from sdd_toolkit.shards import PackedPair
from sdd_toolkit.types import Alignment, Reason
from tests.small_dataset import SIZE, alignment, pair, texture

SHIFT = ((1.0, 0.0, 8.0), (0.0, 1.0, 4.0), (0.0, 0.0, 1.0))


def packed(
    folder: Path, found: Alignment, encoding: Encoding = Encoding.SRGB8, min_size_px: int = 64
) -> PackedPair | FailedPair:
    record = pair(folder, "p", "s", seed=3, found=found)
    return pack_pair(record, folder / "p_blur.png", folder / "p_sharp.png", folder, encoding, min_size_px)


def good(result: PackedPair | FailedPair) -> PackedPair:
    assert isinstance(result, PackedPair)
    return result


def bad(result: PackedPair | FailedPair) -> tuple[Reason, str]:
    assert isinstance(result, FailedPair)
    return result.reason, result.detail


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 420, 312), (0, 0, 420, 312)),
        ((1, 5, 419, 311), (4, 8, 416, 308)),
        ((-9, -1, 999, 999), (0, 0, 420, 312)),
        ((8, 8, 11, 8), (8, 8, 8, 8)),
    ],
)
def test_the_box_shrinks_to_multiples_of_four(box: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert crop_box((box[0], box[1], box[2], box[3]), SIZE) == expected


def test_the_sharp_frame_is_cropped_and_otherwise_untouched(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(box=(6, 7, 410, 303))))
    np.testing.assert_array_equal(result.sharp, texture(3)[8:300, 8:408])
    assert result.valid.all()


def test_a_shifted_pair_is_brought_onto_the_sharp_frame(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(SHIFT, box=(16, 12, 416, 308))))
    blurred = cv2.imread(str(tmp_path / "p_blur.png"))[..., ::-1]
    np.testing.assert_array_equal(result.blur, blurred[12 - 4 : 308 - 4, 16 - 8 : 416 - 8])


def test_the_gain_is_applied_in_linear_light(tmp_path: Path) -> None:
    once, twice = (good(packed(tmp_path, alignment(gain=gain), Encoding.LINEAR16)) for gain in (1.0, 0.5))
    np.testing.assert_allclose(twice.blur, once.blur / 2, atol=1)
    np.testing.assert_array_equal(twice.sharp, once.sharp)


def test_16_bit_encodings_agree_with_8_bit(tmp_path: Path) -> None:
    frames = {encoding: good(packed(tmp_path, alignment(), encoding)).sharp for encoding in Encoding}
    linear = {encoding: decode(frame, encoding) for encoding, frame in frames.items()}
    np.testing.assert_allclose(linear[Encoding.SRGB16], linear[Encoding.SRGB8], atol=1e-4)
    np.testing.assert_allclose(linear[Encoding.LINEAR16], linear[Encoding.SRGB8], atol=1e-4)


def test_pixels_without_a_source_are_marked(tmp_path: Path) -> None:
    result = good(packed(tmp_path, alignment(SHIFT, box=(0, 0, 420, 312))))
    assert not result.valid[:, :8].any()
    assert not result.valid[:4].any()
    assert result.valid[20:-20, 20:-20].all()


def test_the_flow_is_cropped_with_the_frames(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(size=(78, 105, 2)).astype(np.float16)
    np.savez(tmp_path / "p.npz", flow=field, confidence=np.zeros((78, 105), np.uint8))
    result = good(packed(tmp_path, alignment(box=(6, 7, 410, 303), flow_file="p.npz")))
    np.testing.assert_array_equal(result.flow, field[2:75, 2:102].astype(np.float32))


def test_no_flow_file_is_no_flow(tmp_path: Path) -> None:
    assert not good(packed(tmp_path, alignment())).flow.any()


def test_a_small_overlap_is_too_small(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(box=(6, 7, 70, 303)), min_size_px=64)) == (
        Reason.TOO_SMALL,
        "overlap 60 x 292 px < 64 px",
    )


def test_frames_of_another_size_than_aligned_are_a_mismatch(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(size=(624, 840))))[0] is Reason.SIZE_MISMATCH


def test_a_frame_that_cannot_be_decoded_is_unreadable(tmp_path: Path) -> None:
    record = pair(tmp_path, "p", "s", seed=3)
    (tmp_path / "p_blur.png").write_bytes(b"no image")
    result = pack_pair(record, tmp_path / "p_blur.png", tmp_path / "p_sharp.png", tmp_path, Encoding.SRGB8, 64)
    assert bad(result)[0] is Reason.UNREADABLE


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", "wrong size", "not finite"])
def test_a_damaged_flow_file_is_unreadable(tmp_path: Path, content: object) -> None:
    path = tmp_path / "p.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "wrong size":
        np.savez(path, flow=np.zeros((7, 7, 2), np.float16))
    elif content == "not finite":
        np.savez(path, flow=np.full((78, 105, 2), np.nan, np.float16))
    reason, detail = bad(packed(tmp_path, alignment(flow_file="p.npz")))
    assert reason is Reason.UNREADABLE
    assert "p.npz" in detail


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_an_unusable_gain_is_not_aligned(tmp_path: Path, gain: float) -> None:
    assert bad(packed(tmp_path, alignment(gain=gain)))[0] is Reason.NOT_ALIGNED


def test_a_singular_homography_is_not_aligned(tmp_path: Path) -> None:
    assert bad(packed(tmp_path, alignment(((1, 0, 0), (0, 0, 0), (0, 0, 1)))))[0] is Reason.NOT_ALIGNED


def test_a_pair_whose_alignment_failed_keeps_that_reason(tmp_path: Path) -> None:
    found = replace(alignment(), failure=Reason.PARALLAX, detail="3 px")
    assert bad(packed(tmp_path, found)) == (Reason.PARALLAX, "3 px")


def test_a_flow_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="leaves its root"):
        packed(tmp_path, alignment(flow_file="../p.npz"))
