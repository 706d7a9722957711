from __future__ import annotations

import pytest

from capture.pairing.version_names import NameLink, parse_version_name


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_0001-Edit", "IMG_0001-Edit-2", "img_0001_edited", "IMG_0001-bearbeitet", "IMG_0001-modifié"),
        *("IMG_0001 copy", "IMG_0001 copy 2", "IMG_0001 - Copy (3)", "IMG_0001 - Kopie", "IMG_0001 - Kopie (2)"),
        *("Copy of IMG_0001", "Kopie von IMG_0001", "copie de IMG_0001", "IMG_0001 копия", "IMG_0001-副本"),
        *("IMG_0001-Enhanced", "IMG_0001-Enhanced-NR", "IMG_0001-HDR", "IMG_0001-Pano", "IMG_0001_DxO"),
        *("IMG_0001-NEF_DxO-1", "IMG_0001.CR2", "IMG_0001-denoiseraw-dxo", "IMG_E0001", "IMG_0001_export_srgb"),
        "IMG_0001-modifie\u0301",  # as macOS stores it
    ],
)
def test_the_name_of_an_edited_file_holds_that_of_its_source(name: str) -> None:
    parsed = parse_version_name(name)
    assert parsed.source == "img_0001"
    assert parsed.is_edited


@pytest.mark.parametrize("name", ["IMG_0001 (2)", "IMG_0001-2", "IMG_0001~2", "IMG_0001_01", "IMG_0001 1"])
def test_a_number_alone_is_kept_apart_from_words(name: str) -> None:
    parsed = parse_version_name(name)
    assert (parsed.source, parsed.unnumbered) == (name.lower(), "img_0001")
    assert not parsed.is_edited


@pytest.mark.parametrize(
    "name",
    ["IMG_0001", "_DSC0815", "step3", "lake_blur", "f4_blur", "sharp", "edit", "hdr", "copy", "jpg", "1", "edition"],
)
def test_a_camera_name_or_a_role_is_no_edit(name: str) -> None:
    parsed = parse_version_name(name)
    assert parsed.stem == parsed.source == parsed.unnumbered == name.lower()
    assert parsed.links == ((name.lower(), NameLink.SAME),)
