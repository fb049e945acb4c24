"""Charts have the size asked for, whatever they are given; ticks are round and well placed."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from charlstm.analysis.document import Series
from charlstm.show.charts import chart, numbered, round_ticks

SERIES = {
    "nothing": [],
    "empty": [Series("a", [], [], "blue")],
    "one point": [Series("a", [1], [1], "dark_orange")],
    "lines": [Series("a", [1, 2, 3], [1, 2, 0.5], "blue"), Series("b", [1, 3], [2, 0], "green")],
    "dots": [Series("a", [0, 1, 3], [0, 2, 1], "magenta", line=False)],
    "outside": [Series("a", [-9, 99], [-9, 99], "blue")],
}


def draw(series: list[Series], width: int, height: int, *, color: bool = False) -> str:
    return chart(
        series,
        width,
        height,
        x_limits=(0, 3),
        y_limits=(0, 2),
        x_ticks=(0, 1, 2, 3),
        y_ticks=(0, 1, 2),
        color=color,
    ).plain


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES.keys())
@pytest.mark.parametrize(("width", "height"), [(12, 5), (44, 18), (80, 24), (140, 40)])
def test_chart_has_the_size_asked_for(series: list[Series], width: int, height: int) -> None:
    lines = draw(series, width, height).split("\n")
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}


def test_axes_have_their_ticks() -> None:
    lines = draw(SERIES["lines"], 40, 10).split("\n")
    assert lines[-1].split() == ["0", "1", "2", "3"]
    assert [line.split("┤")[0] for line in lines if "┤" in line] == ["2.00", "1.00", "0.00"]


def test_points_are_drawn_where_they_belong() -> None:
    def marked(y: float) -> list[int]:
        point = [Series("a", [1.5], [y], "blue", marker="dot", line=False)]
        empty = draw([], 40, 12).split("\n")
        drawn = draw(point, 40, 12).split("\n")
        return [row for row in range(12) if drawn[row] != empty[row]]

    assert marked(2) == [0]
    assert marked(0) == [9]
    assert 3 <= marked(1)[0] <= 6


def test_limits_hold_whatever_ticks_and_points_there_are() -> None:
    limits = {"x_limits": (0, 4), "y_limits": (0, 2), "x_ticks": (2,), "y_ticks": (1,)}
    lines = chart(SERIES["outside"], 40, 12, **limits).plain.split("\n")  # type: ignore[arg-type]
    (row,) = (y for y, line in enumerate(lines) if "┤" in line)
    assert 4 <= row <= 5
    assert 20 <= lines[-1].index("2") <= 24


def test_a_chart_holds_nothing_of_the_one_before() -> None:
    before = draw(SERIES["nothing"], 40, 12)
    assert draw(SERIES["lines"], 40, 12) != before
    assert draw(SERIES["nothing"], 40, 12) == before


def test_color_is_in_the_styles_and_only_when_asked_for() -> None:
    def styles(color: bool) -> int:
        limits = {"x_limits": (0, 3), "y_limits": (0, 2), "x_ticks": (), "y_ticks": ()}
        drawn = chart(SERIES["lines"], 30, 8, color=color, **limits)  # type: ignore[arg-type]
        assert "\x1b" not in drawn.plain
        return len(drawn.spans)

    assert styles(True) > 0
    assert styles(False) == 0


@given(
    low=st.floats(-1e3, 1e3),
    length=st.floats(1e-3, 1e6),
    most=st.integers(2, 20),
)
def test_ticks_are_few_round_evenly_spaced_and_reach_both_ends(
    low: float, length: float, most: int
) -> None:
    high = low + length
    ticks = round_ticks(low, high, most)
    slack = 2e-9 * max(abs(low), abs(high))
    assert 1 <= len(ticks) <= most
    assert low - slack <= ticks[0]
    assert ticks[-1] <= high + slack
    if len(ticks) == 1:
        return
    step = ticks[1] - ticks[0]
    leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(leading - round_) for round_ in (1, 2, 2.5, 5)) < 1e-3
    assert all(math.isclose(b - a, step, rel_tol=1e-3) for a, b in itertools.pairwise(ticks))
    # No further tick would fit: the axis has one near each end.
    assert ticks[0] - step < low + slack
    assert ticks[-1] + step > high - slack


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 30_000, 6, [0, 10_000, 20_000, 30_000]),
        (0, 1, 5, [0, 0.25, 0.5, 0.75, 1]),
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 7, 4, [-2.5, 0, 2.5, 5]),
        (3.1, 3.2, 1, [3.2]),
    ],
)
def test_ticks_look_like_this(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert round_ticks(low, high, most) == pytest.approx(ticks)


@pytest.mark.parametrize(("low", "high", "most"), [(1, 1, 5), (2, 1, 5), (0, 1, 0)])
def test_an_axis_without_length_or_room_has_one_tick(low: float, high: float, most: int) -> None:
    assert round_ticks(low, high, most) == [low]


@given(low=st.floats(-1, 10), exponent=st.integers(-9, 3), most=st.integers(2, 8))
def test_labels_of_ticks_differ_and_are_their_numbers(low: float, exponent: int, most: int) -> None:
    ticks = round_ticks(low, low + 10.0**exponent, most)
    labels = numbered(ticks, decimals=2)
    assert len(set(labels)) == len(ticks)
    assert "-0.00" not in labels
    if len(ticks) > 1:
        rounding = 1e-3 * (ticks[1] - ticks[0])
        read = [float(label.replace(",", "")) for label in labels]
        assert read == pytest.approx(ticks, rel=0, abs=rounding)


@pytest.mark.parametrize(
    ("ticks", "decimals", "labels"),
    [
        ([0.0, 0.002, 0.004], 2, ["0.000", "0.002", "0.004"]),
        ([1.0, 1.5, 2.0], 2, ["1.00", "1.50", "2.00"]),
        ([0, 10_000, 20_000], 0, ["0", "10,000", "20,000"]),
        ([-0.0, 1.0], 0, ["0", "1"]),
        ([0.000123], 2, ["0.000123"]),
    ],
)
def test_labels_look_like_this(ticks: list[float], decimals: int, labels: list[str]) -> None:
    assert numbered(ticks, decimals) == labels
