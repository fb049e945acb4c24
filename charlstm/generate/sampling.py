"""From logits to characters: penalty, temperature, filters, draws.

The order is: repeat penalty, temperature, top-k, top-p, min-p, renormalise, draw.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import check_number
from charlstm.net.engine import Engine, chunks, log_softmax
from charlstm.text.vocabulary import Ids, Vocabulary

READ_CHUNK = 512
COLDEST = 1e-260
"""A colder temperature than this is this one: it lets the same through, and nothing overflows."""


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
    """Divides positive logits, and multiplies negative ones, of recent characters (Keskar et al.
    2019, for either sign)."""
    repeat_window: int = 64
    """How many characters back count as recent; those of the prime count too."""

    def __post_init__(self) -> None:
        check_number("--temp", self.temperature, 0, hint="0.5 is cautious, 1 is the model's own")
        check_number("--top-k", self.top_k, 0)
        check_number("--top-p", self.top_p, 0, 1, low_allowed=False)
        check_number("--min-p", self.min_p, 0, 1)
        check_number("--repeat-penalty", self.repeat_penalty, 0, low_allowed=False)
        check_number("--repeat-window", self.repeat_window, 1)


@dataclass(frozen=True)
class DecodeState:
    """Where B texts stand after all that was read so far."""

    state: NDArray[Any]
    """(L, S, B, H)"""
    logits: NDArray[Any]
    """(B, V), of each text's next character."""


def prefill(
    engine: Engine,
    ids: Ids,
    state: NDArray[Any] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> DecodeState:
    """Read a text of any length, (T,) ids with T >= 1, on from ``state`` or from zero state.

    ``progress`` is called with the characters read so far.
    """
    if state is None:
        state = engine.initial_state()
    done = 0
    for chunk in chunks(ids, READ_CHUNK):
        _, state = engine.forward(chunk, state)
        done += len(chunk)
        progress(done)
    return DecodeState(state, engine.logits(state))


def repeat(place: DecodeState, count: int) -> DecodeState:
    """The same place, for ``count`` texts side by side."""
    return DecodeState(
        np.repeat(place.state, count, axis=2), np.repeat(place.logits, count, axis=0)
    )


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
    weights = _weights(logits, config, recent)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _weights(
    logits: NDArray[Any], config: SamplingConfig, recent: Sequence[Iterable[int]]
) -> NDArray[np.float64]:
    """``distribution`` times a positive number for each row."""
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
    if config.temperature != 1:
        scores /= max(config.temperature, COLDEST)
    weights = np.exp(scores, out=scores)
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
        weights[weights < config.min_p] = 0  # the most likely has 1
    return weights


def draw(
    engine: Engine,
    place: DecodeState,
    config: SamplingConfig,
    seed: int,
    length: int | None = None,
    before: Sequence[int] = (),
) -> Iterator[tuple[Ids, DecodeState]]:
    """Draw characters for the B texts of ``place``, ``length`` of each or without end.

    Text b uses a Mersenne Twister seeded with ``seed + b``, so each text of a batch can be had
    again alone. ``before`` are the last ids that were read, which the repeat penalty counts.

    Yields:
        The ids drawn (B,), and the place of the texts after them.
    """
    batch = len(place.logits)
    generators = [random.Random(seed + b) for b in range(batch)]
    recent = [deque(before, maxlen=config.repeat_window) for _ in range(batch)]
    drawn = 0
    while length is None or drawn < length:
        cumulative = _weights(place.logits, config, recent).cumsum(axis=-1)
        uniform = np.array([g.random() for g in generators])
        ids = (cumulative > (uniform * cumulative[:, -1])[:, None]).argmax(axis=-1)
        if config.repeat_penalty != 1:
            for memory, symbol in zip(recent, ids.tolist(), strict=True):
                memory.append(symbol)
        logits, state = engine.step(ids, place.state)
        place = DecodeState(state, logits)
        yield ids, place
        drawn += 1


def surprise_bits(logits: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) given before it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits
