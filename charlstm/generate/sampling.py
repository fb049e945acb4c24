"""From logits to the distribution that characters are drawn from: penalty, temperature, filters.

The order is: repeat penalty, temperature, top-k, top-p, min-p, renormalise.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import check_integer, check_number
from charlstm.net.engine import log_softmax

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
        check_number("`temperature`", self.temperature, 0, sys.float_info.max, hint=hint)
        check_integer("`top_k`", self.top_k, 0)
        check_number("`top_p`", self.top_p, 0, 1, low_allowed=False)
        check_number("`min_p`", self.min_p, 0, 1)
        check_number(
            "`repeat_penalty`", self.repeat_penalty, 1 / STRONGEST_PENALTY, STRONGEST_PENALTY
        )
        check_integer("`repeat_window`", self.repeat_window, 1, LARGEST_WINDOW)
        for name in ("temperature", "top_p", "min_p", "repeat_penalty"):
            # Another type, such as a fraction or a NumPy half, would change that of the logits.
            object.__setattr__(self, name, float(getattr(self, name)))


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
    weights = weights_of(logits, config, recent)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def weights_of(
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


def surprise_bits(logits: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) given before it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits
