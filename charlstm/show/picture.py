"""Lays out a view's document as a picture: rectangles, lines, dots and labels."""

import textwrap
from dataclasses import dataclass, field

from charlstm.analysis.document import (
    Bar,
    Cell,
    Document,
    Flagged,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Strong,
    Table,
    Tinted,
)
from charlstm.show.charts import round_ticks
from charlstm.show.documents import printable_words
from charlstm.show.printable import in_text, symbol
from charlstm.show.style import NEGATIVE, POSITIVE, RGB, SERIES, tint
from charlstm.show.terminal import broken

WIDTH, MARGIN, SIZE, LEADING = 960, 20, 13, 18
ADVANCE = 0.6
"""Width of a character of the monospaced font, as a fraction of its size."""
BLACK: RGB = (20, 20, 20)
GREY: RGB = (110, 110, 110)
PALE: RGB = (225, 225, 225)
RED: RGB = (190, 30, 30)


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    color: RGB


@dataclass(frozen=True)
class Path:
    """Points joined by lines."""

    points: tuple[tuple[float, float], ...]
    color: RGB
    width: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle, slightly transparent."""

    x: float
    y: float
    radius: float
    color: RGB
    opacity: float = 0.6


@dataclass(frozen=True)
class Label:
    """Text in the monospaced font; y is its baseline."""

    x: float
    y: float
    text: str
    color: RGB = BLACK
    size: float = SIZE
    bold: bool = False
    anchor: str = "start"
    """Which part of the text x is: ``start``, ``middle`` or ``end``."""
    upright: bool = False
    """Whether it reads upwards."""


Shape = Rectangle | Path | Dot | Label


@dataclass
class Picture:
    """Shapes on white, in drawing order."""

    width: float
    height: float = 0.0
    shapes: list[Shape] = field(default_factory=list)


def document_picture(document: Document) -> Picture:
    """The whole document, one block below the other."""
    document = printable_words(document)
    picture = Picture(WIDTH, MARGIN)
    _words(picture, document.title, BLACK, bold=True)
    for block in document.blocks:
        if isinstance(block, Heading):
            picture.height += LEADING / 2
            _words(picture, block.text, BLACK, bold=True)
        elif isinstance(block, Lines):
            for line in block.lines:
                _words(picture, line, GREY if block.quiet else BLACK)
        elif isinstance(block, Key):
            _key(picture, block)
        elif isinstance(block, Table):
            _table(picture, block)
        elif isinstance(block, Tinted):
            _tinted(picture, block)
        else:
            _plots(picture, block)
    picture.height += MARGIN
    return picture


def _words(picture: Picture, text: str, color: RGB, *, bold: bool = False) -> None:
    room = int((WIDTH - 2 * MARGIN) / (SIZE * ADVANCE))
    for line in textwrap.wrap(text, room) or [""]:
        picture.height += LEADING
        picture.shapes.append(Label(MARGIN, picture.height - 4, line, color, bold=bold))


# -- tables ------------------------------------------------------------------------------------


def _key(picture: Picture, key: Key) -> None:
    letter = SIZE * ADVANCE
    picture.height += LEADING
    top, high, x = picture.height - LEADING + 4, LEADING - 6, float(MARGIN)
    parts = (
        (key.fraction + ":", None),
        (key.left, NEGATIVE),
        ("between", PALE),
        (key.right, POSITIVE),
    )
    for text, color in parts:
        if color is not None:
            picture.shapes.append(Rectangle(x, top, 2 * letter, high, color))
            x += 3 * letter
        picture.shapes.append(Label(x, picture.height - 4, text, GREY))
        x += letter * (len(text) + 2)


def _text(cell: Cell) -> str:
    if isinstance(cell, Strong | Flagged):
        return cell.text
    return cell if isinstance(cell, str) else ""


def _table(picture: Picture, table: Table) -> None:
    letter, gap = SIZE * ADVANCE, 14.0
    count = len(table.columns)
    is_bar = [
        any(isinstance(row[n], FractionBar | Bar) for row in table.rows) for n in range(count)
    ]
    widths = [
        letter * max([len(column.title), *(len(_text(row[n])) for row in table.rows)])
        for n, column in enumerate(table.columns)
    ]
    fixed = sum(width + gap for width, bar in zip(widths, is_bar, strict=True) if not bar)
    if any(is_bar):
        each = min(280.0, (WIDTH - 2 * MARGIN - fixed) / sum(is_bar) - gap)
        widths = [each if bar else width for width, bar in zip(widths, is_bar, strict=True)]
    starts = [MARGIN + sum(widths[:n]) + gap * n for n in range(count)]

    def put(n: int, text: str, color: RGB, *, bold: bool = False) -> None:
        right = table.columns[n].right
        x = starts[n] + (widths[n] if right else 0)
        anchor = "end" if right else "start"
        picture.shapes.append(Label(x, picture.height - 4, text, color, bold=bold, anchor=anchor))

    picture.height += LEADING
    for n, column in enumerate(table.columns):
        put(n, column.title, GREY)
    for row in table.rows:
        picture.height += LEADING
        for n, cell in enumerate(row):
            if isinstance(cell, FractionBar | Bar):
                _bar(picture, cell, starts[n], widths[n])
            else:
                color = RED if isinstance(cell, Flagged) else BLACK
                put(n, _text(cell), color, bold=isinstance(cell, Strong))
    if table.more:
        _words(picture, table.more, GREY)


def _bar(picture: Picture, cell: FractionBar | Bar, x: float, width: float) -> None:
    top, high = picture.height - LEADING + 4, LEADING - 6
    picture.shapes.append(Rectangle(x, top, width, high, PALE))
    if isinstance(cell, FractionBar):
        picture.shapes.append(Rectangle(x, top, width * cell.left, high, NEGATIVE))
        start = x + width * (1 - cell.right)
        picture.shapes.append(Rectangle(start, top, width * cell.right, high, POSITIVE))
        return
    half = width if cell.from_left else width / 2
    length = half * min(1.0, abs(cell.value))
    start = x + width - half - (length if cell.value < 0 else 0)
    color = NEGATIVE if cell.value < 0 else POSITIVE
    picture.shapes.append(Rectangle(start, top, length, high, color))


# -- coloured text -----------------------------------------------------------------------------


def _tinted(picture: Picture, block: Tinted) -> None:
    letter = SIZE * ADVANCE
    room = int((WIDTH - 2 * MARGIN) / letter)
    picture.height += LEADING
    start = MARGIN + letter * (len(block.ends[0]) + 1)
    for step in range(-4, 5):
        x = start + (step + 4) * 2 * letter
        color = tint(step / 4)
        picture.shapes.append(
            Rectangle(x, picture.height - LEADING + 2, 2 * letter, LEADING, color)
        )
    for text, x in ((block.ends[0], MARGIN), (block.ends[1], start + 19 * letter)):
        picture.shapes.append(Label(x, picture.height - 4, text, GREY))
    for positions in broken(block.text.symbols, room):
        for strip in (block.text, *block.under):
            picture.height += LEADING
            for n, t in enumerate(positions):
                x = MARGIN + n * letter
                if strip.values[t]:
                    top = picture.height - LEADING + 2
                    color = tint(strip.values[t])
                    picture.shapes.append(Rectangle(x, top, letter, LEADING, color))
                shown = (in_text if strip is block.text else symbol)(strip.symbols[t])
                if shown.strip():
                    picture.shapes.append(Label(x, picture.height - 4, shown))
        if block.under:
            picture.height += LEADING / 2


# -- plots -------------------------------------------------------------------------------------


def _plots(picture: Picture, block: Plots) -> None:
    columns = max(1, min(3, len(block.plots)))
    each = (WIDTH - 2 * MARGIN) / columns if len(block.plots) > 1 else 640.0
    high = min(each * 0.9, 340)
    for first in range(0, len(block.plots), columns):
        for n, plot in enumerate(block.plots[first : first + columns]):
            draw_plot(picture, plot, MARGIN + n * each, picture.height, each, high)
        picture.height += high + 8


def plot_picture(plot: Plot, width: float, height: float) -> Picture:
    """A single plot."""
    picture = Picture(width, height)
    draw_plot(picture, printable_words(plot), 0, 0, width, height)
    return picture


def draw_plot(
    picture: Picture, plot: Plot, x: float, y: float, width: float, height: float
) -> None:
    """Draw axes, ticks, labels, and the series in their colours."""
    small = SIZE - 2
    left, right, bottom = x + 62, x + width - 16, y + height - 40
    legend = len(plot.series) > 1
    top = y + 24 + (LEADING if legend else 0)
    (x_low, x_high), (y_low, y_high) = plot.x_limits, plot.y_limits

    def position(a: float, b: float) -> tuple[float, float]:
        return (
            left + (a - x_low) / (x_high - x_low) * (right - left),
            bottom - (b - y_low) / (y_high - y_low) * (bottom - top),
        )

    add = picture.shapes.append
    add(Label((left + right) / 2, y + 16, plot.title, anchor="middle"))
    x_ticks = plot.x_ticks or _round(plot.x_limits, 6)
    for at, name in plot.y_ticks or _round(plot.y_limits, 5):
        add(Path((position(x_low, at), position(x_high, at)), PALE))
        add(Label(left - 6, position(x_low, at)[1] + 4, name, GREY, small, anchor="end"))
    for at, name in x_ticks:
        add(Path((position(at, y_low), (position(at, y_low)[0], bottom + 4)), GREY))
        add(Label(position(at, y_low)[0], bottom + 16, name, GREY, small, anchor="middle"))
    add(Path(((left, top), (left, bottom), (right, bottom)), GREY))
    add(Label((left + right) / 2, bottom + 32, plot.x_label, GREY, small, anchor="middle"))
    middle = (top + bottom) / 2
    add(Label(x + 12, middle, plot.y_label, GREY, small, anchor="middle", upright=True))
    start = left
    for one in plot.series:
        color = SERIES[one.color]
        points = tuple(position(a, b) for a, b in zip(one.x, one.y, strict=True))
        if one.line and len(points) > 1:
            add(Path(points, color, 1.8))
        for a, b in points if not one.line or len(points) < 40 else ():
            add(Dot(a, b, 2.8, color))
        if legend:
            add(Dot(start + 4, y + 32, 4, color, 1.0))
            add(Label(start + 12, y + 36, one.label, GREY, small))
            start += 28 + small * ADVANCE * len(one.label)


def _round(limits: tuple[float, float], most: int) -> tuple[tuple[float, str], ...]:
    return tuple((tick, f"{tick:.6g}") for tick in round_ticks(*limits, most))
