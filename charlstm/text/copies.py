"""Whether a text is copied from another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]

PASSAGE, PASSAGES = 100, 9
"""Length and number of the passages that are searched for."""
SEARCHED, BLOCK = 10_000_000, 1 << 22
"""Symbols at the end of the other text that are searched, in all and at a time."""


def is_copied(ids: Ids, corpus: Ids) -> bool:
    """Whether most passages of the text ``ids`` (N,) also occur at the end of ``corpus`` (M,).

    The passages are evenly spaced. A text that is shorter than one is too short to tell.
    """
    corpus = corpus[-SEARCHED:]
    if len(ids) < PASSAGE:
        return False
    starts = np.linspace(0, len(ids) - PASSAGE, PASSAGES).astype(np.int64)
    width = corpus.dtype.itemsize
    missing = [ids[start : start + PASSAGE].astype(corpus.dtype).tobytes() for start in starts]
    for start in range(0, len(corpus), BLOCK):
        block = np.asarray(corpus[start : start + BLOCK + PASSAGE - 1]).tobytes()
        missing = [one for one in missing if (at := block.find(one)) < 0 or at % width]
    return len(missing) < PASSAGES / 2
