"""A transform survives its file, and a file that lies is refused with its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from alignment.transforms import transform as transforms
from alignment.transforms.transform import Transform
from sdd_toolkit.errors import InputError, ManifestError
from sdd_toolkit.pipeline import manifest
from sdd_toolkit.records import Reason, Verdict
from tests.support import planted_pairs

TRANSFORM = Transform(
    blur="b.dng",
    sharp="s.dng",
    size=(100, 160),
    homography=((1.01, -0.002, 3.25), (0.002, 1.01, -1.5), (0.0, 0.0, 1.0)),
    model="similarity",
    radial=-0.003,
    gain=1.1,
    colour_gain=(1.01, 1.0, 0.98),
    vignetting=(0.02, -0.01),
    offset=0.001,
    error_px=0.04,
    flow="b_flow.npz",
)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    transforms.write_transform(tmp_path / "b.json", TRANSFORM)
    return tmp_path / "b.json"


def changed(path: Path, **entries: object) -> Path:
    content = {**json.loads(path.read_text(encoding="utf-8")), **entries}
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}), encoding="utf-8")
    return path


def test_what_is_written_is_read_again_exactly(stored: Path) -> None:
    assert transforms.read_transform(stored) == TRANSFORM
    first = stored.read_bytes()
    transforms.write_transform(stored, transforms.read_transform(stored))
    assert stored.read_bytes() == first


def test_the_file_says_in_words_what_its_numbers_mean(stored: Path) -> None:
    content = json.loads(stored.read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("sdd-transform", 1)
    assert "centre of the top left pixel" in content["convention"]
    assert content["affine"] == [[1.01, -0.002, 3.25], [0.002, 1.01, -1.5]]


def test_a_perspective_transform_has_no_affine_form(tmp_path: Path) -> None:
    rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1e-5, 0.0, 1.0))
    transforms.write_transform(tmp_path / "h.json", replace(TRANSFORM, homography=rows, model="homography"))
    assert json.loads((tmp_path / "h.json").read_text(encoding="utf-8"))["affine"] is None
    assert transforms.read_transform(tmp_path / "h.json").homography == rows


def test_the_affine_form_may_be_left_out(stored: Path) -> None:
    assert transforms.read_transform(changed(stored, affine="gone", convention="gone")) == TRANSFORM


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"format": "something"}, "is not a transform"),
        ({"version": 2}, "version 2"),
        ({"homography": "gone"}, "homography"),
        ({"gains": 1.0}, "gains"),
        ({"gain": "1.0"}, "gain"),
        ({"gain": 0.0}, "gain: 0"),
        ({"gain": float("nan")}, "gain"),
        ({"size": [100]}, "size"),
        ({"size": [0, 160]}, "size: 0 x 160 px"),
        ({"homography": [[1, 0, 0], [0, 0, 0], [0, 0, 1]], "affine": None}, "cannot be inverted"),
        ({"homography": [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], "affine": None}, "infinity"),
        ({"affine": [[1, 0, 0], [0, 1, 0]]}, "affine"),
        ({"flow": "../../elsewhere.npz"}, "same folder"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(stored: Path, entries: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        transforms.read_transform(changed(stored, **entries))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_transform_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.json"):
        transforms.read_transform(tmp_path / "t.json")


def aligned(tmp_path: Path, *names: str) -> Path:
    planted_pairs.build_folder(tmp_path, [planted_pairs.record(name) for name in names], "aligned")
    return tmp_path / "aligned.jsonl"


def test_a_manifest_with_one_pair_needs_no_id(tmp_path: Path) -> None:
    transform, flow = transforms.load_transform(aligned(tmp_path, "one"))
    assert transform.homography == ((1.0, 0.0, 6.0), (0.0, 1.0, -4.0), (0.0, 0.0, 1.0))
    assert (transform.blur, transform.sharp, transform.size) == ("one_blur.png", "one_sharp.png", planted_pairs.SIZE)
    assert flow == tmp_path / "flow" / "one.npz"


def test_a_manifest_with_several_pairs_needs_a_pair_id(tmp_path: Path) -> None:
    source = aligned(tmp_path, "one", "two")
    with pytest.raises(InputError, match="2 pairs"):
        transforms.load_transform(source)
    with pytest.raises(InputError, match="no pair 'three'"):
        transforms.load_transform(source, "three")
    assert transforms.load_transform(source, "two")[0].blur == "two_blur.png"


def test_a_pair_that_could_not_be_aligned_has_no_transform(tmp_path: Path) -> None:
    source = aligned(tmp_path, "one")
    (record,) = manifest.read_manifest(source).records
    assert record.alignment is not None
    lost = replace(record.alignment, failure=Reason.NO_TEXTURE, detail="3 textured tiles < 12")
    never = replace(record, id="never", alignment=None, verdict=Verdict(keep=False, reason=Reason.UNREADABLE))
    manifest.write_manifest(source, manifest.Manifest(tmp_path, (replace(record, alignment=lost), never)))
    with pytest.raises(InputError, match="too little texture"):
        transforms.load_transform(source, "one")
    with pytest.raises(InputError, match="not aligned"):
        transforms.load_transform(source, "never")
    assert transforms.export_transforms(source, tmp_path / "exported") == []


def test_an_exported_folder_holds_all_a_transform_needs(tmp_path: Path) -> None:
    written = transforms.export_transforms(aligned(tmp_path, "one", "two"), tmp_path / "exported")
    assert [path.name for path in written] == ["one.json", "two.json"]
    transform, flow = transforms.load_transform(written[0])
    assert transform.flow == "one_flow.npz"
    assert flow is not None
    assert flow.read_bytes() == (tmp_path / "flow" / "one.npz").read_bytes()


def test_a_lost_flow_is_no_traceback(tmp_path: Path) -> None:
    source = aligned(tmp_path, "one")
    (tmp_path / "flow" / "one.npz").unlink()
    with pytest.raises(InputError, match=r"one\.npz"):
        transforms.export_transforms(source, tmp_path / "exported")


def test_a_manifest_that_is_none_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        transforms.load_transform(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((100, 160), Fraction(1)),
        ((101, 161), Fraction(1)),
        ((50, 80), Fraction(1, 2)),
        ((200, 320), Fraction(2)),
        ((300, 480), Fraction(3)),
        ((150, 240), None),
        ((100, 320), None),
        ((160, 100), None),
        ((0, 0), None),
    ],
)
def test_other_sizes_fit_if_a_whole_number_of_times_larger_or_smaller(size: tuple[int, int], scale: Fraction) -> None:
    assert transforms.scale_between(size, TRANSFORM) == scale


def test_the_matrix_is_the_homography(stored: Path) -> None:
    assert np.array_equal(TRANSFORM.matrix @ [0, 0, 1], [3.25, -1.5, 1.0])
