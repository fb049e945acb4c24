"""Contiguous parallel streams over a text, with a cursor that is one number.

The text is a ring: after its last character comes its first. Stream b starts at character
floor(b * N / B) and reads on from there; at the end of its own part it goes on into the part of
the next stream, so the state it carries is always that of the text before. Only where the ring
closes does the text jump, once in N characters per stream. An epoch is N characters read by all
streams together. Everything a run needs to go on is ``position``, the characters each stream
has read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """T characters of each of B streams, and the T characters one place on; int64 (T, B)."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]


def fit_streams(length: int, batch: int, bptt: int) -> tuple[int, int]:
    """B and T for a text of ``length`` characters: the ones wanted, or fewer where it is small.

    A stream should be at least two batches long, or the streams read nearly the same text; B
    shrinks first, then T.
    """
    fitted = min(batch, max(1, length // (2 * bptt)))
    return fitted, min(bptt, max(1, length - 1))


class Streams:
    """B parallel readers of a text; shape letters as everywhere: B streams, T steps."""

    def __init__(self, ids: NDArray[np.unsignedinteger], batch: int, bptt: int) -> None:
        self._ids = np.asarray(ids)  # a plain view: fancy indexing of a memmap is slower
        self._bptt = bptt
        self._starts = np.arange(batch, dtype=np.int64) * len(ids) // batch
        self.batch = batch

    def batch_at(self, position: int) -> Batch:
        """The next T characters of every stream that has read ``position`` characters."""
        places = position + np.arange(self._bptt + 1, dtype=np.int64)
        window = self._ids[(places[:, None] + self._starts) % len(self._ids)].astype(np.int64)
        return Batch(window[:-1], window[1:])

    def epoch(self, position: int) -> float:
        """How often the text was read when each stream has read ``position`` characters."""
        return position * self.batch / len(self._ids)
