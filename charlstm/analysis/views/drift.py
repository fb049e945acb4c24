"""``drift``: the loss and the gates, in a cell that has any, over a run, from its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    Table,
    colored,
    plural,
    span,
)
from charlstm.analysis.saturation import RECORDED, label
from charlstm.analysis.subject import Options, Shown, Subject
from charlstm.errors import CharlstmError
from charlstm.runs.metrics import read_lines
from charlstm.runs.run import METRICS_FILE

ENDS = ("shut", "open")


@dataclass(frozen=True)
class Moment:
    """What a run's evaluation recorded."""

    step: int
    val_loss: float
    """Nats per character of the held-out text."""
    gates: dict[tuple[int, str], tuple[float, float, float]]
    """(share shut, share open, mean) by layer and gate, at the beginning of the excerpt."""


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
    gates = tuple(gate for gate in subject.spec.gates if options.gate in (None, gate))
    metrics = subject.model.path.parent / METRICS_FILE
    told = tuple(
        moment
        for moment in moments(read_lines(metrics))
        if all((layer, gate) in moment.gates for layer in layers for gate in gates)
    )
    if not told:
        raise CharlstmError(f"{metrics} has no evaluations", "drift needs the folder of a run")
    excerpt = subject.vocab.encode(subject.model.file.excerpt)[:RECORDED] if gates else ()
    lead = len(excerpt) // 5
    measured = len(excerpt) - lead
    data = {
        **subject.facts("drift"),
        "warmup": lead,
        "characters": measured,
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
    title = f"{'Gates and loss' if gates else 'Loss'}: {config.describe()}"
    read = (
        f"the gates are those at {plural(measured, 'character')} of the excerpt in the "
        f"checkpoint, after {lead} of warm-up"
        if gates
        else f"the cell {config.cell} has no gates to show"
    )
    notes = ("the loss is that of the text that the run held out", read)
    return Shown(lambda: document(title, notes, told, list(layers), gates), lambda: data)


def document(
    title: str,
    notes: tuple[str, ...],
    told: tuple[Moment, ...],
    layers: list[int],
    gates: tuple[str, ...],
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
    blocks: list[Block] = [Lines(notes, quiet=True), Plots((loss,))]
    if not gates:
        blocks.append(_table(told, 0, gates))
    said: list[str] = []
    for layer in layers if gates else ():
        plots = []
        for gate in gates:
            shares = [
                Series(ENDS[end], steps, [m.gates[layer, gate][end] for m in told], colored(end))
                for end in (0, 1)
            ]
            top = max(0.05, *(y for one in shares for y in one.y))
            plots.append(Plot(label(gate), tuple(shares), limits, (0, 1.05 * top), "step", "share"))
            for end in (0, 1):
                shown = (told[0], furthest(told, layer, gate, end), told[-1])
                by_step = {m.step: f"{m.gates[layer, gate][end]:.0%}" for m in shown}
                shares_then = ", ".join(f"{s} at step {step:,}" for step, s in by_step.items())
                said.append(f"Layer {layer + 1}, {label(gate)}, {ENDS[end]}: {shares_then}.")
        blocks += [
            Heading(f"Layer {layer + 1}"),
            Plots(tuple(plots)),
            Key("share of the layer's units", *ENDS),
            _table(told, layer, gates),
        ]
    if said:
        blocks += [Heading("What happened"), Lines(tuple(said))]
    return Document(f"{title} over {told[-1].step:,} steps", tuple(blocks))


def _table(told: tuple[Moment, ...], layer: int, gates: tuple[str, ...]) -> Table:
    columns = (
        Column("step", right=True),
        Column("loss", right=True),
        *(Column(label(gate), ends=ENDS) for gate in gates),
    )
    rows: list[tuple[Cell, ...]] = [
        (f"{m.step:,}", f"{m.val_loss:.4f}", *(Share(*m.gates[layer, g][:2]) for g in gates))
        for m in told
    ]
    return Table(columns, tuple(rows))
