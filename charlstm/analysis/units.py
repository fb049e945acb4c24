"""h or c of all units at all characters of a text, and saturation of c."""

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import MINUS
from charlstm.analysis.subject import Subject
from charlstm.analysis.trace import pieces
from charlstm.net.engine import Engine

LONGEST = 100_000
"""Most characters read: the values of all units at all of them are kept."""
FAR = 8.0
"""Beyond it, tanh(c) is 1 or -1 to six digits."""
SATURATED, MANY = 0.9, 0.1
"""A unit is saturated if |c| exceeds ``FAR`` at more than the first fraction of the characters.
Views warn if more than the second fraction of the units is saturated."""


def read_units(
    subject: Subject, state: str, longest: int = LONGEST, engine: Engine | None = None
) -> NDArray[np.float32]:
    """(L*H, T) h or c of all units at the first ``longest`` characters of the text.

    ``engine`` may be another network of the same shape; by default it is the model's.
    """
    ids = subject.ids[:longest]
    config = subject.engine.config
    values = np.empty((config.layers * config.hidden_size, len(ids)), np.float32)
    for piece in pieces(engine or subject.engine, ids, subject.warmup, subject.reading):
        read = piece.trace.states[:, :, subject.spec.states.index(state)]
        values[:, piece.positions] = read.reshape(len(read), -1).T
    return values


def saturated(values: NDArray[np.floating]) -> int:
    """How many units (N, T) have a tanh(c) of 1 or -1 almost everywhere; 0 if given h."""
    return sum(float((np.abs(row) > FAR).mean()) > SATURATED for row in values)


def saturation_lines(count: int, units: int) -> tuple[str, ...]:
    """A warning with the number of saturated units, if there are many."""
    if count <= MANY * units:
        return ()
    return (
        f"{count:,} of {units:,} units are saturated: tanh(c) is 1 or {MINUS}1 at more than "
        f"{SATURATED:.0%} of the characters, so c says little. Set `state` to h to see their "
        "output.",
    )
