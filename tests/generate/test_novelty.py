"""What was copied is found, and only that."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.generate import novelty as module
from charlstm.generate.novelty import longest_copied, novelty
from charlstm.text import words
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

CORPUS = "It was a wet day. The heron said: row, row to the quay, don't wait.\nThe end."
VOCAB = Vocabulary("".join(sorted(set(CORPUS + "xyzXé"))))


def ids_of(text: str, dtype: type = np.uint8) -> np.ndarray:
    return VOCAB.encode(text).astype(dtype)


def by_hand(texts: list[str], corpus: str) -> int:
    runs = {t[a:b] for t in texts for a in range(len(t)) for b in range(a + 1, len(t) + 1)}
    return max((len(run) for run in runs if run in corpus), default=0)


AB = st.text("ab", max_size=30)


@given(st.lists(AB, max_size=3), st.text("ab", min_size=1, max_size=60), st.integers(1, 40))
def test_the_longest_run_is_that_of_comparing_all(
    texts: list[str], corpus: str, piece: int
) -> None:
    vocab = Vocabulary("ab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        ids = [vocab.encode(text) for text in texts]
        length, place = longest_copied(ids, vocab.encode(corpus).astype(np.uint8))
    assert length == by_hand(texts, corpus)
    assert any(corpus[place : place + length] in text for text in texts) or not length


def test_windows_with_the_same_hash_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_alike(ids: np.ndarray, length: int) -> np.ndarray:
        return np.zeros(max(0, len(ids) - length + 1), dtype=np.uint64)

    monkeypatch.setattr(module, "_hashes", all_alike)
    assert longest_copied([ids_of("quay")], ids_of("xz" * 9)) == (0, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_a_report_has_the_run_and_the_new_words(dtype: type) -> None:
    text = "xxrow, row to thezz. THE heron don't wet xyz xyz"
    found = novelty([text], ids_of(CORPUS, dtype), VOCAB)
    assert found.copied == "row, row to the"
    assert found.longest == len(found.copied)
    assert CORPUS[found.position :].startswith(found.copied)
    # xxrow, row, to, thezz, THE, heron, don't, wet, xyz, xyz
    assert (found.words, found.new_words, found.new_fraction) == (10, 4, 0.4)


def test_nothing_written_is_nothing_copied() -> None:
    for texts in ([], [""], ["é"]):
        found = novelty(texts, ids_of(CORPUS), VOCAB)
        assert (found.longest, found.copied) == (0, "")
    assert found.words == found.new_words == 1
    assert novelty([], ids_of(CORPUS), VOCAB).new_fraction == 0


def test_words_and_runs_across_the_pieces_of_a_corpus_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for piece in range(1, 30):
        monkeypatch.setattr(module, "PIECE", piece)
        monkeypatch.setattr(words, "PIECE", piece)
        whole = novelty([CORPUS], ids_of(CORPUS), VOCAB)
        assert (whole.longest, whole.position) == (len(CORPUS), 0)
        if piece > max(map(len, re.split(r"\s", CORPUS))):
            assert whole.new_words == 0


def test_a_byte_corpus_has_words_too() -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    found = novelty(["né Énéide"], vocab.encode("un né, énéide.").astype(np.uint8), vocab)
    assert (found.words, found.new_words) == (2, 0)
