"""From logits to characters: penalty, temperature, filters, draws.

The order is: repeat penalty, temperature, top-k, top-p, min-p, renormalise, draw.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import check_integer, check_number
from charlstm.net.engine import Engine, chunks, log_softmax
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.text.vocabulary import Ids, Vocabulary

READ_CHUNK = 512
REMEMBERED = 4096
"""Characters that a state keeps for the repeat penalty."""
LARGEST_WINDOW = 10**9
STRONGEST_PENALTY = 1e9
"""Together with ``COLDEST``: no float32 logit overflows a float64."""
COLDEST = 1e-260
"""A colder temperature than this is this one: it lets the same through."""


class SamplingFields(TypedDict, total=False):
    """The fields of ``SamplingConfig``, for functions that take them as keywords."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    repeat_window: int


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character is chosen from the model's logits.

    Raises:
        UsageError: a field is out of its range.
    """

    temperature: float = 1.0
    """Divides the logits, >= 0; 0 takes the most likely character."""
    top_k: int = 0
    """Keep the k most likely characters, and any tied with the last of them; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest most likely characters whose probabilities reach p, 0 < p <= 1."""
    min_p: float = 0.0
    """Keep characters at least this fraction as likely as the most likely one, 0 to 1."""
    repeat_penalty: float = 1.0
    """Divides positive logits, and multiplies negative ones, of recent characters (Keskar et al.
    2019, for either sign)."""
    repeat_window: int = 64
    """How many characters back count as recent; those of the prime count too."""

    def __post_init__(self) -> None:
        hint = "0.5 is cautious, 1 is the model's own"
        check_number("`temperature`", self.temperature, 0, hint=hint)
        check_integer("`top_k`", self.top_k, 0)
        check_number("`top_p`", self.top_p, 0, 1, low_allowed=False)
        check_number("`min_p`", self.min_p, 0, 1)
        check_number(
            "`repeat_penalty`", self.repeat_penalty, 1 / STRONGEST_PENALTY, STRONGEST_PENALTY
        )
        check_integer("`repeat_window`", self.repeat_window, 1, LARGEST_WINDOW)


@dataclass(frozen=True)
class TextState:
    """Where a text stands: enough to go on from it.

    It belongs to the model that made it. Another model of the same size would go on from numbers
    that mean nothing to it: only a file made by ``save_state`` knows its model.
    """

    state: NDArray[Any]
    """(L, S, 1, H) float32"""
    recent: tuple[int, ...] = ()
    """The last ids of the text, for the repeat penalty; ``REMEMBERED`` at most."""

    def fits(self, config: ModelConfig) -> bool:
        """Whether a model of this shape can go on from here."""
        shape = (config.layers, len(CELLS[config.cell].states), 1, config.hidden_size)
        state = np.asarray(self.state)
        return (
            state.shape == shape
            and state.dtype == np.float32
            and bool(np.isfinite(state).all())
            and all(0 <= symbol < config.vocab_size for symbol in self.recent)
        )


def prefill(
    engine: Engine,
    ids: Ids,
    start: TextState | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> TextState:
    """Read a text of any length, (T,) ids, on from ``start`` or from zero state.

    ``progress`` is called with the characters read so far.
    """
    start = start or TextState(engine.initial_state())
    state, done = start.state, 0
    for chunk in chunks(ids, READ_CHUNK):
        state = engine.advance(chunk, state)
        done += len(chunk)
        progress(done)
    recent = (*start.recent, *ids[-REMEMBERED:].tolist())
    return TextState(state, recent[-REMEMBERED:])


def opening(vocab: Vocabulary) -> Ids:
    """What is read before a text without a prime: a newline, or else the first symbol."""
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


class Sampler(Iterator[Ids]):
    """Draws characters for B texts side by side, without end: yields their next ids (B,).

    All begin at ``start``. Text b uses a Mersenne Twister seeded with ``seed + b``, so each text
    of a batch can be had again alone.
    """

    state: NDArray[Any]
    """(L, S, B, H), after all that was drawn."""
    logits: NDArray[Any]
    """(B, V), of each text's next character."""

    def __init__(
        self,
        engine: Engine,
        start: TextState,
        config: SamplingConfig,
        seed: int,
        count: int = 1,
    ) -> None:
        self._engine, self._config = engine, config
        self._generators = [random.Random(seed + b) for b in range(count)]
        kept = max(REMEMBERED, config.repeat_window)
        self._recent = [deque(start.recent, maxlen=kept) for _ in range(count)]
        self.state = np.repeat(start.state, count, axis=2)
        self.logits = np.repeat(engine.logits(start.state), count, axis=0)

    @property
    def count(self) -> int:
        """B."""
        return len(self._generators)

    def __next__(self) -> Ids:
        window = self._config.repeat_window
        recent = [islice(reversed(ids), window) for ids in self._recent]
        cumulative = _weights(self.logits, self._config, recent).cumsum(axis=-1)
        uniform = np.array([g.random() for g in self._generators])
        ids: Ids = (cumulative > (uniform * cumulative[:, -1])[:, None]).argmax(axis=-1)
        self.logits, self.state = self._engine.step(ids, self.state)
        for memory, symbol in zip(self._recent, ids.tolist(), strict=True):
            memory.append(symbol)
        return ids

    def text_state(self, text: int = 0) -> TextState:
        """Where text number ``text`` stands after all that was drawn."""
        return TextState(self.state[:, :, text : text + 1], tuple(self._recent[text])[-REMEMBERED:])


def surprise_bits(logits: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) given before it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits
