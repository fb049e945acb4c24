"""``gates``: which gates are shut and open, at each character and over the whole text."""

import math
from dataclasses import dataclass
from typing import Any

from charlstm.analysis.document import (
    FINDINGS,
    Block,
    Cell,
    Column,
    Document,
    Flagged,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Series,
    Table,
    colored,
    lasting,
    more_rows,
    number,
)
from charlstm.analysis.saturation import (
    GateReport,
    Thresholds,
    findings,
    label,
    longest_memory,
    measure_gates,
)
from charlstm.analysis.subject import Options, Subject
from charlstm.net.spec import CELLS, HIDDEN

LISTED = 60
"""Characters listed by default."""
FEW = 50
"""With fewer characters Figure 3 would be a coarse grid and is omitted."""
SURPRISING_BITS = 4
EDGES = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


@dataclass(frozen=True)
class GatesView:
    """A report on gates, and the part of it that is shown."""

    subject: Subject
    report: GateReport
    layers: range
    gates: tuple[str, ...]
    unit: int | None
    """The one unit reported for each layer; None for all units."""
    rows: int | None
    """Most characters listed in the document; None for all."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, with only these gates and layers; layers keep their numbers."""
        data = self.report.to_dict(str(self.subject.model.path))
        for character in data["characters"]:
            character["layers"] = [
                {gate: values[gate] for gate in self.gates} if layer in self.layers else {}
                for layer, values in enumerate(character["layers"])
            ]
        data["units"] = [
            unit
            for unit in data["units"]
            if unit["gate"] in self.gates and unit["layer"] in self.layers
        ]
        return data

    def document(self) -> Document:
        """A line per character, Figure 3, the longest memories, and the findings."""
        report, steps = self.report, len(self.report.symbols)
        left, right = (number(limit, "g") for limit in report.limits)
        low, high = _ends(report)
        unit = self.unit
        counted = "fraction of a layer's units" if unit is None else f"unit {unit} of each layer"
        blocks: list[Block] = [Key(counted, f"{low}, below {left}", f"{high}, above {right}")]
        for layer in self.layers:
            table = _characters(report, layer, self.gates, self.rows)
            blocks += [Heading(f"Layer {layer + 1}"), table]
        if steps >= FEW:
            axes = f"x: fraction of characters at which the unit is {high}; y: at which it is {low}"
            blocks += [
                Heading("Figure 3 of Karpathy, Johnson & Fei-Fei (2015): one dot per unit"),
                Lines((axes,), quiet=True),
                figure_3(report, self.layers, self.gates),
            ]
        blocks += [
            *_longest_memories(report, self.layers),
            Heading(f"{FINDINGS} (always: at more than 90% of the characters)"),
            Lines(tuple(findings(report, self.layers, self.gates))),
        ]
        title = "Gates" if self.subject.spec.gates else "Hidden state h"
        return Document(self.subject.title(title), tuple(blocks))


def view(subject: Subject, options: Options) -> GatesView:
    """Measure the gates at each character; see ``charlstm.analysis.saturation``."""
    unit = options.one_unit()
    report = measure_gates(
        subject.engine,
        subject.ids,
        subject.symbols,
        subject.warmup,
        Thresholds(options.left, options.right),
        unit,
        subject.reading,
    )
    layers = (
        range(report.layers) if options.layer is None else range(options.layer, options.layer + 1)
    )
    gates = report.gates if options.gate is None else (options.gate,)
    return GatesView(subject, report, layers, gates, unit, options.lines(LISTED))


def _ends(report: GateReport) -> tuple[str, str]:
    """The names of left- and right-saturated."""
    return ("low", "high") if report.gates == (HIDDEN,) else ("shut", "open")


def _longest_memories(report: GateReport, layers: range) -> tuple[Block, ...]:
    """A table of them, if the cell has a memory gate."""
    memories = longest_memory(report, layers, 5)
    if not memories:
        return ()
    state = CELLS[report.cell].states[-1]
    columns = tuple(Column(name, right=True) for name in ("layer", "unit", "tau"))
    rows = tuple((str(layer + 1), str(unit), lasting(tau)) for layer, unit, tau in memories)
    heading = Heading(f"Units with the longest memory of {state} (tau, characters)")
    return heading, Table(columns, rows)


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
        written = "" if math.isnan(bits) else f"{bits:.1f}"
        surprise = Flagged(written) if bits >= SURPRISING_BITS else written
        bars = (FractionBar(report.left[t, layer, g], report.right[t, layer, g]) for g in indices)
        rows.append((str(t), character, surprise, *bars))
    return Table(columns, tuple(rows), more_rows(len(report.symbols) - len(rows), "character"))


def figure_3(report: GateReport, layers: range, gates: tuple[str, ...]) -> Plots:
    """One panel per gate, one dot per unit, one colour per layer; x + y <= 1 for every dot."""
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
