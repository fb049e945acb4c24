"""n-grams by counting in a string again and again, and compared with nltk's."""

from collections import Counter

import numpy as np
import pytest
from nltk.lm import WittenBellInterpolated
from nltk.lm.smoothing import WittenBell
from nltk.util import everygrams
from numpy.testing import assert_allclose

from charlstm.analysis import ngrams
from charlstm.analysis.ngrams import Followers, keys, probabilities

ALPHABET = "abcde"


def ids_of(text: str) -> np.ndarray:
    return np.array([ALPHABET.index(c) for c in text])


def strings() -> tuple[str, str]:
    """A training text without an e, and a text with one."""
    random = np.random.default_rng(0)
    return "".join(random.choice(list("aabbcd"), 300)), "".join(random.choice(list(ALPHABET), 40))


def witten_bell(train: str, text: str, at: int, order: int, size: int) -> float:
    """The probability of ``text[at]``, by counting in a string again and again."""
    p = 1 / size
    for n in range(1, order + 1):
        if at < n - 1:
            break
        context = text[at - n + 1 : at]
        follows = [
            train[i + n - 1] for i in range(len(train) - n + 1) if train[i : i + n - 1] == context
        ]
        if follows:
            kinds = len(set(follows))
            p = (follows.count(text[at]) + kinds * p) / (len(follows) + kinds)
    return p


def test_probabilities_are_those_of_exact_counts() -> None:
    train, text = strings()
    for order, p in enumerate(probabilities(ids_of(train), ids_of(text), 5, 4), 1):
        exact = [witten_bell(train, text, t, order, 5) for t in range(len(text))]
        assert_allclose(p, exact, rtol=1e-12)
    assert order == 4


class ToUniform(WittenBell):
    """nltk's, whose unigrams are not interpolated, with the step that it lacks: to 1 / V.

    Without that step a character that the training text lacks would have a probability of 0.
    """

    def unigram_score(self, word: str) -> float:
        unigrams = self.counts.unigrams
        return (unigrams[word] + len(unigrams) / len(ALPHABET)) / (unigrams.N() + len(unigrams))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_nltks(order: int) -> None:
    train, text = strings()
    model = WittenBellInterpolated(order)
    model.fit([everygrams(list(train), max_len=order)], list(ALPHABET))
    model.estimator = ToUniform(model.vocab, model.counts)
    *_, p = probabilities(ids_of(train), ids_of(text), 5, order)
    theirs = [
        model.unmasked_score(text[t], tuple(text[max(0, t - order + 1) : t]))
        for t in range(len(text))
    ]
    assert_allclose(p, theirs, rtol=1e-12)


def test_ngram_probabilities_of_all_characters_sum_to_one() -> None:
    random = np.random.default_rng(1)
    train, context = random.integers(0, 4, 200), random.integers(0, 4, 6)
    ends = [np.append(context, c) for c in range(5)]
    last = [list(probabilities(train, ids, 5, 3))[-1][-1] for ids in ends]
    assert sum(last) == pytest.approx(1, abs=1e-12)


def test_followers_are_counted_exactly() -> None:
    ids = np.random.default_rng(2).integers(0, 3, 500)
    contexts = keys(ids[:-1], 4)
    followers = Followers(contexts[:50], 3)
    followers.add(contexts[:200], ids[4:204])
    followers.add(contexts[200:], ids[204:])
    exact = Counter((tuple(ids[i : i + 4]), int(ids[i + 4])) for i in range(496))
    for t, found in enumerate(zip(*followers.of(contexts[:50], ids[4:54]), strict=True)):
        context = tuple(ids[t : t + 4])
        after = [exact[context, symbol] for symbol in range(3)]
        assert found == (sum(after), np.count_nonzero(after), exact[context, int(ids[t + 4])])


def test_followers_of_contexts_with_like_hashes_are_reported_apart() -> None:
    contexts = np.array([5, 6, 7, 1 << 60], np.uint64)
    followers = Followers(contexts, 10)
    followers.add(np.array([7, 6, 8, 7, 4], np.uint64), np.array([1, 2, 3, 1, 4]))
    seen, kinds, joint = followers.of(contexts, np.array([1, 2, 1, 1]))
    assert (seen.tolist(), kinds.tolist(), joint.tolist()) == (
        [0, 1, 2, 0],
        [0, 1, 1, 0],
        [0, 1, 2, 0],
    )


@pytest.mark.parametrize("piece", [1, 3, 7, 100])
def test_pieces_of_the_training_text_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    train, text = map(ids_of, strings())
    whole = list(probabilities(train, text, 5, 6))
    monkeypatch.setattr(ngrams, "PIECE", piece)
    read: list[int] = []
    assert_allclose(list(probabilities(train, text, 5, 6, read.append)), whole, rtol=0)
    assert read[-1] == len(train)


def test_a_training_text_shorter_than_the_contexts_is_enough() -> None:
    for length in range(4):
        assert len(list(probabilities(ids_of("abc"[:length]), ids_of("abcab"), 5, 9))) == 9
