"""How well a model predicts a text: nats, bits and perplexity, by two protocols.

``stateful``: one contiguous pass, state carried from the first character to the last.
``windowed``: windows of N characters, zero state at the start of each, every position counted
(the protocol of nanoGPT's validation loss, at N = 256, over all windows instead of a sample).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.config import check_number
from charlstm.engine import Engine, chunks
from charlstm.errors import CharlstmError
from charlstm.sampling import READ_CHUNK, surprise_bits
from charlstm.vocab import Ids

WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class Score:
    """A text's score. Averages are over ``characters``, the ones that were predicted."""

    characters: int
    nats: float
    """Mean of -ln p per character."""
    protocol: Literal["stateful", "windowed"]
    window: int | None
    surprise_bits: NDArray[np.float64]
    """(N,) -log2 p of each character of the text; NaN for one that nothing came before."""

    @property
    def bits_per_char(self) -> float:
        """Mean of -log2 p per character: nats / ln 2."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats): as many equally likely characters would be as hard to guess."""
        return perplexity(self.nats)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm score --json``."""
        return {
            "characters": self.characters,
            "nats": self.nats,
            "bits_per_char": self.bits_per_char,
            "perplexity": self.perplexity,
            "protocol": self.protocol,
            "window": self.window,
        }


def perplexity(nats: float) -> float:
    """exp(nats), at most e^700: what is larger is no number any more."""
    return math.exp(min(nats, 700.0))


def score(
    engine: Engine,
    ids: Ids,
    window: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Score:
    """Score the text ``ids`` (N,), N >= 2; ``window`` is None for the stateful protocol.

    The first character is not predicted: nothing comes before it. In the windowed protocol the
    last window may be shorter. ``progress`` is called with the characters done so far.
    """
    if len(ids) < 2:
        raise CharlstmError(
            f"the text has {len(ids)} characters, and a score needs 2 at least",
            "give a longer text",
        )
    bits = np.full(len(ids), np.nan)
    if window is None:
        state = engine.initial_state()
        done = 0
        for chunk in chunks(ids[:-1], READ_CHUNK):
            logits, state = engine.read(chunk, state)
            places = slice(done + 1, done + 1 + len(chunk))
            bits[places] = surprise_bits(logits, ids[places])
            done += len(chunk)
            progress(done)
    else:
        check_number("--window", window, 1)
        _score_windows(engine, ids, window, bits, progress)
    predicted = bits[1:]
    return Score(
        characters=len(predicted),
        nats=math.fsum(predicted) * math.log(2) / len(predicted),
        protocol="stateful" if window is None else "windowed",
        window=window,
        surprise_bits=bits,
    )


def _score_windows(
    engine: Engine,
    ids: Ids,
    window: int,
    bits: NDArray[np.float64],
    progress: Callable[[int], None],
) -> None:
    starts = np.arange(0, len(ids) - 1, window)
    for group in range(0, len(starts), WINDOWS_AT_ONCE):
        begin = starts[group : group + WINDOWS_AT_ONCE]
        state = engine.initial_state(len(begin))
        for t in range(window):
            inside = begin + t < len(ids) - 1
            if not inside.any():
                break
            # Only the text's very last window is short; it reads on over its own last character.
            places = np.minimum(begin + t, len(ids) - 2)
            logits, state = engine.step(ids[places], state)
            step_bits = surprise_bits(logits, ids[places + 1])
            bits[places[inside] + 1] = step_bits[inside]
        progress(min(len(ids) - 1, int(begin[-1]) + window))
