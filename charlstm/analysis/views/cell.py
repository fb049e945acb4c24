"""``cell``: the text coloured by one unit's content, with the model's guesses if asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import Document, Lines, Strip, Tinted, more_rows, number
from charlstm.analysis.subject import Options, Shown, Subject
from charlstm.analysis.trace import pieces
from charlstm.net.engine import Trace, log_softmax
from charlstm.net.spec import CellSpec

SHOWN_CHARACTERS = 1600
LINE = 80
"""Characters that count as one of ``--rows``."""


@dataclass(frozen=True)
class CellReading:
    """One unit over a text of T characters, and what the model expects after each."""

    layer: int
    unit: int
    state: str
    """What the values are: ``tanh(c)`` or ``h``."""
    values: NDArray[np.float64]
    """(T,) from -1 to 1, after each character is read."""
    guesses: NDArray[np.int64]
    """(T, K) the most likely next characters."""
    probabilities: NDArray[np.float64]
    """(T, K)"""


def unit_values(spec: CellSpec, trace: Trace, state: str) -> NDArray[np.floating]:
    """(T, L, H) from -1 to 1: tanh(c), or h."""
    values: NDArray[np.floating] = trace.states[:, :, spec.states.index(state)]
    return np.tanh(values) if state == "c" else values


def state_name(state: str) -> str:
    """What ``unit_values`` are called."""
    return "tanh(c)" if state == "c" else state


def measure(subject: Subject, layer: int, unit: int, state: str, guesses: int) -> CellReading:
    """Read the text and keep one unit's values and the ``guesses`` best guesses after each."""
    steps = len(subject.ids)
    values = np.empty(steps)
    best = np.empty((steps, guesses), dtype=np.int64)
    probabilities = np.empty((steps, guesses))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        values[piece.places] = unit_values(subject.spec, piece.trace, state)[:, layer, unit]
        if guesses:
            log_p = log_softmax(piece.logits)
            order = np.argsort(-log_p, axis=1, kind="stable")[:, :guesses]
            best[piece.places] = order
            probabilities[piece.places] = np.exp(np.take_along_axis(log_p, order, axis=1))
    return CellReading(layer, unit, state_name(state), values, best, probabilities)


def view(subject: Subject, options: Options) -> Shown:
    """One unit of the last layer, or of the one asked for; 0 unless ``--unit`` names it."""
    config = subject.engine.config
    layer = config.layers - 1 if options.layer is None else options.layer
    state = options.state_of(subject.spec)
    guesses = min(options.guesses, config.vocab_size)
    reading = measure(subject, layer, options.one_unit() or 0, state, guesses)
    symbols = subject.vocab.symbols
    data = {
        **subject.facts("cell"),
        "layer": layer,
        "unit": reading.unit,
        "state": reading.state,
        "text": list(subject.symbols),
        "values": reading.values.tolist(),
        "guesses": [
            [{"character": symbols[i], "p": float(p)} for i, p in zip(row, ps, strict=True)]
            for row, ps in zip(reading.guesses, reading.probabilities, strict=True)
        ],
    }
    return Shown(
        lambda: document(subject, reading, options.lines(SHOWN_CHARACTERS // LINE)), lambda: data
    )


def document(subject: Subject, reading: CellReading, lines: int | None) -> Document:
    """The coloured text, and where the unit is high and low."""
    end = len(subject.ids) if lines is None else min(len(subject.ids), lines * LINE)
    text = Strip(subject.symbols[:end], tuple(reading.values[:end].tolist()))
    under = tuple(
        Strip(
            tuple(subject.vocab.symbols[i] for i in reading.guesses[:end, k]),
            tuple(reading.probabilities[:end, k].tolist()),
        )
        for k in range(reading.guesses.shape[1])
    )
    values = reading.values
    said = [
        f"{reading.state} is {number(values.mean(), '+.2f')} on average; above 0.5 at "
        f"{(values > 0.5).mean():.0%} of the characters, below −0.5 at {(values < -0.5).mean():.0%}"
    ]
    if under:
        said.append("under each character: the likeliest next ones, tinted by their probability")
    if end < len(subject.ids):
        said.append(more_rows(len(subject.ids) - end, "character"))
    what = f"{reading.state} of layer {reading.layer + 1} unit {reading.unit}"
    ends = (f"{reading.state} = −1", "1")
    return Document(
        subject.title(what), (Lines(tuple(said), quiet=True), Tinted(text, under, ends))
    )
