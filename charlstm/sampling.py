"""From logits to text: temperature, filters, draws, stop strings.

The order is: repeat penalty, temperature, top-k, top-p, min-p, renormalise, draw.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.config import check_number
from charlstm.engine import Engine, chunks, log_softmax
from charlstm.vocab import Ids, StreamDecoder, Vocabulary

READ_CHUNK = 4096


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character is chosen from the model's logits."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely character."""
    top_k: int = 0
    """Keep the k most likely characters, and any tied with the last of them; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest most likely characters whose probabilities reach p."""
    min_p: float = 0.0
    """Keep characters at least this share as likely as the most likely one."""
    repeat_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of recent characters."""
    repeat_window: int = 64
    """How many characters back count as recent."""

    def __post_init__(self) -> None:
        check_number("--temp", self.temperature, 0, hint="0.5 is cautious, 1 is the model's own")
        check_number("--top-k", self.top_k, 0)
        check_number("--top-p", self.top_p, 0, 1, low_allowed=False)
        check_number("--min-p", self.min_p, 0, 1)
        check_number("--repeat-penalty", self.repeat_penalty, 0, low_allowed=False)
        check_number("--repeat-window", self.repeat_window, 1)


@dataclass(frozen=True)
class Place:
    """Where B texts stand after all that was read so far."""

    state: NDArray[Any]
    """(L, S, B, H)"""
    logits: NDArray[Any]
    """(B, V), of each text's next character."""


def read(engine: Engine, ids: Ids, place: Place | None = None) -> Place:
    """Read a text of any length, (T,) ids with T >= 1, on from ``place`` or from zero state."""
    state = place.state if place is not None else engine.initial_state()
    for chunk in chunks(ids, READ_CHUNK):
        logits, state = engine.read(chunk, state)
    return Place(state, logits[-1:])


def repeat(place: Place, count: int) -> Place:
    """The same place, for ``count`` texts side by side."""
    return Place(np.repeat(place.state, count, axis=2), np.repeat(place.logits, count, axis=0))


def opening(vocab: Vocabulary) -> Ids:
    """What is read before a text that is given no prime: a newline, or else the first symbol."""
    ids = vocab.encode("\n", unknown="skip")
    return ids if len(ids) else np.zeros(1, dtype=np.int64)


def distribution(
    logits: NDArray[Any], config: SamplingConfig, recent: Sequence[Iterable[int]] = ()
) -> NDArray[np.float64]:
    """The probabilities that the next characters are drawn from.

    Args:
        logits: (B, V).
        config: the filters.
        recent: for each text, the ids that the repeat penalty applies to.

    Returns:
        (B, V) float64, each row summing to 1; characters that a filter removed have 0.
    """
    scores: NDArray[np.float64] = logits.astype(np.float64)
    if config.repeat_penalty != 1:
        for row, ids in zip(scores, recent, strict=True):
            seen = list(set(ids))
            row[seen] = np.where(
                row[seen] > 0, row[seen] / config.repeat_penalty, row[seen] * config.repeat_penalty
            )
    scores -= scores.max(axis=-1, keepdims=True)
    if config.temperature == 0:
        most_likely = np.zeros_like(scores)
        np.put_along_axis(most_likely, scores.argmax(axis=-1)[:, None], 1.0, axis=-1)
        return most_likely
    # A tiny temperature sends the scores to -inf, which is right: their weight is 0.
    with np.errstate(over="ignore"):
        scores /= config.temperature
    weights = np.exp(scores)
    vocab_size = weights.shape[-1]
    if 0 < config.top_k < vocab_size:
        kth = np.partition(weights, vocab_size - config.top_k, axis=-1)
        weights[weights < kth[:, vocab_size - config.top_k, None]] = 0
    if config.top_p < 1:
        order = np.argsort(-weights, axis=-1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=-1)
        before = np.cumsum(ranked, axis=-1) - ranked
        ranked[before >= config.top_p * ranked.sum(axis=-1, keepdims=True)] = 0
        np.put_along_axis(weights, order, ranked, axis=-1)
    if config.min_p > 0:
        weights[weights < config.min_p * weights.max(axis=-1, keepdims=True)] = 0
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def draw(
    engine: Engine,
    place: Place,
    config: SamplingConfig,
    seed: int,
    length: int | None = None,
) -> Iterator[tuple[Ids, Place]]:
    """Draw characters for the B texts of ``place``, ``length`` of each or without end.

    Text b uses a Mersenne Twister seeded with ``seed + b``, so each text of a batch can be had
    again alone.

    Yields:
        The ids drawn (B,), and the place of the texts after them.
    """
    batch = len(place.logits)
    generators = [random.Random(seed + b) for b in range(batch)]
    recent = [deque[int](maxlen=config.repeat_window) for _ in range(batch)]
    drawn = 0
    while length is None or drawn < length:
        cumulative = distribution(place.logits, config, recent).cumsum(axis=-1)
        uniform = np.array([[g.random()] for g in generators]) * cumulative[:, -1:]
        ids = (cumulative <= uniform).sum(axis=-1)
        if config.repeat_penalty != 1:
            for memory, symbol in zip(recent, ids.tolist(), strict=True):
                memory.append(symbol)
        logits, state = engine.step(ids, place.state)
        place = Place(state, logits)
        yield ids, place
        drawn += 1


def surprise_bits(logits: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) given before it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits


class StopFilter:
    """Passes text on until one of the stop strings is complete; the stop string is left out.

    Text that may turn out to be the beginning of a stop string is held back until that is
    decided, so a stop string is found wherever the pieces are cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The part of the text so far that is safe to pass on."""
        self._held += text
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            # The first to be complete ends the text, as if it came a character at a time.
            cut, _ = min(found, key=lambda match: (match[0] + len(match[1]), match[0]))
            self.stopped = True
            passed, self._held = self._held[:cut], ""
            return passed
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        passed, self._held = self._held[:cut], self._held[cut:]
        return passed

    def finish(self) -> str:
        """What was held back when the text ended without a stop."""
        passed, self._held = self._held, ""
        return passed


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


def as_text(ids: Iterable[int], decoder: StreamDecoder, stop: StopFilter) -> Iterator[str]:
    """Decode drawn ids to text, piece by piece, until a stop string."""
    for symbol in ids:
        if piece := stop.feed(decoder.feed(symbol)):
            yield piece
        if stop.stopped:
            return
    if rest := stop.feed(decoder.finish()) + stop.finish():
        yield rest
