"""Traces of a text of any length, one piece at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.generate.sampling import surprise_bits
from charlstm.generate.writing import prefill
from charlstm.net.engine import Array, Engine, Trace, chunks
from charlstm.text.vocabulary import Ids

TRACE_CHUNK = 512
"""Steps traced at once: memory does not grow with the text."""


@dataclass(frozen=True)
class TraceChunk:
    """N characters of a text, and the activations at each."""

    positions: slice
    """Their positions in the text."""
    ids: Ids
    """(N,)"""
    trace: Trace
    logits: Array
    """(N, V); row t predicts the character after ``ids[t]``."""
    bits: NDArray[np.float64]
    """(N,) -log2 p of each character given those before it; NaN where nothing came before."""


def pieces(
    engine: Engine,
    ids: Ids,
    warmup: Ids,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[TraceChunk]:
    """Read ``warmup`` and then ``ids`` (T,), T >= 1; yields the pieces of ``ids`` in order.

    The state is carried throughout. ``progress`` is called with the number of characters read.

    Raises:
        CharlstmError: ``ids`` is empty.
    """
    if not len(ids):
        raise CharlstmError("there is no text to inspect", "give at least one character")
    state = engine.initial_state()
    before: Array | None = None
    if len(warmup):
        state = prefill(engine, warmup).state
        before = engine.logits(state)
    done = 0
    for chunk in chunks(ids, TRACE_CHUNK):
        trace, logits, state = engine.trace(chunk, state)
        bits = np.full(len(chunk), np.nan)
        if before is not None:
            bits[0] = surprise_bits(before, chunk[:1])[0]
        bits[1:] = surprise_bits(logits[:-1], chunk[1:])
        before = logits[-1:]
        positions = slice(done, done + len(chunk))
        done += len(chunk)
        yield TraceChunk(positions, chunk, trace, logits, bits)
        progress(done)
