"""Character n-gram models from exact counts, interpolated as in Witten & Bell (1991).

p(x) = (c + t p'(x)) / (n + t), where n counts a context, c counts the context followed by x, t is
the number of distinct characters that follow it, and p' is the same for the context without its
first character; below the empty context p' is 1 / V.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from charlstm.text.vocabulary import Ids

PIECE = 1 << 20
"""Characters of the training text read at once: memory does not grow with it."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SLOT_BITS, _SHIFT = 20, np.uint64(44)

Keys = NDArray[np.uint64]


def keys(ids: NDArray[np.integer], length: int) -> Keys:
    """(T - length + 1,) a hash of each sequence of ``length`` characters.

    64 bits: among a million distinct sequences, the chance of a collision is 1 in 40 million.
    """
    result = np.zeros(len(ids) - length + 1, np.uint64)
    for n in range(length):
        result = _extended(result, ids[n : n + len(result)])
    return result


def _extended(hashes: Keys, ids: NDArray[np.integer]) -> Keys:
    """The hash of each sequence with one more character."""
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * _MIX
    extended: Keys = (hashes ^ (mixed >> np.uint64(29)) ^ mixed) * _MULTIPLIER
    return extended


class Followers:
    """Which characters follow each of some contexts in a training text, and how often."""

    def __init__(self, contexts: Keys, vocab_size: int) -> None:
        self._contexts = np.unique(contexts)
        self._vocab_size = vocab_size
        self._pairs = np.empty(0, np.int64)
        """Context and follower, as one number; sorted."""
        self._counts = np.empty(0, np.int64)
        # The upper bits of a hash lead to the first context that begins with them, if there is one.
        slots, first, sizes = np.unique(
            self._contexts >> _SHIFT, return_index=True, return_counts=True
        )
        self._first = np.full(1 << _SLOT_BITS, -1, np.int32)
        self._first[slots] = first
        self._most_alike = int(sizes.max())

    def add(self, hashes: Keys, ids: NDArray[np.integer]) -> None:
        """Count ``ids`` (N,), each of which follows the context with that hash."""
        first = self._first.take(hashes >> _SHIFT, mode="clip")
        near = np.flatnonzero(first >= 0)
        places, wanted = first[near], hashes[near]
        for further in range(1, self._most_alike):
            later = np.minimum(first[near] + further, len(self._contexts) - 1)
            places = np.where(self._contexts[later] == wanted, later, places)
        known = self._contexts[places] == wanted
        codes = places[known].astype(np.int64) * self._vocab_size + ids[near[known]]
        pairs, counts = np.unique(codes, return_counts=True)
        at = np.searchsorted(self._pairs, pairs)
        fresh = np.ones(len(pairs), dtype=bool)
        if len(self._pairs):
            fresh = self._pairs.take(at, mode="clip") != pairs
        self._counts[at[~fresh]] += counts[~fresh]
        self._pairs = np.insert(self._pairs, at[fresh], pairs[fresh])
        self._counts = np.insert(self._counts, at[fresh], counts[fresh])

    def of(self, contexts: Keys, ids: Ids) -> tuple[Ids, Ids, Ids]:
        """For each context and the character after it (N,): how often the context occurs, how many
        different characters follow it, and how often this one does.
        """
        owner = self._pairs // self._vocab_size
        size = len(self._contexts)
        totals = np.zeros(size, np.int64)
        np.add.at(totals, owner, self._counts)
        kinds = np.bincount(owner, minlength=size)
        places = np.searchsorted(self._contexts, contexts)
        joint = np.zeros(len(ids), np.int64)
        if len(self._pairs):
            codes = places * self._vocab_size + ids
            at = np.minimum(np.searchsorted(self._pairs, codes), len(self._pairs) - 1)
            joint = np.where(self._pairs[at] == codes, self._counts[at], 0)
        return totals[places], kinds[places], joint


def probabilities(
    train: NDArray[np.integer],
    ids: Ids,
    vocab_size: int,
    most: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[NDArray[np.float64]]:
    """Yield (T,) the probability of each of ``ids`` under n-gram models of ``train``, for each n.

    Characters at the start that have less context keep the probability of a shorter model.
    ``train`` is read in pieces; ``progress`` is called with the number of its characters read.
    """
    orders = range(min(most, len(ids)))
    contexts = [keys(ids[: len(ids) - 1], length) for length in orders]
    followers = [Followers(asked, vocab_size) for asked in contexts]
    for start in range(0, len(train), PIECE):
        before = max(0, start - most)
        piece = np.asarray(train[before : start + PIECE])
        hashes = keys(piece, 0)
        for length, known in enumerate(followers):
            # The characters of this piece that have a context of this length.
            first = max(start - before, length)
            known.add(hashes[first - length : len(piece) - length], piece[first:])
            hashes = _extended(hashes[: len(piece) - length], piece[length:])
        progress(min(start + PIECE, len(train)))
    p = np.full(len(ids), 1 / vocab_size)
    for n in range(1, most + 1):
        if n <= len(orders):
            seen, kinds, joint = followers[n - 1].of(contexts[n - 1], ids[n - 1 :])
            below = p[n - 1 :]
            new = (joint + kinds * below) / np.maximum(seen + kinds, 1)
            p = np.concatenate([p[: n - 1], np.where(seen > 0, new, below)])
        yield p
