"""What a view shows, independent of the medium: sentences, tables, tinted text, plots."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from charlstm.errors import plural

MINUS, ELLIPSIS, INFINITY, LINE_END = "−", "…", "∞", "↵"
"""Signs outside ASCII: a minus, an omission, infinity, a newline."""
FINDINGS, NOTES = "Findings", "How to read this"
"""Headings that views have in common: data first, then findings, then explanations."""
SERIES_COLORS = ("blue", "dark_orange", "green", "magenta", "red", "cyan", "yellow")
"""Colours of layers, lines and runs, in order; each medium has its own shades."""


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Lines:
    """Sentences, each starting a line; ``quiet`` ones explain the other blocks."""

    lines: tuple[str, ...]
    quiet: bool = False


@dataclass(frozen=True)
class FractionBar:
    """A table cell: a bar filled from both ends to these fractions, and both numbers."""

    left: float
    right: float


@dataclass(frozen=True)
class Bar:
    """A table cell: a bar for a value from -1 to 1 that starts in the middle.

    With ``from_left`` it starts at the left, for values from 0 to 1.
    """

    value: float
    from_left: bool = False


@dataclass(frozen=True)
class Strong:
    """A table cell: bold text."""

    text: str


@dataclass(frozen=True)
class Flagged:
    """A table cell: red text, for a value that meets the view's criterion."""

    text: str


Cell = str | Strong | Flagged | FractionBar | Bar


@dataclass(frozen=True)
class Column:
    """A table column; columns of bars divide the width that the others leave."""

    title: str
    right: bool = False
    """Whether it is right-aligned."""
    ends: tuple[str, str] = ("", "")
    """Meanings of ``left`` and ``right`` of a ``FractionBar``."""


@dataclass(frozen=True)
class Key:
    """A legend for the parts of each ``FractionBar`` in the tables below."""

    fraction: str
    """What the bar shows a fraction of."""
    left: str
    right: str


@dataclass(frozen=True)
class Table:
    """Rows of cells."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""
    """A line below that says what was omitted."""


@dataclass(frozen=True)
class Strip:
    """One symbol for each character of a text, each with a value from -1 to 1."""

    symbols: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Tinted:
    """A text coloured by values from -1 to 1, with more strips under each of its lines."""

    text: Strip
    under: tuple[Strip, ...] = ()
    ends: tuple[str, str] = (f"{MINUS}1", "1")
    """Meanings of the values -1 and 1."""


@dataclass(frozen=True)
class Series:
    """Points of one plot series; ``line`` joins them."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = SERIES_COLORS[0]
    line: bool = True
    marker: str = "braille"
    """Marker on a terminal."""


Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plot:
    """Axes with points or lines; without ticks, a medium chooses round numbers."""

    title: str
    series: tuple[Series, ...]
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    x_ticks: Ticks = ()
    y_ticks: Ticks = ()


@dataclass(frozen=True)
class Plots:
    """Plots side by side, as far as the width allows."""

    plots: tuple[Plot, ...]


Block = Heading | Lines | Key | Table | Tinted | Plots


@dataclass(frozen=True)
class Document:
    """Everything a view shows."""

    title: str
    blocks: tuple[Block, ...]


def reworded(document: Document, change: Callable[[str], str]) -> Document:
    """The document with ``change`` applied to its sentences; the title and cells are kept.

    Sentences name settings by their backticked fields; the command line replaces these by options.
    """

    def changed(block: Block) -> Block:
        if isinstance(block, Lines):
            return replace(block, lines=tuple(map(change, block.lines)))
        return replace(block, more=change(block.more)) if isinstance(block, Table) else block

    return replace(document, blocks=tuple(map(changed, document.blocks)))


def more_rows(count: int, what: str) -> str:
    """The line that says how many rows are omitted; ``what`` is the singular noun."""
    more = plural(count, f"more {what}")
    return f"{ELLIPSIS} {more}; set `rows` to 0 for all" if count else ""


def colored(index: int) -> str:
    """The colour of series number ``index``."""
    return SERIES_COLORS[index % len(SERIES_COLORS)]


def span(values: Sequence[float], floor: float | None = None) -> tuple[float, float]:
    """Axis limits that contain all values with a margin; from ``floor`` if given."""
    low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
    if floor is not None:
        low = min(low, floor)
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return (low if floor is not None and low == floor else low - margin), high + margin


def log_ticks(values: Sequence[float]) -> Ticks:
    """Ticks of a log2 axis, labelled with the numbers themselves."""
    return tuple((math.log2(v), f"{v:g}") for v in values)


def named(character: str) -> str:
    """A character in a sentence: whitespace by name, others in quotation marks."""
    names = {" ": "a space", "\n": "a newline", "\t": "a tab", "\r": "a carriage return"}
    return names.get(character, f"‘{character}’")


def number(value: float, form: str = "+.4f") -> str:
    """A number with a true minus sign, and no sign before a negative zero."""
    return format(value, form.replace(".", "z.")).replace("-", MINUS)


def lasting(characters: float) -> str:
    """A duration in characters, possibly infinite."""
    return INFINITY if math.isinf(characters) else f"{characters:,.1f}"
