"""How well a model predicts a text: nats, bits and perplexity, by two protocols.

``stateful``: one contiguous pass, state carried from the first character to the last. A long text
is read in parts side by side, and read again from each part's beginning, with the state that the
part before it ended with, until that makes no difference any more: see ``_read_block``.
``windowed``: windows of N characters, zero state at the start of each, every position counted
(the protocol of nanoGPT's validation loss, at N = 256, over all windows instead of a sample).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, check_number
from charlstm.generate.sampling import READ_CHUNK, surprise_bits
from charlstm.net.engine import Engine
from charlstm.text.vocabulary import Ids

WINDOWS_AT_ONCE = 64
CHUNK = 64
"""Steps of many texts side by side that are read at once."""
PARTS = 64
PART = 32 * CHUNK
TOLERANCE = 1e-5
"""States that differ by no more than this, in any h and c, count as the same: a matrix product
that is computed in another order differs by a tenth of it."""
SEGMENT_WARMUP = 256


@dataclass(frozen=True)
class Score:
    """A text's score. Averages are over ``characters``, the ones that were predicted."""

    characters: int
    nats: float
    """Mean of -ln p per character."""
    protocol: Literal["stateful", "windowed"]
    window: int | None
    """Characters of a window, for the windowed protocol."""
    segments: int | None
    """For a stateful score of segments, how many; see ``score``."""
    adaptive: bool
    """Whether the weights followed the text (dynamic evaluation)."""
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

    @property
    def label(self) -> str:
        """The protocol in words."""
        details = [
            self.protocol,
            *([str(self.window)] if self.window else []),
            *([f"in {self.segments} segments"] if self.segments else []),
            *(["adaptive"] if self.adaptive else []),
        ]
        return ", ".join(details)

    def most_surprising(self, count: int) -> list[int]:
        """The places of the most surprising characters, the most surprising first."""
        order = np.argsort(-self.surprise_bits[1:], kind="stable")[:count] + 1
        return [int(place) for place in order]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm score --json``."""
        return {
            "characters": self.characters,
            "nats": self.nats,
            "bits_per_char": self.bits_per_char,
            "perplexity": self.perplexity,
            "protocol": self.protocol,
            "window": self.window,
            "segments": self.segments,
            "adaptive": self.adaptive,
        }


def perplexity(nats: float) -> float:
    """exp(nats), at most e^700: what is larger is no number any more."""
    return math.exp(min(nats, 700.0))


def score(
    engine: Engine,
    ids: Ids,
    window: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    segments: int | None = None,
) -> Score:
    """Score the text ``ids`` (N,), N >= 2; ``window`` is None for the stateful protocol.

    The first character is not predicted: nothing comes before it. In the windowed protocol the
    last window may be shorter. With ``segments`` the text is cut into so many, each read from the
    state after the 256 characters before it alone: nearly the stateful score, and labelled as
    such. ``progress`` is called with the characters done so far.
    """
    predicted = len(ids) - 1
    if predicted < 1:
        raise CharlstmError(
            f"the text has {len(ids)} characters, and a score needs 2 at least",
            "give a longer text",
        )
    bits = np.full(len(ids), np.nan)
    if window is not None:
        check_number("--window", window, 1)
        _score_windows(engine, ids, window, bits, progress)
    elif segments is not None:
        most = max(1, predicted // SEGMENT_WARMUP)
        hint = f"a segment has {SEGMENT_WARMUP} characters at least"
        check_number("--segments", segments, 1, most, hint=hint)
        length = -(-predicted // segments)
        _score_windows(engine, ids, length, bits, progress, SEGMENT_WARMUP)
    else:
        _score_stateful(engine, ids, bits, progress)
    return summarise(bits, window=window, segments=segments)


def summarise(
    bits: NDArray[np.float64],
    *,
    window: int | None = None,
    segments: int | None = None,
    adaptive: bool = False,
) -> Score:
    """The score of a text whose characters but the first have these surprises (N,)."""
    return Score(
        characters=len(bits) - 1,
        nats=math.fsum(bits[1:]) * math.log(2) / (len(bits) - 1),
        protocol="stateful" if window is None else "windowed",
        window=window,
        segments=segments,
        adaptive=adaptive,
        surprise_bits=bits,
    )


def _score_stateful(
    engine: Engine, ids: Ids, bits: NDArray[np.float64], progress: Callable[[int], None]
) -> None:
    state, done, predicted = engine.initial_state(), 0, len(ids) - 1
    side_by_side = True
    while done < predicted:
        block = PARTS * PART if side_by_side else READ_CHUNK
        if done + block > predicted:  # what is left, in parts of whole chunks, then the rest
            block = (predicted - done) // (PARTS * CHUNK) * (PARTS * CHUNK)
        if side_by_side and block >= PARTS * CHUNK * 4:
            places = slice(done, done + block)
            bits[done + 1 : done + block + 1], state, side_by_side = _read_block(
                engine, ids[places], ids[done + 1 : done + block + 1], state
            )
            done += block
        else:
            chunk = ids[done : min(done + READ_CHUNK, predicted)]
            logits, state = engine.forward(chunk, state)
            places = slice(done + 1, done + 1 + len(chunk))
            bits[places] = surprise_bits(logits, ids[places])
            done += len(chunk)
        progress(done)


def _read_block(
    engine: Engine, ids: Ids, targets: Ids, state: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any], bool]:
    """One contiguous pass over ``ids`` (N,) from ``state``, many characters at a time.

    The text is cut into parts, which are read side by side from zero state, and then once more
    from the state that the part before ended with, each until its state is again the one it had
    there before, up to ``TOLERANCE``: from there on nothing changes. A part that never comes to
    that has another end than the part after it began with, which is then read again in its turn.

    Returns:
        -log2 p of each of ``targets`` (N,), the state after ``ids``, and whether parts forget fast
        enough for this to be worth while.
    """
    steps = len(ids) // PARTS
    inputs, outputs = ids.reshape(PARTS, steps).T, targets.reshape(PARTS, steps).T
    bits = np.empty((steps, PARTS))
    start = engine.initial_state(PARTS)
    start[:, :, :1] = state
    marks = np.full((steps // CHUNK, *start.shape), np.inf, dtype=start.dtype)
    """The states after each chunk, as they were read last."""

    def read(parts: Ids, state: NDArray[Any]) -> Ids:
        """Read these parts from ``state`` until nothing changes; return those that changed all."""
        for chunk, mark in enumerate(marks):
            rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            logits, state = engine.forward(inputs[rows, parts], state)
            read_bits = surprise_bits(
                logits.reshape(-1, logits.shape[-1]), outputs[rows, parts].ravel()
            )
            bits[rows, parts] = read_bits.reshape(CHUNK, -1)
            apart = np.abs(state - mark[:, :, parts]).max(axis=(0, 1, 3)) > TOLERANCE
            mark[:, :, parts] = state
            parts, state = parts[apart], state[:, :, apart]
            if not len(parts):
                break
        return parts

    ends = marks[-1]
    read(np.arange(PARTS), start)
    changed = set(read(np.arange(1, PARTS), ends[:, :, :-1]).tolist())
    again = 0
    for part in range(2, PARTS):
        if part - 1 in changed:
            changed |= set(read(np.array([part]), ends[:, :, part - 1 : part]).tolist())
            again += 1
    return bits.T.ravel(), ends[:, :, -1:].copy(), again <= PARTS // 4


def _score_windows(
    engine: Engine,
    ids: Ids,
    window: int,
    bits: NDArray[np.float64],
    progress: Callable[[int], None],
    warmup: int = 0,
) -> None:
    """Windows of so many characters, each from the state after the ``warmup`` before it."""
    predicted = len(ids) - 1
    starts = np.arange(0, predicted, window)
    for group in range(0, len(starts), WINDOWS_AT_ONCE):
        begin = starts[group : group + WINDOWS_AT_ONCE]
        state = engine.initial_state(len(begin))
        if warmup:
            before = begin + np.arange(-warmup, 0)[:, None]
            _, state = engine.forward(ids[np.maximum(before, 0)], state)
            state[:, :, begin == 0] = 0
        for t in range(0, window, CHUNK):
            places = begin + np.arange(t, min(t + CHUNK, window))[:, None]
            # Only the text's very last window is short; it reads on over its own last character.
            logits, state = engine.forward(ids[np.minimum(places, predicted - 1)], state)
            inside = places < predicted
            bits[places[inside] + 1] = surprise_bits(logits[inside], ids[places[inside] + 1])
            if not inside.any():
                break
        progress(min(predicted, int(begin[-1]) + window))
