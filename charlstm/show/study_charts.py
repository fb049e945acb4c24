"""The tables and charts of `charlstm study`."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from charlstm.analysis.document import Series
from charlstm.show.charts import chart, round_ticks
from charlstm.study.results import (
    CellRun,
    Clipping,
    GradientProfile,
    GradientReport,
    LagSummary,
    LagTrial,
    growth,
    summarise_lags,
)

COLORS = ("red", "blue", "dark_orange", "green", "magenta", "cyan")
LETTERS = "abcdef"
"""Markers of a chart without colours."""
CHART_HEIGHT = 11
GAP = 2
LOWEST = -30
"""Norms below 10 to this power are not drawn."""


def marks(names: Sequence[str], color: bool) -> dict[str, tuple[str, str]]:
    """The colour and the marker of each line of a chart."""
    return {
        name: (COLORS[i % len(COLORS)], "braille" if color else LETTERS[i % len(LETTERS)])
        for i, name in enumerate(names)
    }


def legend(names: Sequence[str], color: bool) -> Text:
    """The legend: the colour or letter of each line."""
    line = Text()
    for name, (style, marker) in marks(names, color).items():
        line.append("●" if color else marker, style=style if color else "")
        line.append(f" {name}  ", style="dim")
    return line


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _titled(title: str, drawn: Text) -> Text:
    return Text.assemble((f"{title}\n", "dim"), drawn)


def _side_by_side(panels: Sequence[tuple[str, Text]]) -> Table:
    """Charts with their titles, side by side."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(*(_titled(title, drawn) for title, drawn in panels))
    return grid


# -- lag ---------------------------------------------------------------------------------------


def lag_view(
    console: Console, trials: Sequence[LagTrial], cells: Sequence[str], lags: Sequence[int]
) -> RenderableType:
    """Trials solved and characters needed, as a table and two charts."""
    summaries = summarise_lags(trials)
    if not summaries:
        return Text("no finished trial yet", "dim")
    rows = [
        [cell if lag == lags[0] else "", str(lag), *_lag_cells(summaries.get((cell, lag)))]
        for cell in cells
        for lag in lags
    ]
    columns = ["cell", "lag", "solved", "characters", "correct", "reach", "|c|"]
    kept = [i for i in range(len(columns)) if i < 5 or any(row[i] for row in rows)]
    table = _table([columns[i] for i in kept], ([row[i] for i in kept] for row in rows))
    color = console.color_system is not None
    return Group(table, Text(), lag_charts(console, summaries, cells, lags), legend(cells, color))


def _lag_cells(summary: LagSummary | None) -> list[str]:
    if summary is None:
        return ["–", "", "", "", ""]
    return [
        f"{summary.solved} of {summary.trials}",
        "" if summary.characters is None else f"{summary.characters:,.0f}",
        f"{100 * math.floor(summary.right * 10000) / 10000:.2f}%",
        "" if summary.reach is None else f"{summary.reach:,.0f}",
        "" if summary.cell_state is None else f"{summary.cell_state:,.1f}",
    ]


def lag_charts(
    console: Console,
    summaries: Mapping[tuple[str, int], LagSummary],
    cells: Sequence[str],
    lags: Sequence[int],
) -> Table:
    """Fraction solved and characters needed, against the lag, which is on a log scale."""
    color = console.color_system is not None
    width = _half(console)
    solved, needed = [], []
    left, right = math.log(lags[0]) - 0.1, math.log(lags[-1]) + 0.1
    for i, (cell, (style, marker)) in enumerate(marks(cells, color).items()):
        # Offset equal fractions so that they do not overlap: lines by a dot, letters by a column.
        offset = i - (len(cells) - 1) / 2
        up, aside = (4.0 * offset, 0.0) if color else (0.0, offset * (right - left) / (width - 8))
        mine = [(lag, summaries[cell, lag]) for lag in lags if (cell, lag) in summaries]
        fractions = [(math.log(lag) + aside, 100 * s.solved / s.trials + up) for lag, s in mine]
        chars = [(math.log(lag), math.log10(s.characters)) for lag, s in mine if s.characters]
        solved.append(_series(cell, fractions, style, marker))
        needed.append(_series(cell, chars, style, marker))
    exponents = [y for one in needed for y in one.y] or [5.0]
    decades = math.floor(min(exponents)), math.floor(max(exponents)) + 1
    x_axis: dict[str, Any] = {
        "x_limits": (left, right),
        "x_ticks": [math.log(lag) for lag in lags],
        "x_labels": [str(lag) for lag in lags],
        "color": color,
    }
    solved_chart = chart(
        solved,
        width,
        CHART_HEIGHT,
        y_limits=(-10, 110),
        y_ticks=(0, 50, 100),
        y_labels=("0%", "50%", "100%"),
        **x_axis,
    )
    needed_chart = chart(
        needed,
        width,
        CHART_HEIGHT,
        y_limits=decades,
        y_ticks=range(decades[0], decades[1] + 1),
        y_labels=_powers(range(decades[0], decades[1] + 1)),
        **x_axis,
    )
    return _side_by_side(
        [("trials solved, by lag", solved_chart), ("characters needed, by lag", needed_chart)]
    )


def _powers(exponents: Iterable[float]) -> list[str]:
    """The labels of a scale of powers of ten."""
    return [f"1e{exponent:.0f}" for exponent in exponents]


def _half(console: Console) -> int:
    """The width of one of two charts side by side."""
    return max(16, min(60, (console.width - 2) // 2))


def _series(name: str, points: Sequence[tuple[float, float]], style: str, marker: str) -> Series:
    """A line with colours; unconnected letters without."""
    line = marker == "braille"
    x, y = [x for x, _ in points], [y for _, y in points]
    return Series(name, x, y, color=style, line=line, marker=marker)


# -- cells -------------------------------------------------------------------------------------


def cells_view(console: Console, runs: Sequence[CellRun]) -> RenderableType:
    """Losses and speeds at equal parameters: a table, and a chart of the losses."""
    if not runs:
        return Text("no finished run yet", "dim")
    by_cell: dict[str, list[CellRun]] = {}
    for run in runs:
        by_cell.setdefault(run.cell, []).append(run)
    means = {cell: statistics.mean(r.val_loss for r in mine) for cell, mine in by_cell.items()}
    order = sorted(by_cell, key=means.__getitem__)
    rows = []
    for cell in order:
        mine = by_cell[cell]
        losses = [run.val_loss for run in mine]
        speed = statistics.median(run.chars_per_second for run in mine)
        rows.append(
            [
                cell,
                str(mine[0].hidden_size),
                f"{mine[0].parameters:,}",
                f"{means[cell]:.4f}",
                f"{min(losses):.4f}–{max(losses):.4f}",
                str(len(mine)),
                f"{speed:,.0f}",
            ]
        )
    columns = ("cell", "units", "parameters", "loss", "range", "seeds", "char/s")
    return Group(_table(columns, rows), Text(), _loss_chart(console, order, by_cell))


def _loss_chart(
    console: Console, order: Sequence[str], by_cell: Mapping[str, Sequence[CellRun]]
) -> RenderableType:
    """A column for each cell, one point for each seed."""
    color = console.color_system is not None
    losses = [run.val_loss for runs in by_cell.values() for run in runs]
    margin = 0.1 * (max(losses) - min(losses)) or 0.05
    limits = min(losses) - margin, max(losses) + margin
    drawn = chart(
        [
            Series(
                cell,
                [i] * len(by_cell[cell]),
                [r.val_loss for r in by_cell[cell]],
                color=style,
                line=False,
                marker="x",
            )
            for i, (cell, (style, _)) in enumerate(marks(order, color).items())
        ],
        min(console.width, 80),
        CHART_HEIGHT,
        x_limits=(-0.5, len(order) - 0.5),
        y_limits=limits,
        x_ticks=range(len(order)),
        y_ticks=round_ticks(*limits, 4),
        x_labels=order,
        color=color,
    )
    return _titled("validation loss in nats per character, one x per seed", drawn)


# -- gradient ----------------------------------------------------------------------------------


def gradient_view(console: Console, report: GradientReport) -> RenderableType:
    """The profiles as charts and a table, and the effect of clipping."""
    parts: list[RenderableType] = []
    for title, profiles in (
        ("untrained: |dL_t / dh_{t-k}|, by k", report.untrained),
        ("trained: |dL_t / dh_{t-k}|, by k", report.trained),
        ("|dL_t / dc_{t-k}|, by k", _with_c(report)),
    ):
        if profiles:
            use_c = title.startswith("|dL_t / dc")
            parts += [_profile_chart(console, title, profiles, use_c=use_c), Text()]
    reach = max(len(profile.h) for profile in (*report.untrained, *report.trained))
    steps = [k for k in (1, 10, 50, 100, 200) if k < reach] + [reach]
    rows = [
        [f"{profile.name}{state}", *(f"{norms[k - 1]:.0e}" for k in steps), f"{factor:.3f}"]
        for kind, profiles in (("untrained", report.untrained), ("trained", report.trained))
        for profile in profiles
        for state, norms, factor in _states(profile, kind)
    ]
    columns = ["gradient", *(f"k = {k}" for k in steps), "per step"]
    parts.append(_table(columns, rows))
    if report.clippings:
        parts += [Text(), clipping_table(report.clippings)]
    return Group(*parts)


def _with_c(report: GradientReport) -> tuple[GradientProfile, ...]:
    both = [(p, "untrained") for p in report.untrained] + [(p, "trained") for p in report.trained]
    return tuple(replace(p, name=f"{p.name}, {kind}") for p, kind in both if p.c is not None)


def _states(
    profile: GradientProfile, kind: str
) -> Iterator[tuple[str, NDArray[np.float64], float]]:
    yield f", {kind}, h", profile.h, growth(profile.h)
    if profile.c is not None:
        yield f", {kind}, c", profile.c, growth(profile.c)


def _profile_chart(
    console: Console, title: str, profiles: Sequence[GradientProfile], *, use_c: bool
) -> RenderableType:
    color = console.color_system is not None
    names = [profile.name for profile in profiles]
    series = []
    for profile, (style, marker) in zip(profiles, marks(names, color).values(), strict=True):
        norms = profile.c if use_c else profile.h
        assert norms is not None
        shown = [(k + 1.0, math.log10(n)) for k, n in enumerate(norms) if n > 10.0**LOWEST]
        if not color:  # leave room between letters
            shown = shown[:: max(1, len(norms) // 15)]
        series.append(_series(profile.name, shown, style, marker))
    exponents = [y for one in series for y in one.y] or [0.0]
    low, high = math.floor(min(exponents)), math.ceil(max(exponents)) or 1
    ticks = [tick for tick in round_ticks(low, high, 6) if tick == int(tick)]
    width = min(console.width, 100)
    reach = max(len(profile.h) for profile in profiles)
    drawn = chart(
        series,
        width,
        CHART_HEIGHT + 2,
        x_limits=(0, reach),
        y_limits=(low, high),
        x_ticks=round_ticks(0, reach, 6),
        y_ticks=ticks,
        y_labels=_powers(ticks),
        color=color,
    )
    return Group(_titled(title, drawn), legend(names, color))


def _two_digits(norm: float) -> str:
    """Two significant digits, or a whole number if it is short."""
    return f"{norm:,.0f}" if 10 <= norm < 1e6 else f"{norm:.2g}"


def clipping_table(clippings: Sequence[Clipping]) -> Table:
    """Gradient norms of short training runs, with and without clipping."""
    rows = [
        [
            one.name,
            "none" if one.clip is None else f"{one.clip:g}",
            _two_digits(one.median_norm),
            _two_digits(one.largest_norm),
            f"{100 * one.clipped:.0f}%",
            f"{one.val_loss:.3f}",
        ]
        for one in clippings
    ]
    return _table(("run", "clip", "median norm", "largest", "above 1", "validation loss"), rows)
