"""What a view shows, whatever the medium: sentences, tables, tinted text, plots."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from charlstm.errors import plural

MINUS, ELLIPSIS, INFINITY, LINE_END = "−", "…", "∞", "↵"
"""The signs outside ASCII that views write for a minus, for what is left out, and so on."""
SERIES_COLORS = ("blue", "dark_orange", "green", "magenta", "red", "cyan", "yellow")
"""Of layers, lines and runs, in order; each medium has its own shade of them."""


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Lines:
    """Sentences, each on lines of its own; ``quiet`` ones explain the blocks around them."""

    lines: tuple[str, ...]
    quiet: bool = False


@dataclass(frozen=True)
class FractionBar:
    """A table's cell: a bar filled from both ends, to these fractions, and both numbers."""

    left: float
    right: float


@dataclass(frozen=True)
class Bar:
    """A table's cell: a bar from the middle, to the left for less than 0; -1 to 1 fill it."""

    value: float


@dataclass(frozen=True)
class Strong:
    """A table's cell: words that stand out."""

    text: str


Cell = str | Strong | FractionBar | Bar


@dataclass(frozen=True)
class Column:
    """A table's column; those of bars divide the room that the others leave."""

    title: str
    right: bool = False
    """Whether it is aligned to the right."""
    ends: tuple[str, str] = ("", "")
    """What left and right of a ``FractionBar`` mean."""


@dataclass(frozen=True)
class Key:
    """What the parts of a ``FractionBar`` in the tables below mean, for whatever a medium draws."""

    fraction: str
    """Of what the bar shows fractions, in words."""
    left: str
    right: str


@dataclass(frozen=True)
class Table:
    """Rows of cells."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""
    """A line below that says what was left out."""


@dataclass(frozen=True)
class Strip:
    """A line of one symbol for each character of a text, each with a value from -1 to 1."""

    symbols: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Tinted:
    """A text coloured by values from -1 to 1, with further strips under each line of it."""

    text: Strip
    under: tuple[Strip, ...] = ()
    ends: tuple[str, str] = (f"{MINUS}1", "1")
    """What the values -1 and 1 mean."""


@dataclass(frozen=True)
class Series:
    """Points that belong together; ``line`` joins them."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = SERIES_COLORS[0]
    line: bool = True
    marker: str = "braille"
    """What a terminal draws it with."""


Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plot:
    """Axes with points or lines; without ticks a medium chooses round numbers."""

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
    """Plots side by side, as far as there is room."""

    plots: tuple[Plot, ...]


Block = Heading | Lines | Key | Table | Tinted | Plots


@dataclass(frozen=True)
class Document:
    """All that a view shows."""

    title: str
    blocks: tuple[Block, ...]


def reworded(document: Document, change: Callable[[str], str]) -> Document:
    """The document with its sentences changed; the title, the text and other cells are kept.

    Sentences name settings by their fields, in backticks; the command line writes its options.
    """

    def changed(block: Block) -> Block:
        if isinstance(block, Lines):
            return replace(block, lines=tuple(map(change, block.lines)))
        return replace(block, more=change(block.more)) if isinstance(block, Table) else block

    return replace(document, blocks=tuple(map(changed, document.blocks)))


def more_rows(count: int, what: str) -> str:
    """The line that says how many rows are not shown; ``what`` is one of them."""
    more = plural(count, f"more {what}")
    return f"{ELLIPSIS} {more}; `rows` 0 lists them all" if count else ""


def colored(index: int) -> str:
    """The colour of series number ``index``."""
    return SERIES_COLORS[index % len(SERIES_COLORS)]


def span(values: Sequence[float], floor: float | None = None) -> tuple[float, float]:
    """Limits for an axis that hold all values with a little air, from ``floor`` if given."""
    low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
    if floor is not None:
        low = min(low, floor)
    air = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return (low if floor is not None and low == floor else low - air), high + air


def log_ticks(values: Sequence[float]) -> Ticks:
    """Ticks of an axis that shows log2 of a number: each with the number itself."""
    return tuple((math.log2(v), f"{v:g}") for v in values)


def named(character: str) -> str:
    """A character in a sentence: blanks by their names, the others in quotation marks."""
    names = {" ": "a space", "\n": "a newline", "\t": "a tab", "\r": "a carriage return"}
    return names.get(character, f"‘{character}’")


def number(value: float, form: str = "+.4f") -> str:
    """A number, with a minus of the width of a plus, and none before a zero."""
    return format(value, form.replace(".", "z.")).replace("-", MINUS)


def lasting(characters: float) -> str:
    """How many characters something lasts, which may be for ever."""
    return INFINITY if math.isinf(characters) else f"{characters:,.1f}"
