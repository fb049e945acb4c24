"""From logits to the sampling distribution: repeat penalty, temperature, filters.

The order is: repeat penalty, temperature, top-k, top-p, min-p, renormalisation.
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
"""With ``COLDEST`` it ensures that no float32 logit overflows float64."""
COLDEST = 1e-260
"""Lowest temperature in effect; a lower one would give the same distribution."""


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
    """How the next character is sampled from the model's logits.

    Raises:
        UsageError: a field is out of range.
    """

    temperature: float = 1.0
    """Divides the logits; >= 0, and 0 always takes the most likely character."""
    top_k: int = 0
    """Keep the k most likely characters, and any tied with the last one; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest most likely characters with total probability p or more, 0 < p <= 1."""
    min_p: float = 0.0
    """Keep characters with at least this fraction of the highest probability, 0 to 1."""
    repeat_penalty: float = 1.0
    """Divides positive logits of recent characters and multiplies negative ones, after Keskar et
    al. 2019; 1 turns it off."""
    repeat_window: int = 64
    """Number of characters that count as recent, including those of the prime."""

    def __post_init__(self) -> None:
        hint = "use 1 for the model's own distribution, less for safer text"
        check_number("`temperature`", self.temperature, 0, sys.float_info.max, hint=hint)
        check_integer("`top_k`", self.top_k, 0)
        check_number("`top_p`", self.top_p, 0, 1, low_allowed=False)
        check_number("`min_p`", self.min_p, 0, 1)
        check_number(
            "`repeat_penalty`", self.repeat_penalty, 1 / STRONGEST_PENALTY, STRONGEST_PENALTY
        )
        check_integer("`repeat_window`", self.repeat_window, 1, LARGEST_WINDOW)
        for name in ("temperature", "top_p", "min_p", "repeat_penalty"):
            # Other types, such as Fraction or float16, would change the type of the logits.
            object.__setattr__(self, name, float(getattr(self, name)))


def distribution(
    logits: NDArray[Any], config: SamplingConfig, recent: Sequence[Iterable[int]] = ()
) -> NDArray[np.float64]:
    """The sampling distribution of the next characters.

    Args:
        logits: (B, V).
        config: penalty, temperature and filters.
        recent: the ids of each text that the repeat penalty applies to.

    Returns:
        (B, V) float64; each row sums to 1, and filtered characters have probability 0.
    """
    weights = weights_of(logits, config, recent)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def weights_of(
    logits: NDArray[Any], config: SamplingConfig, recent: Sequence[Iterable[int]]
) -> NDArray[np.float64]:
    """``distribution`` without normalisation: each row times a positive number."""
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
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) that predict it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits
