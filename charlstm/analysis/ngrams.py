"""Character n-gram models from exact counts, interpolated as in Witten & Bell (1991).

p(x) = (c + t p'(x)) / (n + t), where n counts a context, c counts the context followed by x, t is
the number of distinct characters that follow it, and p' is the same for the context without its
first character; below the empty context p' is 1 / V.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def keys(ids: Ids, length: int) -> NDArray[np.uint64]:
    """(T - length + 1,) a hash of each sequence of ``length`` characters.

    64 bits: among a million distinct sequences, the chance of a collision is 1 in 40 million.
    """
    result = np.zeros(len(ids) - length + 1, np.uint64)
    for n in range(length):
        mixed = (ids[n : n + len(result)].astype(np.uint64) + np.uint64(1)) * _MIX
        result = (result ^ (mixed >> np.uint64(29)) ^ mixed) * _MULTIPLIER
    return result


def counts(known: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How often each of ``asked`` occurs in ``known``."""
    values, times = np.unique(known, return_counts=True)
    if not len(values):
        return np.zeros(len(asked), np.int64)
    positions = np.minimum(np.searchsorted(values, asked), len(values) - 1)
    return np.where(values[positions] == asked, times[positions], 0)


def probabilities(
    train: Ids, ids: Ids, vocab_size: int, most: int
) -> Iterator[NDArray[np.float64]]:
    """Yield (T,) the probability of each of ``ids`` under n-gram models of ``train``, for each n.

    Characters at the start that have less context keep the probability of a shorter model.
    """
    p = np.full(len(ids), 1 / vocab_size)
    for n in range(1, most + 1):
        if len(train) >= n and len(ids) >= n:
            grams, contexts = keys(train, n), keys(train[:-1], n - 1)
            _, first = np.unique(grams, return_index=True)
            asked = keys(ids, n)
            before = keys(ids[:-1], n - 1)
            seen = counts(contexts, before)
            followers = counts(contexts[first], before)
            joint = counts(grams, asked)
            below = p[n - 1 :]
            known = seen > 0
            new = (joint + followers * below) / np.maximum(seen + followers, 1)
            p = np.concatenate([p[: n - 1], np.where(known, new, below)])
        yield p
