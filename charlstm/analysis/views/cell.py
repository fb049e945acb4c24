"""``cell``: the text coloured by one unit, optionally with the model's guesses."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import MINUS, Document, Lines, Strip, Tinted, more_rows, number
from charlstm.analysis.features import features_of
from charlstm.analysis.statistics import is_frequent, ranks
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.trace import pieces
from charlstm.analysis.untrained import untrained_engine
from charlstm.net.engine import Engine, Trace, log_softmax
from charlstm.net.spec import CellSpec

SHOWN_CHARACTERS = 1600
LINE = 80
"""Characters that count as one of ``Options.rows``."""
TRIED = 5000
"""Characters at the start of the text by which the default unit is selected."""
RARE = 20
"""A feature that holds (or fails) at fewer of them is ignored."""


@dataclass(frozen=True)
class CellView:
    """One unit over a text of T characters, and the model's guesses after each."""

    subject: Subject
    layer: int
    unit: int
    state: str
    """The values shown: ``tanh(c)`` or ``h``."""
    values: NDArray[np.float64]
    """(T,) from -1 to 1, after each character is read."""
    guesses: NDArray[np.int64]
    """(T, K) the most likely next characters."""
    probabilities: NDArray[np.float64]
    """(T, K)"""
    lines: int | None
    """Most lines of the text in the document; None for all."""
    why: str = ""
    """A sentence that says why this unit is the default; empty if it was requested."""

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
        """The coloured text, and how often the unit is high and low."""
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
        notes = [self.why] if self.why else []
        notes.append(
            f"{self.state} is {number(values.mean(), '+.2f')} on average, above 0.5 at "
            f"{(values > 0.5).mean():.0%} of the characters, below {MINUS}0.5 at "
            f"{(values < -0.5).mean():.0%}."
        )
        if under:
            notes.append(
                "Under each character: the most likely next ones, tinted by their probability."
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
    """The name of ``unit_values`` on screen."""
    return "tanh(c)" if state == "c" else state


def default_unit(subject: Subject, layers: list[int], state: str) -> tuple[int, int, str]:
    """The (layer, unit) in ``layers`` that tracks a feature best, and a sentence saying why.

    A score is 2 AUC - 1, or rho for a count, in size. The unit selected exceeds the best unit of an
    untrained net by the widest margin. In a text too short for any feature, it is the unit that
    varies most.
    """
    part = replace(subject, ids=subject.ids[:TRIED])

    def read(engine: Engine) -> NDArray[np.floating]:
        traces = (p.trace for p in pieces(engine, part.ids, part.warmup, part.reading))
        values = np.concatenate([unit_values(part.spec, trace, state) for trace in traces])
        return values[:, layers].reshape(len(values), -1).T

    values = read(subject.engine)
    size = subject.engine.config.hidden_size
    features = [f for f in features_of(part.text) if is_frequent(f.values, RARE)]
    if not features:
        row = int(values.std(axis=1).argmax())
        return layers[row // size], row % size, "Its value varies most in this text."
    known = ranks(np.array([f.values for f in features]))
    trained, untrained = (
        np.abs(ranks(v) @ known.T) for v in (values, read(untrained_engine(subject.engine.config)))
    )
    # For a 0/1 feature with mean p, |rho| is sqrt(3 p (1 - p)) |2 AUC - 1| at most.
    scale = np.array(
        [
            1 if f.is_count else np.sqrt(3 * f.values.mean() * (1 - f.values.mean()))
            for f in features
        ]
    )
    gains = (trained.max(axis=0) - untrained.max(axis=0)) / scale
    best = int(gains.argmax())
    row = int(trained[:, best].argmax())
    why = f"It tracks ‘{features[best].name}’ more closely than the other units do."
    return layers[row // size], row % size, why


def view(subject: Subject, options: Options) -> CellView:
    """Read the text with the requested unit, by default one that tracks a feature.

    A unit requested without a layer belongs to the last one.
    """
    config, steps = subject.engine.config, len(subject.ids)
    state, requested = options.state_of(subject.spec), options.one_unit()
    layer = config.layers - 1 if options.layer is None else options.layer
    if requested is None:
        layers = list(range(config.layers)) if options.layer is None else [layer]
        layer, unit, why = default_unit(subject, layers, state)
    else:
        unit, why = requested, ""
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
        why,
    )
