"""``gates``: who is shut and who is open, at each character and over the whole text."""

import math
from typing import Any

from charlstm.analysis.document import (
    Block,
    Cell,
    Column,
    Document,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Series,
    Share,
    Strong,
    Table,
    colored,
    lasting,
    more_rows,
    number,
    plural,
)
from charlstm.analysis.saturation import (
    GateReport,
    Thresholds,
    findings,
    label,
    longest_memory,
    measure_gates,
)
from charlstm.analysis.subject import Options, Shown, Subject
from charlstm.net.spec import CELLS, HIDDEN

FEW = 50
"""With fewer characters Figure 3 is a coarse grid."""
SURPRISING_BITS = 4
EDGES = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def view(subject: Subject, options: Options) -> Shown:
    """Measure the gates at each character; see ``charlstm.analysis.saturation``."""
    report = measure_gates(
        subject.engine,
        subject.ids,
        subject.symbols,
        subject.warmup,
        Thresholds(options.left, options.right),
        options.one_unit(),
        subject.reading,
    )
    layers = (
        range(report.layers) if options.layer is None else range(options.layer, options.layer + 1)
    )
    gates = report.gates if options.gate is None else (options.gate,)
    unit = options.one_unit()
    title = subject.title("Gates" if subject.spec.gates else "Hidden state h")
    return Shown(
        lambda: document(title, report, layers, gates, options.lines(60), unit),
        lambda: narrowed(report.to_dict(str(subject.model.path)), layers, gates),
    )


def narrowed(data: dict[str, Any], layers: range, gates: tuple[str, ...]) -> dict[str, Any]:
    """The JSON with only the gates and the layers asked for; layers keep their numbers."""
    for character in data["characters"]:
        character["layers"] = [
            {gate: values[gate] for gate in gates} if layer in layers else {}
            for layer, values in enumerate(character["layers"])
        ]
    data["units"] = [
        unit for unit in data["units"] if unit["gate"] in gates and unit["layer"] in layers
    ]
    return data


def document(
    title: str,
    report: GateReport,
    layers: range,
    gates: tuple[str, ...],
    rows: int | None,
    unit: int | None,
) -> Document:
    """A line per character, Figure 3, the longest memories, what the numbers say."""
    steps = len(report.symbols)
    left, right = (number(limit, "g") for limit in report.limits)
    low, high = _ends(report)
    counted = "share of a layer's units" if unit is None else f"unit {unit} of each layer"
    blocks: list[Block] = [Key(counted, f"{low}, below {left}", f"{high}, above {right}")]
    for layer in layers:
        blocks += [Heading(f"Layer {layer + 1}"), _characters(report, layer, gates, rows)]
    notes = [f"across: share of characters at which it is {high}; up: at which it is {low}"]
    if steps < FEW:
        notes.append(f"over only {plural(steps, 'character')} a dot can stand in few places")
    blocks += [
        Heading("Figure 3 of Karpathy, Johnson & Fei-Fei (2015): a dot per unit"),
        Lines(tuple(notes), quiet=True),
        figure_3(report, layers, gates),
    ]
    if memory := longest_memory(report, layers, 5):
        kept = CELLS[report.cell].states[-1]
        columns = tuple(Column(name, right=True) for name in ("layer", "unit", "tau"))
        told = tuple((str(layer + 1), str(unit), lasting(tau)) for layer, unit, tau in memory)
        blocks += [
            Heading(f"Units with the longest memory of {kept} (tau, characters)"),
            Table(columns, told),
        ]
    blocks += [Heading("What was found"), Lines(tuple(findings(report, layers, gates)))]
    return Document(title, tuple(blocks))


def _ends(report: GateReport) -> tuple[str, str]:
    """What left- and right-saturated are called."""
    return ("low", "high") if report.gates == (HIDDEN,) else ("shut", "open")


def _characters(report: GateReport, layer: int, gates: tuple[str, ...], most: int | None) -> Table:
    columns = (
        Column("", right=True),
        Column(""),
        Column("bits", right=True),
        *(Column(label(gate), ends=_ends(report)) for gate in gates),
    )
    indices = [report.gates.index(gate) for gate in gates]
    rows: list[tuple[Cell, ...]] = []
    for t, character in enumerate(report.symbols[:most]):
        bits = report.surprise_bits[t]
        told = "" if math.isnan(bits) else f"{bits:.1f}"
        surprise = Strong(told) if bits >= SURPRISING_BITS else told
        shares = (Share(report.left[t, layer, g], report.right[t, layer, g]) for g in indices)
        rows.append((str(t), character, surprise, *shares))
    return Table(columns, tuple(rows), more_rows(len(report.symbols) - len(rows), "character"))


def figure_3(report: GateReport, layers: range, gates: tuple[str, ...]) -> Plots:
    """One panel per gate, one dot per unit, one colour per layer; all dots have x + y <= 1."""
    plots = []
    for gate in gates:
        g = report.gates.index(gate)
        series = tuple(
            Series(
                f"layer {layer + 1}",
                report.unit_right[layer, g].tolist(),
                report.unit_left[layer, g].tolist(),
                colored(layer),
                line=False,
            )
            for layer in layers
        )
        plots.append(Plot(label(gate), series, (0, 1), (0, 1), x_ticks=EDGES, y_ticks=EDGES))
    return Plots(tuple(plots))
