"""The words of a text are the same, whatever pieces it is read in."""

import re

import numpy as np
import pytest

from charlstm.text import words
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary
from charlstm.text.words import words_in

TEXT = "It was a wet day;\ndon't wait for 𐍈 or naïve Énéide, said\nthe heron.\n"
KINDS = [Vocabulary("".join(sorted(set(TEXT)))), Vocabulary(BYTE_SYMBOLS, "bytes")]


@pytest.mark.parametrize("vocab", KINDS, ids=["characters", "bytes"])
@pytest.mark.parametrize("piece", [12, 17, 1000])
def test_words_do_not_depend_on_the_pieces(
    monkeypatch: pytest.MonkeyPatch, vocab: Vocabulary, piece: int
) -> None:
    monkeypatch.setattr(words, "PIECE", piece)
    ids = vocab.encode(TEXT).astype(np.uint8)
    pieces = list(words_in(ids, vocab))
    assert len(pieces) >= len(ids) // piece
    assert [word for found in pieces for word in found] == re.findall(
        r"[^\W_]+(?:['’][^\W_]+)*", TEXT
    )


def test_a_text_without_blanks_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "PIECE", 4)
    vocab = Vocabulary("ab")
    assert list(words_in(np.zeros(10, np.uint8), vocab)) == [["aaaa"], ["aaaa"], ["aa"]]
