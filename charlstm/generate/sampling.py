"""From logits to the sampling distribution: penalties, temperature, filters.

The order is: allowed symbols, repeat penalty, DRY, temperature, top-k, top-p, min-p,
renormalisation.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import check_integer, check_number, require, shown
from charlstm.net.engine import log_softmax

REMEMBERED = 4096
"""Number of characters at the end of a text that a resume state keeps and DRY looks at."""
LARGEST_WINDOW = 10**9
STRONGEST_PENALTY = 1e9
"""With ``COLDEST`` it ensures that no float32 logit overflows float64."""
COLDEST = 1e-260
"""Lowest temperature in effect; a lower one would give the same distribution."""
STRONGEST_DRY = 1e6
DRY_STEPS = 50
"""Number of characters beyond ``dry_length`` after which the DRY penalty grows no further."""


class SamplingFields(TypedDict, total=False):
    """The fields of ``SamplingConfig``, for functions that take them as keywords."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    repeat_window: int
    dry: float
    dry_base: float
    dry_length: int
    ban: str
    match: str


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
    dry: float = 0.0
    """Multiplier of the DRY penalty ("don't repeat yourself"); 0 turns it off. A character that
    would extend a repetition of the last n characters, n >= ``dry_length``, to n + 1 has its logit
    lowered by dry * dry_base^(n - dry_length), where n counts up to ``dry_length`` + 50. The last
    4,096 characters count."""
    dry_base: float = 1.75
    """Growth of the DRY penalty per repeated character, >= 1."""
    dry_length: int = 12
    """Number of characters that may be repeated without a DRY penalty."""
    ban: str = ""
    """Characters that are never generated."""
    match: str = ""
    """Regular expression, as in ``re``, that the whole generated text matches; "" for none."""

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
        check_number("`dry`", self.dry, 0, STRONGEST_DRY)
        check_number("`dry_base`", self.dry_base, 1, 100)
        check_integer("`dry_length`", self.dry_length, 1, LARGEST_WINDOW)
        for name in ("ban", "match"):
            value = getattr(self, name)
            require(isinstance(value, str), f"`{name}` is {shown(value)}, but must be a string")
        for name in ("temperature", "top_p", "min_p", "repeat_penalty", "dry", "dry_base"):
            # Other types, such as Fraction or float16, would change the type of the logits.
            object.__setattr__(self, name, float(getattr(self, name)))


def distribution(
    logits: NDArray[Any],
    config: SamplingConfig,
    texts: Sequence[Sequence[int]] = (),
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The sampling distribution of the next characters.

    Args:
        logits: (B, V).
        config: penalties, temperature and filters.
        texts: the ids of each text so far, for the penalties.
        allowed: (B, V), which characters are possible, at least one per row; None for all.

    Returns:
        (B, V) float64; each row sums to 1, and filtered characters have probability 0.
    """
    weights = weights_of(logits, config, texts, allowed)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def weights_of(
    logits: NDArray[Any],
    config: SamplingConfig,
    texts: Sequence[Sequence[int]],
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """``distribution`` without normalisation: each row times a positive number."""
    scores: NDArray[np.float64] = logits.astype(np.float64)
    if allowed is not None:
        scores[~allowed] = -np.inf
    _penalise(scores, config, texts)
    scores -= scores.max(axis=-1, keepdims=True)
    if config.temperature == 0:
        most_likely = np.zeros_like(scores)
        np.put_along_axis(most_likely, scores.argmax(axis=-1)[:, None], 1.0, axis=-1)
        return most_likely
    if config.temperature != 1:
        scores /= max(config.temperature, COLDEST)
    weights = np.exp(scores, out=scores)
    _filter(weights, config)
    return weights


def _penalise(
    scores: NDArray[np.float64], config: SamplingConfig, texts: Sequence[Sequence[int]]
) -> None:
    """Apply the repeat penalty, then DRY, to the logits (B, V) after ``texts``."""
    if config.repeat_penalty != 1:
        for row, ids in zip(scores, texts, strict=True):
            seen = list(set(islice(reversed(ids), config.repeat_window)))
            row[seen] = np.where(
                row[seen] > 0, row[seen] / config.repeat_penalty, row[seen] * config.repeat_penalty
            )
    if config.dry > 0:
        for row, ids in zip(scores, texts, strict=True):
            last = list(islice(reversed(ids), REMEMBERED))[::-1]
            for symbol, length in repeated(last, config.dry_length + DRY_STEPS).items():
                if length >= config.dry_length:
                    row[symbol] -= config.dry * config.dry_base ** (length - config.dry_length)


def repeated(ids: Sequence[int], limit: int) -> dict[int, int]:
    """The symbols that followed earlier occurrences of the end of a text.

    Each is mapped to the length of the longest end, at most ``limit``, that it followed.
    """
    text = np.fromiter(ids, np.int64, len(ids))
    ends = np.arange(len(text) - 1)  # an occurrence ends here, and a symbol follows
    found: dict[int, int] = {}
    for length in range(1, min(limit, len(text) - 1) + 1):
        ends = ends[ends >= length - 1]
        ends = ends[text[ends - (length - 1)] == text[-length]]
        if not len(ends):
            break
        found.update(dict.fromkeys(text[ends + 1].tolist(), length))
    return found


def _filter(weights: NDArray[np.float64], config: SamplingConfig) -> None:
    """Set to 0, in weights (B, V) of which the largest is 1, what top-k, top-p, min-p exclude."""
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


def surprise_bits(logits: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p of each of ``ids`` (N,) under the logits (N, V) that predict it."""
    log_p = log_softmax(logits)
    bits: NDArray[np.float64] = log_p[np.arange(len(ids)), ids] / -np.log(2)
    return bits
