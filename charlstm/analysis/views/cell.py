"""``cell``: the text coloured by one unit's content, with the model's guesses if asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import MINUS, Document, Lines, Strip, Tinted, more_rows, number
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.trace import pieces
from charlstm.net.engine import Trace, log_softmax
from charlstm.net.spec import CellSpec

SHOWN_CHARACTERS = 1600
LINE = 80
"""Characters that count as one of ``Options.rows``."""


@dataclass(frozen=True)
class CellView:
    """One unit over a text of T characters, and what the model expects after each."""

    subject: Subject
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
    lines: int | None
    """The most lines of the text that the document has; None is all of them."""

    def to_dict(self) -> dict[str, Any]:
        """Every value, with the characters and the guesses."""
        symbols = self.subject.vocab.symbols
        return {
            **self.subject.facts("cell"),
            "layer": self.layer,
            "unit": self.unit,
            "state": self.state,
            "text": list(self.subject.symbols),
            "values": self.values.tolist(),
            "guesses": [
                [{"character": symbols[i], "p": float(p)} for i, p in zip(row, ps, strict=True)]
                for row, ps in zip(self.guesses, self.probabilities, strict=True)
            ],
        }

    def document(self) -> Document:
        """The coloured text, and where the unit is high and low."""
        symbols, values = self.subject.symbols, self.values
        end = len(symbols) if self.lines is None else min(len(symbols), self.lines * LINE)
        text = Strip(symbols[:end], tuple(values[:end].tolist()))
        under = tuple(
            Strip(
                tuple(self.subject.vocab.symbols[i] for i in self.guesses[:end, k]),
                tuple(self.probabilities[:end, k].tolist()),
            )
            for k in range(self.guesses.shape[1])
        )
        notes = [
            f"{self.state} is {number(values.mean(), '+.2f')} on average; above 0.5 at "
            f"{(values > 0.5).mean():.0%} of the characters, below {MINUS}0.5 at "
            f"{(values < -0.5).mean():.0%}"
        ]
        if under:
            notes.append(
                "under each character: the likeliest next ones, tinted by their probability"
            )
        if end < len(symbols):
            notes.append(more_rows(len(symbols) - end, "character"))
        title = self.subject.title(f"{self.state} of layer {self.layer + 1} unit {self.unit}")
        ends = (f"{self.state} = {MINUS}1", "1")
        return Document(title, (Lines(tuple(notes), quiet=True), Tinted(text, under, ends)))


def unit_values(spec: CellSpec, trace: Trace, state: str) -> NDArray[np.floating]:
    """(T, L, H) from -1 to 1: tanh(c), or h."""
    values: NDArray[np.floating] = trace.states[:, :, spec.states.index(state)]
    return np.tanh(values) if state == "c" else values


def state_name(state: str) -> str:
    """What ``unit_values`` are called."""
    return "tanh(c)" if state == "c" else state


def view(subject: Subject, options: Options) -> CellView:
    """Read the text with one unit of the last layer, or of the one asked for; unit 0 by default."""
    config, steps = subject.engine.config, len(subject.ids)
    layer = config.layers - 1 if options.layer is None else options.layer
    unit, state = options.one_unit() or 0, options.state_of(subject.spec)
    count = min(options.guesses, config.vocab_size)
    values = np.empty(steps)
    guesses = np.empty((steps, count), dtype=np.int64)
    probabilities = np.empty((steps, count))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        values[piece.positions] = unit_values(subject.spec, piece.trace, state)[:, layer, unit]
        if count:
            log_p = log_softmax(piece.logits)
            order = np.argsort(-log_p, axis=1, kind="stable")[:, :count]
            guesses[piece.positions] = order
            probabilities[piece.positions] = np.exp(np.take_along_axis(log_p, order, axis=1))
    return CellView(
        subject,
        layer,
        unit,
        state_name(state),
        values,
        guesses,
        probabilities,
        options.lines(SHOWN_CHARACTERS // LINE),
    )
