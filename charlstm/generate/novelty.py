"""How much of a text is copied verbatim from the training corpus.

The longest common substring is found by a binary search over its length: if two texts share n
symbols, they share n - 1. For each length, every window of the text and of the corpus gets a hash
of 64 bits, and windows with equal hashes are compared. The corpus is read in pieces from its memory
map without an index: a megabyte takes under a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.text.marks import WORD
from charlstm.text.vocabulary import Ids, Vocabulary
from charlstm.text.words import words_in

PIECE = 1 << 20
"""Symbols of the corpus per piece."""
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT, _TOP = np.uint64(29), np.uint64(44)

Corpus = NDArray[np.unsignedinteger]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Novelty:
    """How much of the generated texts is in the training corpus."""

    longest: int
    """Length of the longest copied passage, in characters, or in bytes for a byte model."""
    copied: str
    """That passage."""
    position: int
    """Its position in the corpus; of several, the first one found."""
    words: int
    """Number of words in the texts."""
    new_words: int
    """Number of these words that are not in the corpus, ignoring case."""

    @property
    def new_fraction(self) -> float:
        """``new_words`` / ``words``, or 0 if there are no words."""
        return self.new_words / self.words if self.words else 0.0


def novelty(texts: Sequence[str], corpus: Corpus, vocab: Vocabulary) -> Novelty:
    """Compare each of ``texts`` with the corpus, (N,) ids of ``vocab``."""
    ids = [vocab.encode(text, unknown="replace") for text in texts]
    longest, position = longest_copied(ids, corpus)
    words = [word.casefold() for text in texts for word in WORD.findall(text)]
    missing = set(words)
    for piece in words_in(corpus, vocab):
        if not missing:
            break
        missing.difference_update(map(str.casefold, set(piece)))
    return Novelty(
        longest=longest,
        copied=vocab.decode(corpus[position : position + longest].tolist()),
        position=position,
        words=len(words),
        new_words=sum(word in missing for word in words),
    )


def longest_copied(texts: Sequence[Ids], corpus: Corpus) -> tuple[int, int]:
    """Length and position of the longest passage of the corpus (N,) that is in one of ``texts``."""
    position, length, too_long = 0, 0, 1
    limit = max((len(text) for text in texts), default=0)
    # Double the length until it fails, then bisect: length is shared, too_long is not.
    while too_long <= limit and (found := _find_shared(texts, corpus, too_long)) is not None:
        position, length, too_long = found, too_long, 2 * too_long
    too_long = min(too_long, limit + 1)
    while too_long - length > 1:
        middle = (length + too_long) // 2
        found = _find_shared(texts, corpus, middle)
        if found is None:
            too_long = middle
        else:
            position, length = found, middle
    return length, position


def _find_shared(texts: Sequence[Ids], corpus: Corpus, length: int) -> int | None:
    """A position in the corpus of a passage of this length that is in one of the texts."""
    windows = {
        int(value): text[start : start + length]
        for text in texts
        for start, value in enumerate(_hashes(text, length).tolist())
    }
    wanted = np.array(sorted(windows), dtype=np.uint64)
    may_be_wanted = np.zeros(1 << 20, dtype=bool)  # by a hash's upper bits, which exclude most
    may_be_wanted[wanted >> _TOP] = True
    for start in range(0, len(corpus) - length + 1, PIECE):
        piece = corpus[start : start + PIECE + length - 1]
        hashes = _hashes(piece, length)
        candidates = np.flatnonzero(may_be_wanted[hashes >> _TOP])
        candidates = candidates[np.isin(hashes[candidates], wanted)]
        for offset in candidates.tolist():
            if np.array_equal(piece[offset : offset + length], windows[int(hashes[offset])]):
                return start + offset
    return None


def _hashes(ids: NDArray[Any], length: int) -> Hashes:
    """A hash of each window of ``length`` ids: (N - length + 1,), or (0,) if there is none.

    A window's hash combines those of its two halves, which overlap if its length is not a power
    of two.
    """
    if len(ids) < length:
        return np.empty(0, dtype=np.uint64)
    hashes = (ids.astype(np.uint64) + np.uint64(1)) * _FIRST
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        hashes = (hashes[:-step] ^ (hashes[:-step] >> _SHIFT)) * _FIRST + hashes[step:] * _SECOND
        hashes ^= hashes >> _SHIFT
        covered += step
    return hashes
