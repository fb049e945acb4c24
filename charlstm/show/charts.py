"""Terminal charts as Rich text, drawn by plotext."""

import math
from collections.abc import Sequence

import plotext
from rich.text import Text

from charlstm.analysis.document import Series

# plotext names the 16 terminal colours its own way.
_COLORS = {"blue": "blue+", "dark_orange": "orange", "green": "green+", "magenta": "magenta+"}


def chart(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_labels: Sequence[str] = (),
    y_labels: Sequence[str] = (),
    color: bool = True,
) -> Text:
    """A chart of ``width`` by ``height`` cells, with axes on the left and below.

    Without ``x_labels`` or ``y_labels``, ticks are labelled with their numbers.
    """
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    plotext.terminal.limit(False, False)  # the caller sets the size, whatever stdout is
    figure.plot_size(width, height)
    figure.axes(False, axis="x", side="upper")
    figure.axes(False, axis="y", side="right")
    for one in series:
        if not len(one.x):
            continue
        marker = plotext.marker(one.marker, _COLORS.get(one.color, one.color))
        points = figure.signal(list(one.x), list(one.y), marker=marker)
        figure.draw(points.lines() if one.line and len(one.x) > 1 else points)
    for axis, limits, ticks, labels in (
        ("x", x_limits, x_ticks, x_labels or numbered(x_ticks)),
        ("y", y_limits, y_ticks, y_labels or numbered(y_ticks, decimals=2)),
    ):
        ruler = figure.ruler(axis)
        ruler.lim(*limits)
        ruler.ticks(list(ticks), list(labels))
    drawn = figure.build().string(colorless=not color)
    return Text.from_ansi(drawn.rstrip("\n"), no_wrap=True, end="")


def numbered(ticks: Sequence[float], decimals: int = 0) -> list[str]:
    """Labels of evenly spaced ticks, with at least ``decimals`` digits after the point."""
    if len(ticks) < 2:
        return [f"{tick:z.3g}" for tick in ticks]
    rounding = 1e-3 * abs(ticks[1] - ticks[0])
    while any(abs(round(tick, decimals) - tick) > rounding for tick in ticks):
        decimals += 1
    return [f"{tick:z,.{decimals}f}" for tick in ticks]


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Evenly spaced round numbers from ``low`` to ``high``: as many as fit, at most ``most``."""
    if not high > low or most < 1:
        return [low]
    rounding = 1e-9 * max(abs(low), abs(high))
    exponent = math.floor(math.log10((high - low) / most))
    for power in range(exponent, exponent + 3):
        for factor in (1, 2, 2.5, 5):
            step = factor * 10.0**power
            first = math.ceil((low - rounding) / step)
            last = math.floor((high + rounding) / step)
            if last - first < most:
                return [i * step for i in range(first, last + 1)] or [low]
    return [low]
