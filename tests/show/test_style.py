"""The saturation bar is exact in width and hides no fraction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.show.style import BETWEEN_CELL, OPEN_CELL, SHUT_CELL, saturation_bar

shares = st.floats(0, 1)


@given(left=shares, right=shares, width=st.integers(1, 60))
def test_bar_has_the_width_asked_for_shut_first_and_open_last(
    left: float, right: float, width: int
) -> None:
    cells = saturation_bar(left, right, width).plain
    assert len(cells) == width
    assert "".join(sorted(cells, key=(SHUT_CELL + BETWEEN_CELL + OPEN_CELL).index)) == cells


@given(share=shares, width=st.integers(1, 60))
def test_bar_of_one_kind_is_as_long_as_its_fraction(share: float, width: int) -> None:
    rounded = share * width
    for bar, cell in (
        (saturation_bar(share, 0, width), SHUT_CELL),
        (saturation_bar(0, share, width), OPEN_CELL),
    ):
        assert abs(bar.plain.count(cell) - rounded) <= (1 if share > 0.005 else 0.5)


@given(left=st.floats(0.01, 0.5), right=st.floats(0.01, 0.5), width=st.integers(2, 60))
def test_small_shares_are_visible(left: float, right: float, width: int) -> None:
    cells = saturation_bar(left, right, width).plain
    assert SHUT_CELL in cells
    assert OPEN_CELL in cells


@pytest.mark.parametrize(
    ("left", "right", "cells"),
    [
        (0, 0, "··········"),
        (1, 0, "██████████"),
        (0, 1, "▒▒▒▒▒▒▒▒▒▒"),
        (0.3, 0.2, "███·····▒▒"),
        (0.01, 0.99, "█▒▒▒▒▒▒▒▒▒"),
        (0.001, 0.001, "··········"),
    ],
)
def test_bar_looks_like_this(left: float, right: float, cells: str) -> None:
    assert saturation_bar(left, right, 10).plain == cells
