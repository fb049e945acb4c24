"""``drift``: gates, or h where there are none, and the loss over a run, from its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from charlstm.errors import CharlstmError
from charlstm.gates import label
from charlstm.metrics import read_lines
from charlstm.runs import METRICS_FILE
from charlstm.spec import HIDDEN, CellSpec
from charlstm.views.blocks import (
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Plot,
    Plots,
    Series,
    Share,
    Table,
    colored,
    span,
)
from charlstm.views.subject import Options, Shown, Subject


@dataclass(frozen=True)
class Moment:
    """What a run's evaluation recorded; the gates are those on the held-out excerpt."""

    step: int
    val_loss: float
    """Nats per character."""
    gates: dict[tuple[int, str], tuple[float, float, float]]
    """(share shut, share open, mean) by layer and gate."""


def moments(lines: Sequence[dict[str, Any]]) -> tuple[Moment, ...]:
    """The evaluations among a run's events, each step once, in order."""
    found: dict[int, Moment] = {}
    for line in lines:
        try:
            if line["event"] == "evaluated":
                gates = {
                    (g["layer"], g["gate"]): (g["left"], g["right"], g["mean"])
                    for g in line["gates"]
                }
                found[line["step"]] = Moment(line["step"], float(line["val_loss"]), gates)
        except (KeyError, TypeError):  # a loss that was no number, or another version's line
            continue
    return tuple(found[step] for step in sorted(found))


def furthest(told: Sequence[Moment], layer: int, gate: str, end: int) -> Moment:
    """The moment at which a share was furthest from where it began.

    ``end`` is 0 for the share that is shut, 1 for the share that is open.
    """
    first = told[0].gates[layer, gate][end]
    return max(told, key=lambda moment: abs(moment.gates[layer, gate][end] - first))


def view(subject: Subject, options: Options) -> Shown:
    """All evaluations of the run that the checkpoint belongs to."""
    config = subject.engine.config
    layers = range(config.layers) if options.layer is None else [options.layer]
    gates = subject.spec.reported if options.gate is None else (options.gate,)
    metrics = subject.model.path.parent / METRICS_FILE
    told = tuple(
        moment
        for moment in moments(read_lines(metrics))
        if all((layer, gate) in moment.gates for layer in layers for gate in gates)
    )
    if not told:
        raise CharlstmError(f"{metrics} has no evaluations", "drift needs the folder of a run")
    data = {
        **{key: value for key, value in subject.facts("drift").items() if key != "characters"},
        "moments": [
            {
                "step": moment.step,
                "val_loss": moment.val_loss,
                "gates": [
                    {"layer": layer, "gate": gate, "left": left, "right": right, "mean": mean}
                    for (layer, gate), (left, right, mean) in moment.gates.items()
                    if layer in layers and gate in gates
                ],
            }
            for moment in told
        ],
    }
    return Shown(
        lambda: document(told, subject.spec, list(layers), gates, config.describe()), lambda: data
    )


def document(
    told: tuple[Moment, ...],
    spec: CellSpec,
    layers: list[int],
    gates: tuple[str, ...],
    model: str,
) -> Document:
    """The loss, the gates of each layer over the steps, and when they moved."""
    steps = [float(m.step) for m in told]
    limits = (min(steps), max(*steps, min(steps) + 1))
    losses = [m.val_loss for m in told]
    loss = Plot(
        "held-out loss",
        (Series("validation", steps, losses, colored(1)),),
        limits,
        span(losses),
        "step",
        "nats",
    )
    ends = ("low", "high") if gates == (HIDDEN,) else ("shut", "open")
    blocks: list[Any] = [Plots((loss,))]
    said: list[str] = []
    for layer in layers:
        plots = []
        for gate in gates:
            shares = [
                Series(ends[end], steps, [m.gates[layer, gate][end] for m in told], colored(end))
                for end in (0, 1)
            ]
            top = max(0.05, *(y for one in shares for y in one.y))
            plots.append(Plot(label(gate), tuple(shares), limits, (0, 1.05 * top), "step", "share"))
            for end in (0, 1):
                shown = (told[0], furthest(told, layer, gate, end), told[-1])
                by_step = {m.step: f"{m.gates[layer, gate][end]:.0%}" for m in shown}
                shares_then = ", ".join(f"{s} at step {step:,}" for step, s in by_step.items())
                said.append(f"Layer {layer + 1}, {label(gate)}, {ends[end]}: {shares_then}.")
        rows: list[tuple[Cell, ...]] = [
            (f"{m.step:,}", f"{m.val_loss:.4f}", *(Share(*m.gates[layer, g][:2]) for g in gates))
            for m in told
        ]
        columns = (
            Column("step", right=True),
            Column("loss", right=True),
            *(Column(label(gate), ends=ends) for gate in gates),
        )
        blocks += [Heading(f"Layer {layer + 1}"), Plots(tuple(plots)), Table(columns, tuple(rows))]
    blocks += [Heading("What happened"), Lines(tuple(said))]
    subject = "Hidden state h" if not spec.gates else "Gates"
    return Document(
        f"{subject} and loss of {model} over {told[-1].step:,} steps, on the held-out excerpt",
        tuple(blocks),
    )
