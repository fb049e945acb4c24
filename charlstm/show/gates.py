"""Gate saturation on a terminal: a line per character, Figure 3, what the numbers say."""

import math
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlstm.gates import GateReport, findings, label, longest_memory
from charlstm.show.bars import saturation_bar
from charlstm.show.charts import Series, chart
from charlstm.show.console import OPEN, SHUT
from charlstm.show.text import symbol
from charlstm.spec import HIDDEN

LAYER_COLORS = ("blue", "dark_orange", "green", "magenta")
FEW = 50
"""With fewer characters Figure 3 is a coarse grid."""
NUMBERS = 10
"""Cells of ``  12%  34%``: shut and open beside a bar."""


def print_report(
    console: Console,
    report: GateReport,
    *,
    layers: Sequence[int],
    gates: tuple[str, ...],
    rows: int | None = None,
) -> None:
    """The default view of ``charlstm inspect``; ``rows`` limits the characters listed."""
    for line in _heading(report):
        console.print(line)
    listed = report.symbols[:rows]
    for layer in layers:
        for line in _characters(console, report, layer, gates, len(listed)):
            console.print(line, no_wrap=True, crop=True)
    if len(listed) < len(report.symbols):
        rest = len(report.symbols) - len(listed)
        console.print(Text(f"… {rest:,} more characters; --rows 0 lists them all", style="dim"))
    console.print()
    low, high = _ends(report)
    console.print(Text("Figure 3 of Karpathy, Johnson & Fei-Fei (2015): a dot per unit", "bold"))
    console.print(
        Text(f"across: share of characters at which it is {high}; up: at which it is {low}", "dim")
    )
    if len(report.symbols) < FEW:
        few = f"over only {len(report.symbols)} characters a dot can stand in few places"
        console.print(Text(few, "dim"))
    console.print(figure_3(console, report, gates))
    if memory := longest_memory(report, 5):
        console.print(Text("Units with the longest memory (tau, characters)", style="bold"))
        console.print(
            Text(
                "  ".join(
                    f"layer {layer + 1} unit {unit}: {_tau(tau)}" for layer, unit, tau in memory
                )
            )
        )
        console.print()
    for sentence in findings(report, layers, gates):
        console.print(Text(sentence))


def _ends(report: GateReport) -> tuple[str, str]:
    """What left- and right-saturated are called."""
    return ("low", "high") if report.gates == (HIDDEN,) else ("shut", "open")


def _tau(tau: float) -> str:
    return "∞" if math.isinf(tau) else f"{tau:,.0f}"


def _heading(report: GateReport) -> Iterator[Text]:
    steps = len(report.symbols)
    subject = "Hidden state" if report.gates == (HIDDEN,) else "Gates"
    yield Text(
        f"{subject} of {report.cell} "
        f"{report.layers}×{report.hidden_size} over {steps:,} characters"
        + (f", after {report.warmup:,} of warm-up" if report.warmup else ", from zero state"),
        style="bold",
    )
    left, right = report.limits
    low, high = _ends(report)
    legend = Text("share of a layer's units: ")
    legend.append(f"█ {low}, below {left:g}", style=SHUT)
    legend.append("  · between  ", style="dim")
    legend.append(f"▒ {high}, above {right:g}", style=OPEN)
    yield legend


def _characters(
    console: Console, report: GateReport, layer: int, gates: tuple[str, ...], rows: int
) -> Iterator[Text]:
    """A line per character: sign, surprise, and a bar with two numbers per gate."""
    indices = [report.gates.index(gate) for gate in gates]
    place_width = len(str(max(rows - 1, 0)))
    left_part = place_width + 1 + 2 + 6
    room = (console.width - left_part) // len(gates) - 2
    numbers = room - NUMBERS >= 6
    bar_width = max(1, room - NUMBERS if numbers else room)
    low, high = _ends(report)
    yield Text()
    header = Text(f"{'':>{place_width}}   {'bits':>5} ", style="dim")
    for gate in gates:
        name = label(gate) if room >= len(label(gate)) else gate[: room or 1]
        cell = f"{name:<{bar_width}}" + (f"{low:>5}{high:>5}" if numbers else "")
        header.append(f" {cell} ")
    yield Text(f"Layer {layer + 1}", style="bold")
    yield header
    for t, character in enumerate(report.symbols[:rows]):
        bits = report.surprise_bits[t]
        line = Text(f"{t:>{place_width}} ", style="dim")
        sign = symbol(character)
        line.append(sign + " " * (2 - cell_len(sign)), style="bold")
        line.append(f"{'':>5} " if math.isnan(bits) else f"{bits:>5.1f} ", style=_surprise(bits))
        for g in indices:
            left, right = report.left[t, layer, g], report.right[t, layer, g]
            line.append(" ")
            line.append_text(saturation_bar(left, right, bar_width))
            if numbers:
                line.append(f"{100 * left:>4.0f}%", style=SHUT)
                line.append(f"{100 * right:>4.0f}%", style=OPEN)
            line.append(" ")
        yield line


def _surprise(bits: float) -> str:
    return "" if math.isnan(bits) or bits < 4 else "bold red"


def figure_3(console: Console, report: GateReport, gates: tuple[str, ...]) -> Table:
    """One panel per gate, one dot per unit, one colour per layer; all dots have x + y <= 1."""
    width = max(16, min(44, console.width // len(gates) - 1))
    height = max(8, min(18, width // 2 + 1))
    color = console.color_system is not None
    grid = Table.grid(padding=(0, 1, 0, 0))
    panels: list[Text] = []
    for gate in gates:
        g = report.gates.index(gate)
        series = [
            Series(
                f"layer {layer + 1}",
                report.unit_right[layer, g].tolist(),
                report.unit_left[layer, g].tolist(),
                LAYER_COLORS[layer % len(LAYER_COLORS)],
                line=False,
            )
            for layer in range(report.layers)
        ]
        panel = Text(f"{label(gate)}\n", style="dim")
        panel.append_text(
            chart(
                series,
                width,
                height,
                x_limits=(0, 1),
                y_limits=(0, 1),
                x_ticks=(0, 0.5, 1),
                y_ticks=(0, 0.5, 1),
                tick_formats=("{:g}", "{:g}"),
                color=color,
            )
        )
        panels.append(panel)
    columns = max(1, console.width // (width + 1))
    for start in range(0, len(panels), columns):
        grid.add_row(*panels[start : start + columns])
    if report.layers > 1 and color:
        legend = Text()
        for layer in range(report.layers):
            style = LAYER_COLORS[layer % len(LAYER_COLORS)]
            legend.append(f"● layer {layer + 1}  ", style=style)
        grid.add_row(legend)
    return grid
