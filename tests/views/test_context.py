"""``context``: a source of known order and entropy rate, and marks whose places are known."""

import math

import numpy as np
import planted
import pytest
from numpy.testing import assert_allclose

from charlstm.errors import CharlstmError
from charlstm.views.context import closings, measure
from charlstm.views.subject import Subject

ALPHABET = "abcde"


@pytest.fixture(scope="module")
def tables() -> np.ndarray:
    return np.random.default_rng(4).normal(0, 1.2, (2, len(ALPHABET), len(ALPHABET)))


@pytest.fixture(scope="module")
def source(tables: np.ndarray) -> Subject:
    model = planted.shift_register(2, ALPHABET, tables)
    ids = planted.markov(6000, tables)
    return Subject(model, ids[100:], ids[:100])


def test_loss_is_flat_from_the_order_of_the_source_on(source: Subject) -> None:
    context = measure(source)
    assert context.lengths[:3] == (1, 2, 4)
    assert_allclose(context.cut[1:], context.whole, atol=1e-5)
    assert_allclose(context.shuffled[1:], context.whole, atol=1e-5)
    assert context.cut[0] > context.whole + 0.05
    assert context.shuffled[0] > context.whole + 0.05
    assert context.used == 2


def test_whole_history_has_the_entropy_rate_of_the_source(
    source: Subject, tables: np.ndarray
) -> None:
    rate = planted.entropy_rate(tables)
    text = source.vocab.decode(np.concatenate([source.warmup, source.ids]).tolist())
    assert source.model.score(text).nats == pytest.approx(rate, abs=0.03)
    context = measure(source)
    # Over 256 places the mean of -ln p has a standard error of about 0.05.
    assert context.whole == pytest.approx(rate, abs=0.2)


def test_closing_marks_are_binned_by_the_distance_from_their_opening() -> None:
    text = '(ab)  "x" ((a) )\n\n)'
    bits = np.arange(1.0, len(text) + 1)
    bits[0] = math.nan
    told = {(mark, least): (n, p) for mark, least, n, p in closings(text, bits)}
    # The inner bracket of ((a) replaces the outer one; the last one was closed by the empty line.
    assert told == {
        (")", 1): (2, (2.0**-4 + 2.0**-14) / 2),
        ('"', 1): (1, 2.0**-9),
    }


def test_text_that_is_too_short_is_refused(source: Subject) -> None:
    with pytest.raises(CharlstmError, match="8 at least"):
        measure(Subject(source.model, source.ids[:7], source.warmup))


@pytest.mark.parametrize("length", [8, 30, 100])
def test_short_text_is_measured_over_short_histories(source: Subject, length: int) -> None:
    context = measure(Subject(source.model, source.ids[:length], source.warmup))
    assert context.lengths[-1] <= length // 4
    assert np.isfinite(context.cut).all()
    assert context.places >= 1
