from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdd_toolkit.errors import InputError
from sdd_toolkit.rearranging.conditions import matching_rows

NAN = float("nan")
COLUMNS = {
    "id": np.array(["a", "b", "c", "d"]),
    "lens": np.array(["50 mm", "85 mm", "", "EF 50 mm"]),
    "residual_px": np.array([0.1, 0.6, NAN, 0.3]),
    "blur_gain": np.array([3.0, 5.0, 9.0, 1.5]),
    "aligned": np.array([True, True, False, True]),
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("blur_gain > 2 and residual_px < 0.5", "a"),
        ("blur_gain > 2 or residual_px < 0.5", "abcd"),
        ("residual_px < 0.5", "ad"),
        ("not residual_px < 0.5", "bc"),
        ("residual_px != 0.1", "bd"),
        ("residual_px not in [0.1]", "bd"),
        ("residual_px == residual_px", "abd"),
        ("0.2 < residual_px <= 0.6", "bd"),
        ("2 * blur_gain - 1 >= 9", "bc"),
        ("blur_gain / residual_px > 10", "a"),
        ("-blur_gain < -4 and +blur_gain < 6", "b"),
        ("blur_gain // 2 == 1 and blur_gain % 2 == 1", "a"),
        ("id in ('a', 'd')", "ad"),
        ("id not in ['a', 'd']", "bc"),
        ("'50' in lens", "ad"),
        ("'50' not in lens", "bc"),
        ("lens == ''", "c"),
        ("lens == 'EF 50 mm'", "d"),
        ("id > 'b'", "cd"),
        ("aligned", "abd"),
        ("not aligned and blur_gain > 2", "c"),
        ("True", "abcd"),
        ("blur_gain > 1e999", ""),
        ("blur_gain / 0 > 1", "abcd"),
    ],
)
def test_a_condition_picks_its_rows(condition: str, expected: str) -> None:
    assert "".join(COLUMNS["id"][matching_rows(condition, COLUMNS)]) == expected


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('true')",
        "residual_px.__class__ == 1",
        "(lambda: 1)() > 0",
        "[x for x in (1, 2)] == 1",
        "columns['id'] == 'a'",
        "@residual_px > 1",
        "f'{id}' == 'a'",
        "abs(residual_px) > 1",
        "9 ** 9 ** 9 > 1",
        "blur_gain > 2 & residual_px < 1",
        "(x := 1) > 0",
        "1 if aligned else 2",
        "residual_px is None",
        "blur_gain > None",
        "blur_gain > 1j",
        "id == b'a'",
        "blur_gain >",
        "",
        "import os",
        "(" * 300 + "1" + ")" * 300,
        "-" * 1500 + "blur_gain > 1",
        "blur_gain > " + "9" * 1500,
        "a" * 2001,
        "blur_gain",
        "blur_gain + aligned > 1",
        "blur_gain and aligned",
        "blur_gain > 'a'",
        "id in [1]",
        "1 in lens",
        "'a' in blur_gain",
        "not blur_gain",
        "-lens == 'a'",
        "[1] == 1",
        "\0",
    ],
)
def test_what_is_no_condition_is_refused_in_words(condition: str) -> None:
    with pytest.raises(InputError) as caught:
        matching_rows(condition, COLUMNS)
    assert caught.value.hint
    assert "\n" not in caught.value.what


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no column is called 'residual'") as caught:
        matching_rows("residual < 1", COLUMNS)
    assert caught.value.hint.startswith("did you mean residual_px?")


@settings(max_examples=300, deadline=None)
@given(
    st.text("residual_px<>=!&|+-*/()[]'\" 0123456789.andotin,:{}@~^%", max_size=60)
    | st.text(max_size=60)
    | st.recursive(
        st.sampled_from(["residual_px", "lens", "aligned", "1", "'a'", "x.y", "[1, 2]"]),
        lambda inner: st.builds(
            "({} {} {})".format, inner, st.sampled_from(["<", "and", "in", "+", "==", "not in", "if", "**"]), inner
        ),
        max_leaves=8,
    )
)
def test_any_text_picks_rows_or_is_refused(condition: str) -> None:
    try:
        answer = matching_rows(condition, COLUMNS)
    except InputError:
        return
    assert answer.shape == (4,)
    assert answer.dtype == np.bool_
