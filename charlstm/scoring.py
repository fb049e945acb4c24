"""How well a model predicts a text: nats, bits and perplexity, by two protocols.

``stateful``: one contiguous pass, state carried from the first character to the last. A long text
is read in parts side by side, and read again from each part's beginning, with the state that the
part before it ended with, until that makes no difference any more: see ``_Parts``.
``windowed``: windows of N characters, zero state at the start of each, every position counted
(the protocol of nanoGPT's validation loss, at N = 256, over all windows instead of a sample).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, check_integer, plural
from charlstm.generate.sampling import surprise_bits
from charlstm.generate.writing import READ_CHUNK
from charlstm.html_table import html_table
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


@dataclass(frozen=True, eq=False)
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

    def __repr__(self) -> str:
        facts = "; ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<Score: {facts}>"

    def _repr_html_(self) -> str:
        return html_table("Score", self._facts())

    def _facts(self) -> dict[str, str]:
        return {
            "nats per character": f"{self.nats:.4f}",
            "bits per character": f"{self.bits_per_char:.3f}",
            "perplexity": f"{self.perplexity:.2f}",
            "characters": f"{self.characters:,}",
            "protocol": self.label,
        }

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
        """The positions of the most surprising characters, the most surprising first."""
        check_integer("`count`", count, 0)
        order = np.argsort(-self.surprise_bits[1:], kind="stable")[: min(count, sys.maxsize)] + 1
        return [int(position) for position in order]

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
    last window may be shorter. With ``segments`` the text is cut into that many, each read from the
    state after only the 256 characters before it: nearly the stateful score, and labelled as
    such. ``progress`` is called with the characters done so far.
    """
    check_scorable(ids)
    predicted = len(ids) - 1
    bits = np.full(len(ids), np.nan)
    if window is not None:
        check_integer("`window`", window, 1)
        _score_windows(engine, ids, min(window, predicted), bits, progress)
    elif segments is not None:
        most = max(1, predicted // SEGMENT_WARMUP)
        hint = f"a segment has {SEGMENT_WARMUP} characters at least"
        check_integer("`segments`", segments, 1, most, hint=hint)
        length = -(-predicted // segments)
        _score_windows(engine, ids, length, bits, progress, SEGMENT_WARMUP)
    else:
        _score_stateful(engine, ids, bits, progress)
    return summarise(bits, window=window, segments=segments)


def check_scorable(ids: Ids) -> None:
    """Raise ``CharlstmError`` for a text (N,) without a character to predict, N < 2."""
    if len(ids) < 2:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, and a score needs 2 at least",
            "give a longer text",
        )


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
            inputs, targets = slice(done, done + block), slice(done + 1, done + block + 1)
            parts = _Parts(engine, ids[inputs], ids[targets], state)
            side_by_side = parts.read_all()
            bits[targets], state = parts.surprise_bits, parts.end
            done += block
        else:
            chunk = ids[done : min(done + READ_CHUNK, predicted)]
            logits, state = engine.forward(chunk, state)
            targets = slice(done + 1, done + 1 + len(chunk))
            bits[targets] = surprise_bits(logits, ids[targets])
            done += len(chunk)
        progress(done)


class _Parts:
    """A block of a text in P parts, read side by side as if in one contiguous pass.

    All parts are read from zero state, the first one from the state before the block. Then each is
    read again from the state that the part before ended with, until its state is again what it was
    there, up to ``TOLERANCE``: from there on nothing changes. A part that never comes to that has
    another end than the next part was read from, which is then read once more in its turn.
    """

    def __init__(self, engine: Engine, ids: Ids, targets: Ids, state: NDArray[Any]) -> None:
        """``ids`` (N,) are read from ``state``, and predict ``targets`` (N,)."""
        self._engine = engine
        self._inputs = ids.reshape(PARTS, -1).T
        self._targets = targets.reshape(PARTS, -1).T
        self._bits = np.empty(self._inputs.shape)
        self._start = engine.initial_state(PARTS)
        self._start[:, :, :1] = state
        chunks = len(self._inputs) // CHUNK
        self._states = np.empty((chunks, *self._start.shape), dtype=self._start.dtype)
        """The states after each chunk, as it was read last."""

    @property
    def surprise_bits(self) -> NDArray[np.float64]:
        """(N,) -log2 p of each target."""
        bits: NDArray[np.float64] = self._bits.T.ravel()
        return bits

    @property
    def end(self) -> NDArray[Any]:
        """(L, S, 1, H), the state after the block."""
        end: NDArray[Any] = self._states[-1][:, :, -1:].copy()
        return end

    def read_all(self) -> bool:
        """Read the block; return whether parts forget fast enough for this to be worth while."""
        state = self._start
        for chunk in range(len(self._states)):
            state = self._states[chunk] = self._read(chunk, np.arange(PARTS), state)
        ends = self._states[-1]
        changed = set(self._read_again(np.arange(1, PARTS), ends[:, :, :-1]).tolist())
        again = 0
        for part in range(2, PARTS):
            if part - 1 in changed:
                before = ends[:, :, part - 1 : part]
                changed |= set(self._read_again(np.array([part]), before).tolist())
                again += 1
        return again <= PARTS // 4

    def _read_again(self, parts: Ids, state: NDArray[Any]) -> Ids:
        """Read ``parts`` from ``state`` until nothing changes; return those whose end changed."""
        for chunk, before in enumerate(self._states):
            state = self._read(chunk, parts, state)
            changed = np.abs(state - before[:, :, parts]).max(axis=(0, 1, 3)) > TOLERANCE
            before[:, :, parts] = state
            parts, state = parts[changed], state[:, :, changed]
            if not len(parts):
                break
        return parts

    def _read(self, chunk: int, parts: Ids, state: NDArray[Any]) -> NDArray[Any]:
        """Read one chunk of ``parts`` from ``state``; return the state after it."""
        rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        logits, state = self._engine.forward(self._inputs[rows, parts], state)
        targets = self._targets[rows, parts].ravel()
        bits = surprise_bits(logits.reshape(-1, logits.shape[-1]), targets)
        self._bits[rows, parts] = bits.reshape(CHUNK, -1)
        return state


def _score_windows(
    engine: Engine,
    ids: Ids,
    window: int,
    bits: NDArray[np.float64],
    progress: Callable[[int], None],
    warmup: int = 0,
) -> None:
    """Score windows of ``window`` characters, each from the state after ``warmup`` before it."""
    predicted = len(ids) - 1
    starts = np.arange(0, predicted, window)
    for group in range(0, len(starts), WINDOWS_AT_ONCE):
        begin = starts[group : group + WINDOWS_AT_ONCE]
        state = engine.initial_state(len(begin))
        if warmup:
            before = begin + np.arange(-warmup, 0)[:, None]
            state = engine.advance(ids[np.maximum(before, 0)], state)
            state[:, :, begin == 0] = 0
        for t in range(0, window, CHUNK):
            positions = begin + np.arange(t, min(t + CHUNK, window))[:, None]
            # Only the text's very last window is short; it reads on over its own last character.
            logits, state = engine.forward(ids[np.minimum(positions, predicted - 1)], state)
            inside = positions < predicted
            targets = positions[inside] + 1
            bits[targets] = surprise_bits(logits[inside], ids[targets])
            if not inside.any():
                break
        progress(min(predicted, int(begin[-1]) + window))
