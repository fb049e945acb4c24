"""Score a text: nats, bits and perplexity, by two protocols for texts and one for lists.

``stateful``: one contiguous pass that carries the state from the first character to the last. A
long text is read as parallel parts; each part is then read again from the state that the part
before it ended with, until the states agree: see ``_Parts``.
``windowed``: windows of N characters, each from zero state, with every position counted (nanoGPT's
validation loss uses this protocol at N = 256, on a sample of windows instead of all).
``items``: with a model of a list, each item from zero state. Its end is predicted, too, and counts
as a character.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, check_integer, plural, require
from charlstm.generate.ensemble import Ensemble, Predictor
from charlstm.generate.sampling import surprise_bits
from charlstm.generate.writing import READ_CHUNK
from charlstm.html_table import html_table
from charlstm.text.vocabulary import Ids

WINDOWS_AT_ONCE = 64
CHUNK = 64
"""Characters of each part or window that are read at once."""
PARTS = 64
PART = 32 * CHUNK
TOLERANCE = {"float32": 1e-5, "int8": 0.03}
"""Largest difference, in any h or c, between states that count as equal. In float32, summing a
matrix product in another order changes it by a tenth of this. In int8, rounding of the activations
keeps states apart by some hundredths; a score changes by less than 0.0002 bits per character."""
SEGMENT_WARMUP = 256


@dataclass(frozen=True, eq=False)
class Score:
    """The score of a text. Averages are over the predicted ``characters``."""

    characters: int
    nats: float
    """Mean of -ln p per character."""
    protocol: Literal["stateful", "windowed", "items"]
    window: int | None
    """Characters per window, for the windowed protocol."""
    segments: int | None
    """Number of segments, for a stateful score of segments; see ``score``."""
    adaptive: bool
    """Whether the weights were trained during scoring (dynamic evaluation)."""
    precision: str
    """``float32`` or ``int8``: how the model was computed."""
    surprise_bits: NDArray[np.float64]
    """(N,) -log2 p of each character; NaN for the first one of a text, which is not predicted."""
    items: int | None = None
    """Number of items of a list; None for a text."""

    @property
    def bits_per_char(self) -> float:
        """Mean of -log2 p per character: nats / ln 2."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats): the number of equally likely characters that would be as hard to predict."""
        return perplexity(self.nats)

    @property
    def nats_per_item(self) -> float | None:
        """Mean of -ln p per item of a list, its end included."""
        return self.nats * self.characters / self.items if self.items else None

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
        } | ({"nats per item": f"{self.nats_per_item:.4f}"} if self.items else {})

    @property
    def label(self) -> str:
        """A short description of the protocol."""
        details = [
            self.protocol,
            *([str(self.window)] if self.window else []),
            *([f"{self.items:,}"] if self.items else []),
            *([f"in {self.segments} segments"] if self.segments else []),
            *(["adaptive"] if self.adaptive else []),
            *([self.precision] if self.precision != "float32" else []),
        ]
        return ", ".join(details)

    def most_surprising(self, count: int) -> list[int]:
        """The positions, from 0, of the most surprising characters, in descending order."""
        check_integer("`count`", count, 0)
        order = np.argsort(-self.surprise_bits, kind="stable")  # NaN comes last
        return [int(position) for position in order[: min(count, self.characters)]]

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
            "items": self.items,
            "nats_per_item": self.nats_per_item,
            "precision": self.precision,
        }


def perplexity(nats: float) -> float:
    """exp(nats), limited to exp(700) to avoid overflow."""
    return math.exp(min(nats, 700.0))


def score(
    engine: Predictor,
    ids: Ids,
    window: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    segments: int | None = None,
) -> Score:
    """Score the text ``ids``, int64 (N,) with N >= 2.

    The first character of a text is not predicted, as nothing comes before it.

    Args:
        engine: the model.
        ids: the text, or a list in which each item ends with ``ModelConfig.end``.
        window: characters per window, or None for the stateful protocol. The last window may be
            shorter.
        progress: called with the number of characters scored so far.
        segments: split the text into this many segments, each from the state after the 256
            characters before it. This approximates the stateful score and is labelled.

    Raises:
        UsageError: ``window`` or ``segments`` is out of range, or given for a list.
        CharlstmError: the text has fewer than 2 characters.
    """
    check_scorable(ids)
    if isinstance(engine, Ensemble):
        # Its symbols would have no probability, and the loss would be infinite.
        require(min(engine.weights) > 0, "a model has weight 0 in `mix`", "omit it instead")
    end = engine.end
    if isinstance(engine, Ensemble):
        # Its symbols would have no probability, and the loss would be infinite.
        require(min(engine.weights) > 0, "a model has weight 0 in `mix`", "omit it instead")
    if end is not None:
        for name, given in (("window", window), ("segments", segments)):
            require(given is None, f"`{name}`: a list is scored item by item", "leave it out")
        bits = np.full(len(ids) + 1, np.nan)
        _score_stateful(engine, np.append(end, ids), bits, progress)  # the end resets the state
        return summarise(bits[1:], items=int((ids == end).sum()), precision=engine.precision)
    predicted = len(ids) - 1
    bits = np.full(len(ids), np.nan)
    if window is not None:
        check_integer("`window`", window, 1)
        _score_windows(engine, ids, min(window, predicted), bits, progress)
    elif segments is not None:
        most = max(1, predicted // SEGMENT_WARMUP)
        hint = f"a segment must have at least {SEGMENT_WARMUP} characters"
        check_integer("`segments`", segments, 1, most, hint=hint)
        length = -(-predicted // segments)
        _score_windows(engine, ids, length, bits, progress, SEGMENT_WARMUP)
    else:
        _score_stateful(engine, ids, bits, progress)
    return summarise(bits, window=window, segments=segments, precision=engine.precision)


def check_scorable(ids: Ids) -> None:
    """Raise ``CharlstmError`` if the text (N,) has no character to predict: N < 2."""
    if len(ids) < 2:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, but scoring needs at least 2",
            "use a longer text",
        )


def summarise(
    bits: NDArray[np.float64],
    *,
    window: int | None = None,
    segments: int | None = None,
    adaptive: bool = False,
    items: int | None = None,
    precision: str = "float32",
) -> Score:
    """The score of a text from the surprise (N,), in bits, of its characters.

    The first character of a text is not predicted; of a list, ``items`` is given, it is.
    """
    predicted = bits[1:] if items is None else bits
    protocol: Literal["stateful", "windowed"] = "stateful" if window is None else "windowed"
    return Score(
        characters=len(predicted),
        nats=math.fsum(predicted) * math.log(2) / len(predicted),
        protocol=protocol if items is None else "items",
        window=window,
        segments=segments,
        adaptive=adaptive,
        precision=precision,
        surprise_bits=bits,
        items=items,
    )


def _score_stateful(
    engine: Predictor, ids: Ids, bits: NDArray[np.float64], progress: Callable[[int], None]
) -> None:
    state, done, predicted = engine.initial_state(), 0, len(ids) - 1
    side_by_side = True
    while done < predicted:
        block = PARTS * PART if side_by_side else READ_CHUNK
        if done + block > predicted:  # the remainder, in parts of whole chunks, then the rest
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
    """A block of a text in P parts, read in parallel with the result of one contiguous pass.

    First, each part is read from zero state, and the first part from the state before the block.
    Then each part is read again from the state that the part before it ended with, until its state
    agrees with the earlier one up to ``TOLERANCE``: from there on nothing changes. If a part's end
    still changes, the next part is read once more.
    """

    def __init__(self, engine: Predictor, ids: Ids, targets: Ids, state: NDArray[Any]) -> None:
        """``ids`` (N,) are read from ``state`` and predict ``targets`` (N,)."""
        self._engine, self._tolerance = engine, TOLERANCE[engine.precision]
        self._inputs = ids.reshape(PARTS, -1).T
        self._targets = targets.reshape(PARTS, -1).T
        self._bits = np.empty(self._inputs.shape)
        self._start = engine.initial_state(PARTS)
        self._start[:, :, :1] = state
        chunks = len(self._inputs) // CHUNK
        self._states = np.empty((chunks, *self._start.shape), dtype=self._start.dtype)
        """The state after each chunk, from its latest reading."""

    @property
    def surprise_bits(self) -> NDArray[np.float64]:
        """(N,) -log2 p of each target."""
        bits: NDArray[np.float64] = self._bits.T.ravel()
        return bits

    @property
    def end(self) -> NDArray[Any]:
        """The state after the block, (L, S, 1, H)."""
        end: NDArray[Any] = self._states[-1][:, :, -1:].copy()
        return end

    def read_all(self) -> bool:
        """Read the block; return whether the states agreed soon enough for this to save time."""
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
            changed = np.abs(state - before[:, :, parts]).max(axis=(0, 1, 3)) > self._tolerance
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
    engine: Predictor,
    ids: Ids,
    window: int,
    bits: NDArray[np.float64],
    progress: Callable[[int], None],
    warmup: int = 0,
) -> None:
    """Score windows, each from the state after the ``warmup`` characters before it."""
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
            # Only the last window is shorter; it is padded with its last character.
            logits, state = engine.forward(ids[np.minimum(positions, predicted - 1)], state)
            inside = positions < predicted
            targets = positions[inside] + 1
            bits[targets] = surprise_bits(logits[inside], ids[targets])
            if not inside.any():
                break
        progress(min(predicted, int(begin[-1]) + window))
