"""All units of a net at all characters of a text: h or c, and whether c is saturated."""

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import MINUS
from charlstm.analysis.subject import Subject
from charlstm.analysis.trace import pieces
from charlstm.net.engine import Engine

LONGEST = 100_000
"""Characters read at most: all units' values at all of them are kept."""
FAR = 8.0
"""Beyond it, tanh(c) is 1 or -1 to six digits, and soon to the last."""
SATURATED, MANY = 0.9, 0.1
"""A unit is saturated if c is that far at more than this fraction of the characters; views say so
if more than this fraction of the units are."""


def read_units(
    subject: Subject, state: str, longest: int = LONGEST, engine: Engine | None = None
) -> NDArray[np.float32]:
    """(L*H, T) h or c of all units at the first ``longest`` characters of the text.

    Of the model's own units, or of those of another ``engine`` of its shape.
    """
    ids = subject.ids[:longest]
    config = subject.engine.config
    values = np.empty((config.layers * config.hidden_size, len(ids)), np.float32)
    for piece in pieces(engine or subject.engine, ids, subject.warmup, subject.reading):
        read = piece.trace.states[:, :, subject.spec.states.index(state)]
        values[:, piece.positions] = read.reshape(len(read), -1).T
    return values


def saturated(values: NDArray[np.floating]) -> int:
    """How many units (N, T) of c have a tanh of 1 or -1 nearly everywhere; of h none do."""
    return sum(float((np.abs(row) > FAR).mean()) > SATURATED for row in values)


def saturation_lines(count: int, units: int) -> tuple[str, ...]:
    """A line that says how many units are saturated, if that is many."""
    if count <= MANY * units:
        return ()
    return (
        f"{count:,} of {units:,} units are saturated, with a tanh(c) of 1 or {MINUS}1 at more than "
        f"{SATURATED:.0%} of the characters, so that c says little: `state` h looks at what they "
        "give out.",
    )
