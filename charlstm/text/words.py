"""The words of an encoded text, read in pieces: memory does not grow with the text."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charlstm.text.marks import WORD
from charlstm.text.vocabulary import Vocabulary

PIECE = 1 << 20
"""Symbols read at once."""


def words_in(ids: NDArray[np.unsignedinteger], vocab: Vocabulary) -> Iterator[list[str]]:
    """The words of ``ids`` (N,) in order, as one list for each piece.

    A piece ends at a space or newline. Where there is none, a word may be cut.
    """
    points = np.array([ord(symbol) for symbol in vocab.symbols], dtype="<u4")
    ends = np.isin(points, [ord(" "), ord("\n")])
    start = 0
    while start < len(ids):
        piece = np.asarray(ids[start : start + PIECE])
        if len(piece) == PIECE and len(blanks := np.flatnonzero(ends[piece])):
            piece = piece[: blanks[-1] + 1]
        if vocab.kind == "bytes":
            text = piece.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
        else:
            text = points[piece].tobytes().decode("utf-32-le")
        yield WORD.findall(text)
        start += len(piece)
