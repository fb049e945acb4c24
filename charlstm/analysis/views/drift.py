"""``drift``: the loss and the gates (if the cell has any) over a run, from its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from charlstm.analysis.document import (
    FINDINGS,
    NOTES,
    Block,
    Cell,
    Column,
    Document,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Series,
    Table,
    colored,
    span,
)
from charlstm.analysis.saturation import RECORDED, label
from charlstm.analysis.subject import Options, Subject
from charlstm.errors import CharlstmError, plural
from charlstm.runs.metrics import read_lines
from charlstm.runs.run import METRICS_FILE

ENDS = ("shut", "open")


@dataclass(frozen=True)
class Moment:
    """One evaluation of a run."""

    step: int
    val_loss: float
    """Nats per character of the held-out text."""
    gates: dict[tuple[int, str], tuple[float, float, float]]
    """(fraction shut, fraction open, mean) by layer and gate, at the start of the excerpt."""


def moments(lines: Sequence[dict[str, Any]]) -> tuple[Moment, ...]:
    """The evaluations among a run's events, one per step, in order."""
    found: dict[int, Moment] = {}
    for line in lines:
        try:
            if line["event"] == "evaluated":
                gates = {
                    (g["layer"], g["gate"]): (g["left"], g["right"], g["mean"])
                    for g in line["gates"]
                }
                found[line["step"]] = Moment(line["step"], float(line["val_loss"]), gates)
        except (KeyError, TypeError):  # a loss that is not a number, or a line of another version
            continue
    return tuple(found[step] for step in sorted(found))


def furthest(moments: Sequence[Moment], layer: int, gate: str, end: int) -> Moment:
    """The moment at which a fraction was furthest from its initial value.

    ``end`` is 0 for shut units, 1 for open ones.
    """
    first = moments[0].gates[layer, gate][end]
    return max(moments, key=lambda moment: abs(moment.gates[layer, gate][end] - first))


@dataclass(frozen=True)
class DriftView:
    """The evaluations of a run, and the layers and gates shown."""

    subject: Subject
    moments: tuple[Moment, ...]
    layers: tuple[int, ...]
    gates: tuple[str, ...]
    """Empty for a cell without gates."""
    warmup: int
    """Characters of the excerpt read before the gates are measured."""
    measured: int
    """Characters of the excerpt at which the gates are measured."""

    def to_dict(self) -> dict[str, Any]:
        """Every evaluation, with the gates shown."""
        return {
            **self.subject.facts("drift"),
            "warmup": self.warmup,
            "characters": self.measured,
            "moments": [
                {
                    "step": moment.step,
                    "val_loss": moment.val_loss,
                    "gates": [
                        {"layer": layer, "gate": gate, "left": left, "right": right, "mean": mean}
                        for (layer, gate), (left, right, mean) in moment.gates.items()
                        if layer in self.layers and gate in self.gates
                    ],
                }
                for moment in self.moments
            ],
        }

    def document(self) -> Document:
        """The loss and the gates of each layer over the steps, and how far they moved."""
        config = self.subject.model.file.config
        what = "Gates and loss" if self.gates else "Loss"
        measured = (
            f"Gates are measured on {plural(self.measured, 'character')} of the checkpoint's "
            f"excerpt, after {self.warmup} of warm-up."
            if self.gates
            else f"The cell {config.cell} has no gates to show."
        )
        notes = ("The loss is the validation loss, in nats per character.", measured)
        blocks: list[Block] = [Plots((self._loss(),))]
        if not self.gates:
            blocks.append(self._table(0))
        for layer in self.layers if self.gates else ():
            blocks += [
                Heading(f"Layer {layer + 1}"),
                Plots(tuple(self._gate(layer, gate) for gate in self.gates)),
                Key("fraction of the layer's units", *ENDS),
                self._table(layer),
            ]
        if self.gates:
            blocks += [Heading(FINDINGS), Lines(self._sentences())]
        blocks += [Heading(NOTES), Lines(notes, quiet=True)]
        title = f"{what}: {config.describe()} over {self.moments[-1].step:,} steps"
        return Document(title, tuple(blocks))

    def _steps(self) -> tuple[list[float], tuple[float, float]]:
        """The steps, and the limits of their axis."""
        steps = [float(m.step) for m in self.moments]
        return steps, (min(steps), max(*steps, min(steps) + 1))

    def _loss(self) -> Plot:
        steps, limits = self._steps()
        losses = [m.val_loss for m in self.moments]
        curve = Series("validation", steps, losses, colored(1))
        return Plot("validation loss", (curve,), limits, span(losses), "step", "nats per character")

    def _gate(self, layer: int, gate: str) -> Plot:
        steps, limits = self._steps()
        curves = tuple(
            Series(
                ENDS[end], steps, [m.gates[layer, gate][end] for m in self.moments], colored(end)
            )
            for end in (0, 1)
        )
        top = max(0.05, *(y for curve in curves for y in curve.y))
        return Plot(label(gate), curves, limits, (0, 1.05 * top), "step", "fraction")

    def _table(self, layer: int) -> Table:
        columns = (
            Column("step", right=True),
            Column("loss", right=True),
            *(Column(label(gate), ends=ENDS) for gate in self.gates),
        )
        rows: list[tuple[Cell, ...]] = [
            (
                f"{m.step:,}",
                f"{m.val_loss:.4f}",
                *(FractionBar(*m.gates[layer, gate][:2]) for gate in self.gates),
            )
            for m in self.moments
        ]
        return Table(columns, tuple(rows))

    def _sentences(self) -> tuple[str, ...]:
        """Each fraction at first, furthest from there, and at last."""
        sentences = []
        for layer, gate, end in product(self.layers, self.gates, (0, 1)):
            shown = (self.moments[0], furthest(self.moments, layer, gate, end), self.moments[-1])
            by_step = {m.step: f"{m.gates[layer, gate][end]:.0%}" for m in shown}
            fractions = ", ".join(f"{f} at step {step:,}" for step, f in by_step.items())
            sentences.append(f"Layer {layer + 1}, {label(gate)}, {ENDS[end]}: {fractions}.")
        return tuple(sentences)


def view(subject: Subject, options: Options) -> DriftView:
    """All evaluations of the run that the checkpoint belongs to."""
    layers = (
        tuple(range(subject.engine.config.layers)) if options.layer is None else (options.layer,)
    )
    gates = tuple(gate for gate in subject.spec.gates if options.gate in (None, gate))
    metrics = subject.model.path.parent / METRICS_FILE
    recorded = tuple(
        moment
        for moment in moments(read_lines(metrics))
        if all((layer, gate) in moment.gates for layer in layers for gate in gates)
    )
    if not recorded:
        raise CharlstmError(f"{metrics} has no evaluations", "drift needs a run's folder")
    excerpt = subject.vocab.encode(subject.model.file.excerpt)[:RECORDED] if gates else ()
    warmup = len(excerpt) // 5
    return DriftView(subject, recorded, layers, gates, warmup, len(excerpt) - warmup)
