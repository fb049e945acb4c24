"""Copies are found in any part of a corpus, in ids of any width."""

import numpy as np
import pytest

from charlstm.text import copies
from charlstm.text.copies import is_copied

GENERATOR = np.random.default_rng(5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("start", [0, 1, 333, 3_000])
def test_a_copy_is_found_across_blocks(
    dtype: type, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "BLOCK", 256)
    corpus = GENERATOR.integers(0, 200, 5_000).astype(dtype)
    other = GENERATOR.integers(0, 200, 500)
    copy = corpus[start : start + 500].astype(np.int64)
    assert is_copied(copy, corpus)
    assert not is_copied(other, corpus)
    assert is_copied(np.append(copy, other[:200]), corpus)
    assert not is_copied(np.append(copy[:200], other), corpus)
    assert not is_copied(copy[:99], corpus)


def test_only_the_end_of_a_long_corpus_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = GENERATOR.integers(0, 200, 5_000)
    monkeypatch.setattr(copies, "SEARCHED", 1_000)
    assert is_copied(corpus[-500:], corpus)
    assert not is_copied(corpus[:500], corpus)
