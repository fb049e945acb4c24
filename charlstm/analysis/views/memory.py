"""``memory``: how long each unit keeps its state, by its mean gate and over this text."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    FINDINGS,
    MINUS,
    NOTES,
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Plot,
    Plots,
    Series,
    Table,
    colored,
    lasting,
    log_ticks,
)
from charlstm.analysis.saturation import log_memory
from charlstm.analysis.subject import Options, Subject, not_for
from charlstm.analysis.trace import pieces

LAGS = tuple(2**n for n in range(10))
"""Characters after which the retention is measured."""
LISTED = 10


@dataclass(frozen=True)
class Memory:
    """How long the H units of each of L layers keep their state."""

    gate: str
    state: str
    """The state that the gate keeps: ``c``, or ``h`` for the gru."""
    time_constant: NDArray[np.float64]
    """(L, H) tau = -1 / mean(ln f), in characters; infinite where nothing is forgotten."""
    lags: tuple[int, ...]
    retention: NDArray[np.float64]
    """(K, L, H) fraction of the state left after each lag: the product of the gate over that many
    characters, averaged over all stretches of the text of that length."""

    @property
    def half_life(self) -> NDArray[np.float64]:
        """(L, H) characters after which half of a state that decays with tau is left."""
        return self.time_constant * math.log(2)


def measure(subject: Subject) -> Memory:
    """Read the text and multiply the memory gates.

    Raises:
        CharlstmError: the cell has no such gate.
    """
    spec = subject.spec
    if spec.memory is None:
        reason = (
            "it has no forget gate, so it never forgets"
            if spec.gates
            else "it has no gate that keeps its state"
        )
        raise not_for(spec, "memory", reason)
    steps = len(subject.ids)
    lags = tuple(lag for lag in LAGS if lag <= steps)
    config = subject.engine.config
    shape = (config.layers, config.hidden_size)
    kept = np.zeros((len(lags), *shape))
    # Sums of ln f up to each character, as far back as the longest lag.
    tail = np.zeros((1, *shape))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        sums = tail[-1] + np.cumsum(log_memory(spec, piece.trace), axis=0, dtype=np.float64)
        line = np.concatenate([tail, sums])
        for k, lag in enumerate(lags):
            first = max(len(tail), lag)
            if first < len(line):
                kept[k] += np.exp(line[first:] - line[first - lag : len(line) - lag]).sum(axis=0)
        tail = line[-(lags[-1] + 1) :] if lags else line[-1:]
    with np.errstate(divide="ignore"):
        time_constant = -steps / np.minimum(tail[-1], -0.0)
    counts = np.array([steps - lag + 1 for lag in lags])
    return Memory(
        gate=spec.memory,
        state=spec.states[-1],
        time_constant=time_constant,
        lags=lags,
        retention=kept / counts[:, None, None],
    )


@dataclass(frozen=True)
class MemoryView:
    """The memory of all units, and the units listed."""

    subject: Subject
    memory: Memory
    layers: tuple[int, ...]
    units: tuple[tuple[int, int], ...]
    """(layer, unit) of each."""

    def to_dict(self) -> dict[str, Any]:
        """The numbers of all units."""
        memory = self.memory
        return {
            **self.subject.facts("memory"),
            "state": memory.state,
            "gate": memory.gate,
            "time_constant": _finite(memory.time_constant),
            "half_life": _finite(memory.half_life),
            "lags": list(memory.lags),
            "retention": memory.retention.tolist(),
        }

    def document(self) -> Document:
        """A table of units, retention curves, a sentence for each layer, and notes."""
        memory, tau = self.memory, self.memory.time_constant
        notes = (
            f"tau = {MINUS}1 / mean(ln f), where f is the {memory.gate} gate: after tau "
            f"characters, 1/e of {memory.state} is left. Half-life = tau ln 2.",
            "left after N: product of f over N characters, averaged over all such stretches of "
            "this text. A unit that holds its state for long and then drops it at once keeps "
            "more than tau suggests.",
        )
        sentences = tuple(
            f"Layer {layer + 1}: the median tau is {lasting(float(np.median(tau[layer])))} "
            "characters; a tenth of the units exceed "
            f"{lasting(float(np.quantile(tau[layer], 0.9)))}; "
            f"the longest is {lasting(float(tau[layer].max()))}."
            for layer in self.layers
        )
        return Document(
            self.subject.title(f"How long units keep {memory.state}"),
            (
                _table(memory, self.units),
                Plots((_curves(memory, self.layers),)),
                Heading(FINDINGS),
                Lines(sentences),
                Heading(NOTES),
                Lines(notes, quiet=True),
            ),
        )


def view(subject: Subject, options: Options) -> MemoryView:
    """The requested units, or those with the longest memory, and how each layer's state decays."""
    memory = measure(subject)
    layers, size = memory.time_constant.shape
    shown = tuple(range(layers)) if options.layer is None else (options.layer,)
    if options.units:
        units = [(layer, unit) for layer in shown for unit in options.units]
    else:
        order = np.argsort(-memory.time_constant, axis=None, kind="stable").tolist()
        ranked = [divmod(n, size) for n in order]
        units = [unit for unit in ranked if unit[0] in shown][: options.lines(LISTED)]
    return MemoryView(subject, memory, shown, tuple(units))


def _finite(rows: NDArray[np.float64]) -> list[list[float | None]]:
    return [[float(v) if math.isfinite(v) else None for v in row] for row in rows]


def _table(memory: Memory, units: tuple[tuple[int, int], ...]) -> Table:
    lags = [lag for lag in (1, 8, 64, 512) if lag in memory.lags]
    columns = (
        Column("layer", right=True),
        Column("unit", right=True),
        Column("tau", right=True),
        Column("half-life", right=True),
        *(Column(f"left after {lag}", right=True) for lag in lags),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            str(layer + 1),
            str(unit),
            lasting(memory.time_constant[layer, unit]),
            lasting(memory.half_life[layer, unit]),
            *(f"{memory.retention[memory.lags.index(k), layer, unit]:.1%}" for k in lags),
        )
        for layer, unit in units
    ]
    return Table(columns, tuple(rows))


def _curves(memory: Memory, layers: tuple[int, ...]) -> Plot:
    """How the state of the longest and of the median unit of each layer decays."""
    x = [math.log2(lag) for lag in memory.lags]
    curves = []
    for n, layer in enumerate(layers):
        ordered = np.argsort(memory.time_constant[layer], kind="stable")
        for name, unit in (("longest", ordered[-1]), ("median", ordered[len(ordered) // 2])):
            curves.append(
                Series(
                    f"layer {layer + 1} unit {unit} ({name})",
                    x,
                    memory.retention[:, layer, unit].tolist(),
                    colored(2 * n + (name == "median")),
                )
            )
    return Plot(
        f"fraction of {memory.state} left",
        tuple(curves),
        (0, x[-1] or 1),
        (0, 1),
        "characters later",
        "fraction",
        log_ticks(memory.lags),
    )
