"""Renders a view's document on a terminal of any width, with or without colour."""

from collections.abc import Iterator
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from charlstm.analysis.document import (
    Bar,
    Block,
    Cell,
    Document,
    Flagged,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Strip,
    Strong,
    Table,
    Tinted,
)
from charlstm.show.charts import chart, round_ticks
from charlstm.show.documents import printable_words
from charlstm.show.printable import in_text, symbol
from charlstm.show.style import (
    BETWEEN_CELL,
    OPEN,
    OPEN_CELL,
    SHUT,
    SHUT_CELL,
    css,
    saturation_bar,
    tint,
)

NUMBERS = 10
"""Width of ``  12%  34%``, the two numbers after a bar."""
MARKERS = "ox+*"
"""Markers of series without colour."""
SHORTEST, LEAST_BAR = 8, 8
"""Minimum widths of a shortened name, and of a bar with its blanks."""
LEVELS = "▁▂▃▄▅▆▇█"
"""Levels from -1 to 1, under a text without colour."""


def print_document(console: Console, document: Document) -> None:
    """Print the document at the console's width."""
    document = printable_words(document)
    console.print(Text(document.title, style="bold"))
    for block in document.blocks:
        _print(console, block)


def _print(console: Console, block: Block) -> None:
    if isinstance(block, Heading):
        console.print()
        console.print(Text(block.text, style="bold"))
    elif isinstance(block, Lines):
        for line in block.lines:
            console.print(Text(line, style="dim" if block.quiet else ""))
    elif isinstance(block, Key):
        console.print(_key(block))
    elif isinstance(block, Table):
        for row in _table(block, console.width):
            console.print(row, no_wrap=True, crop=True)
        if block.more:
            console.print(Text(block.more, style="dim"))
    elif isinstance(block, Tinted):
        for row in _tinted(block, console.width, console.color_system is not None):
            console.print(row, no_wrap=True, crop=True)
    else:
        console.print(_plots(console, block))


# -- tables ------------------------------------------------------------------------------------


def _words(cell: Cell) -> Text:
    if isinstance(cell, Strong | Flagged):
        style = "bold red" if isinstance(cell, Flagged) else "bold"
        return Text(cell.text, style=style)
    assert isinstance(cell, str)
    return Text(cell)


def _table(table: Table, width: int) -> Iterator[Text]:
    """Columns of text are as wide as they need; columns of bars divide the rest.

    If not even the shortest bars fit, the widest column of names is shortened.
    """
    bars = [n for n in range(len(table.columns)) if _is_bar(table, n)]
    words = {
        n: [_words(row[n]) for row in table.rows]
        for n in range(len(table.columns))
        if n not in bars
    }
    widths = {
        n: max([cell_len(table.columns[n].title), *(text.cell_len for text in texts)])
        for n, texts in words.items()
    }
    excess = sum(widths.values()) + len(widths) + LEAST_BAR * len(bars) - width
    names = [n for n in widths if not table.columns[n].right]
    if excess > 0 and names:
        widest = max(names, key=lambda n: widths[n])
        least = max(SHORTEST, cell_len(table.columns[widest].title))
        widths[widest] = min(widths[widest], max(least, widths[widest] - excess))
        for text in words[widest]:
            text.truncate(widths[widest], overflow="ellipsis")
    room = (width - sum(widths.values()) - len(widths)) // len(bars) - 2 if bars else 0
    numbers = room - NUMBERS >= 6
    header = Text(style="dim")
    for n, column in enumerate(table.columns):
        if n in widths:
            pad = " " * (widths[n] - cell_len(column.title))
            header.append(f"{pad}{column.title} " if column.right else f"{column.title}{pad} ")
            continue
        ends = numbers and any(column.ends)
        title = column.title if room >= len(column.title) else column.title[: max(room, 1)]
        bar_width = max(1, room - NUMBERS if ends else room)
        both = f"{column.ends[0]:>5}{column.ends[1]:>5}" if ends else ""
        header.append(f" {title:<{bar_width}}{both} ")
    if header.plain.strip():
        yield header
    for number, row in enumerate(table.rows):
        line = Text()
        for n, cell in enumerate(row):
            if isinstance(cell, FractionBar):
                line.append(" ")
                line.append_text(_fraction_bar(cell, room, numbers))
            elif isinstance(cell, Bar):
                line.append(" ")
                line.append_text(_bar(cell, max(1, room)))
            elif n in bars:
                line.append(" " * (max(1, room) + 1))
            else:
                text = words[n][number]
                pad = " " * (widths[n] - text.cell_len)
                line.append(pad if table.columns[n].right else "")
                line.append_text(text)
                line.append("" if table.columns[n].right else pad)
            line.append(" ")
        yield line


def _key(key: Key) -> Text:
    return Text.assemble(
        (f"{key.fraction}: ", "dim"),
        (SHUT_CELL, SHUT),
        (f" {key.left}  {BETWEEN_CELL} between  ", "dim"),
        (OPEN_CELL, OPEN),
        (f" {key.right}", "dim"),
    )


def _is_bar(table: Table, column: int) -> bool:
    return any(isinstance(row[column], FractionBar | Bar) for row in table.rows)


def _fraction_bar(cell: FractionBar, room: int, numbers: bool) -> Text:
    text = saturation_bar(cell.left, cell.right, max(1, room - NUMBERS if numbers else room))
    if numbers:
        text.append(f"{100 * cell.left:>4.0f}%", style=SHUT)
        text.append(f"{100 * cell.right:>4.0f}%", style=OPEN)
    return text


def _bar(cell: Bar, width: int) -> Text:
    half = width if cell.from_left else max(1, width // 2)
    filled = min(half, round(abs(cell.value) * half))
    if cell.value and not filled:
        filled = 1
    text = Text()
    if cell.value < 0:
        text.append("·" * (half - filled), style="dim")
        text.append("█" * filled, style=SHUT)
        text.append("·" * (width - half), style="dim")
    else:
        text.append("·" * (width - half), style="dim")
        text.append("▒" * filled, style=OPEN)
        text.append("·" * (half - filled), style="dim")
    return text


# -- coloured text -----------------------------------------------------------------------------


def broken(symbols: tuple[str, ...], width: int) -> Iterator[range]:
    """The positions in each line of a text; a line ends after a newline or when it is full."""
    start, used = 0, 0
    for t, character in enumerate(symbols):
        cells = _cells(character)
        if t > start and used + cells > width:
            yield range(start, t)
            start, used = t, 0
        used += cells
        if character == "\n":
            yield range(start, t + 1)
            start, used = t + 1, 0
    if start < len(symbols):
        yield range(start, len(symbols))


def _cells(character: str) -> int:
    return max(1, cell_len(in_text(character)))


def _tinted(block: Tinted, width: int, color: bool) -> Iterator[Text]:
    low, high = block.ends
    if color:
        legend = Text()
        for step in range(-4, 5):
            legend.append("  ", style=_style(step / 4))
        yield Text(f"{low} ") + legend + Text(f" {high}")
    else:
        yield Text(f"Under each line: {LEVELS[0]} {low} to {LEVELS[-1]} {high}")
    for positions in broken(block.text.symbols, max(2, width)):
        yield _strip(block.text, positions, block, color)
        if not color:
            levels = Text()
            for t in positions:
                level = LEVELS[min(7, int((block.text.values[t] + 1) * 4))]
                levels.append(level * _cells(block.text.symbols[t]))
            yield levels
        for strip in block.under:
            yield _strip(strip, positions, block, color)
        if block.under:
            yield Text()


def _strip(strip: Strip, positions: range, block: Tinted, color: bool) -> Text:
    line = Text()
    for t in positions:
        shown = in_text(strip.symbols[t]) if strip is block.text else symbol(strip.symbols[t])
        shown += " " * (_cells(block.text.symbols[t]) - cell_len(shown))
        line.append(shown, style=_style(strip.values[t]) if color else "")
    return line


def _style(value: float) -> str:
    return f"#000000 on {css(tint(value))}"


# -- plots -------------------------------------------------------------------------------------


def _plots(console: Console, block: Plots) -> Group:
    count = len(block.plots)
    color = console.color_system is not None
    widest = 44 if count > 1 else 76
    width = max(16, min(widest, console.width // count - 1))
    height = max(8, min(18, width // 2 + 1))
    grid = Grid.grid(padding=(0, 1, 0, 0))
    shown = block.plots if color else tuple(_by_marker(plot) for plot in block.plots)
    panels = [_plot(plot, width, height, color) for plot in shown]
    columns = max(1, console.width // (width + 1))
    for start in range(0, count, columns):
        grid.add_row(*panels[start : start + columns])
    labels = {one.label: one for plot in shown for one in plot.series}
    if len(labels) < 2:
        return Group(grid)
    legend = Text()
    for name, one in labels.items():
        legend.append(f"{'●' if color else one.marker} {name}  ", style=one.color)
    return Group(grid, legend)


def _by_marker(plot: Plot) -> Plot:
    """The plot with a marker for each series, for consoles without colour."""
    if len(plot.series) < 2:
        return plot
    marked = zip(plot.series, MARKERS * len(plot.series), strict=False)
    return replace(plot, series=tuple(replace(one, marker=marker) for one, marker in marked))


def _plot(plot: Plot, width: int, height: int, color: bool) -> Text:
    x_ticks = plot.x_ticks or _round(plot.x_limits, width // 10)
    y_ticks = plot.y_ticks or _round(plot.y_limits, height // 3)
    text = Text(f"{plot.title}\n", style="dim")
    if plot.y_label:
        text.append(f"y: {plot.y_label}\n", style="dim")
    text.append_text(
        chart(
            plot.series,
            width,
            height,
            x_limits=plot.x_limits,
            y_limits=plot.y_limits,
            x_ticks=[tick for tick, _ in x_ticks],
            y_ticks=[tick for tick, _ in y_ticks],
            x_labels=[label for _, label in x_ticks],
            y_labels=[label for _, label in y_ticks],
            color=color,
        )
    )
    if plot.x_label:
        text.append(f"\nx: {plot.x_label}", style="dim")
    return text


def _round(limits: tuple[float, float], most: int) -> tuple[tuple[float, str], ...]:
    return tuple((tick, f"{tick:.6g}") for tick in round_ticks(*limits, max(2, most)))
