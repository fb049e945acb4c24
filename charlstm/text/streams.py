"""Contiguous parallel streams over a text, with a single number as cursor.

The text is a ring: its last character is followed by its first. Stream b of B starts at character
floor(b * N / B) and continues into the part of the next stream, so its carried state always belongs
to the preceding text. Only where the ring closes does the text jump, once in N characters per
stream. An epoch is N characters, counted over all streams. To resume, a run needs only
``position``, the number of characters that each stream has read.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""A target that is not predicted, after the end of an item; torch's loss ignores this number."""


@dataclass(frozen=True)
class Batch:
    """T characters of B streams, and the T characters one position later; both int64 (T, B)."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    is_carried: bool = True
    """Whether each row goes on from the state after the batch before; else it starts from zero."""


def fit_streams(length: int, batch: int, bptt: int) -> tuple[int, int]:
    """The batch size B and sequence length T for a text of ``length`` characters.

    They are ``batch`` and ``bptt``, reduced for short texts: a stream should be at least 2T
    characters long, or streams read nearly the same text. B is reduced first, then T.
    """
    fitted = min(batch, max(1, length // (2 * bptt)))
    return fitted, min(bptt, max(1, length - 1))


class Streams:
    """B parallel readers of a text ``ids`` (N,), in batches of T = ``bptt`` characters."""

    def __init__(
        self,
        ids: NDArray[np.unsignedinteger],
        batch: int,
        bptt: int,
        block: slice = slice(None),
    ) -> None:
        """``block``: the streams of the B that are read here; ``batch_at`` returns only these."""
        self._ids = np.asarray(ids)  # a plain view: fancy indexing of a memmap is slower
        self._bptt = bptt
        self._starts = (np.arange(batch, dtype=np.int64) * len(ids) // batch)[block]
        self.batch = batch

    def batch_at(self, position: int) -> Batch:
        """The next T characters of every stream that has read ``position`` characters."""
        positions = position + np.arange(self._bptt + 1, dtype=np.int64)
        window = self._ids[(positions[:, None] + self._starts) % len(self._ids)].astype(np.int64)
        return Batch(window[:-1], window[1:])

    def epoch(self, position: int) -> float:
        """Passes over the text after each stream has read ``position`` characters."""
        return position * self.batch / len(self._ids)

    def steps(self, epochs: float) -> int:
        """Batches in ``epochs`` passes, at least 1."""
        return max(1, ceil(epochs * len(self._ids) / (self.batch * self._bptt)))

    @property
    def characters_per_step(self) -> float:
        """Characters predicted in a batch."""
        return self.batch * self._bptt
