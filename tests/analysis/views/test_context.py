"""``context``: a source of known order and entropy rate, and marks whose positions are known."""

import math

import numpy as np
import planted
import pytest
from numpy.testing import assert_allclose

from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.views.context import NEAR, Context, closings, losses_after, measure, view
from charlstm.errors import CharlstmError

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
    # Over 1,024 positions the mean of -ln p has a standard error of about 0.03.
    assert context.whole == pytest.approx(rate, abs=0.1)


def made(differences: list[float], errors: list[float]) -> Context:
    """Losses that differ so much from the whole, for histories of 1, 2, 4 … characters."""
    count = len(differences)
    lengths = tuple(2**n for n in range(count))
    cut = 1.3 + np.array(differences)
    return Context(lengths, (1000,) * count, cut, np.array(errors), cut, 128, 1.3, ())


@pytest.mark.parametrize(
    ("differences", "errors", "used"),
    [
        ([0.5, 0.1, 0.009, 0.0], [0.0] * 4, 4),
        ([0.5, -0.02, 0.009, 0.0], [0.0] * 4, 4),  # better than the whole is not the whole
        ([0.5, 0.0, -0.02, 0.0], [0.0] * 4, 8),
        ([0.5, 0.0, 0.02, 0.0], [0.0] * 4, 8),
        ([0.5, 0.0, 0.001, 0.0], [0.1, 0.01, 0.004, 0.0], 4),
        ([0.5, 0.0, 0.001, 0.0], [0.1, 0.01, 0.005, 0.0], 8),
        ([0.5, 0.1, 0.1, 0.1], [0.0] * 4, None),
        ([0.0, 0.0], [0.006] * 2, None),
    ],
)
def test_history_is_enough_where_two_standard_errors_are_within_the_limit_from_there_on(
    differences: list[float], errors: list[float], used: int | None
) -> None:
    assert NEAR == 0.01
    assert made(differences, errors).used == used


def test_errors_are_those_of_the_differences_at_the_same_places(source: Subject) -> None:
    ids, engine = source.ids[:700], source.engine
    context = measure(Subject(source.model, ids, source.warmup))
    positions = np.arange(256, 700)  # 128 before in disorder, 128 in order: all that are left
    assert context.positions == (len(positions),) * len(context.lengths)
    whole = losses_after(engine, ids, positions, 100, engine.initial_state(len(positions)))
    cut = losses_after(engine, ids, positions, 1, engine.initial_state(len(positions)))
    expected = (cut - whole).std(ddof=1) / np.sqrt(len(positions))
    assert context.errors[0] == pytest.approx(expected, rel=1e-3)
    assert context.cut[0] == pytest.approx(cut.mean(), abs=1e-5)


def test_long_histories_are_tried_at_fewer_places_and_compared_with_the_same_whole(
    source: Subject,
) -> None:
    context = measure(source)
    assert context.positions == (1024,) * 7 + (256,) * 2
    assert_allclose(context.cut[-2:], context.whole, atol=1e-5)
    assert_allclose(context.shuffled[-2:], context.whole, atol=1e-5)


@pytest.mark.parametrize(("length", "before"), [(100, 16), (4000, 128)])
def test_number_of_shuffled_characters_is_reported(
    source: Subject, length: int, before: int
) -> None:
    shown = view(Subject(source.model, source.ids[:length], source.warmup), Options())
    assert shown.to_dict()["shuffled_before"] == before
    assert f"reads {before} of the text's characters" in str(planted.notes(shown.document()))


def test_closing_marks_are_binned_by_the_distance_from_their_opening() -> None:
    text = '(ab)  "x" ((a) )\n\n)'
    bits = np.arange(1.0, len(text) + 1)
    bits[0] = math.nan
    found = {(mark, least): (n, p) for mark, least, n, p in closings(text, bits)}
    # The inner bracket of ((a) replaces the outer one; the last one was closed by the empty line.
    assert found == {
        (")", 1): (2, (2.0**-4 + 2.0**-14) / 2),
        ('"', 1): (1, 2.0**-9),
    }


@pytest.mark.parametrize("text", ["“ab”", "«ab»", "„ab“", '"ab"', "(ab)", "[ab]", "{ab}"])
def test_every_pair_of_marks_is_counted(text: str) -> None:
    assert closings(text, np.ones(4)) == ((text[3], 1, 1, 0.5),)


def test_mark_that_opens_in_one_language_and_closes_in_another_is_either() -> None:
    found = {(mark, n) for mark, _, n, _ in closings("„a“ “b” „c“", np.ones(11))}
    assert found == {("“", 2), ("”", 1)}


def test_text_that_is_too_short_is_refused(source: Subject) -> None:
    with pytest.raises(CharlstmError, match="at least 8"):
        measure(Subject(source.model, source.ids[:7], source.warmup))


@pytest.mark.parametrize("length", [8, 30, 100])
def test_short_text_is_measured_over_short_histories(source: Subject, length: int) -> None:
    context = measure(Subject(source.model, source.ids[:length], source.warmup))
    assert context.lengths[-1] <= length // 4
    assert np.isfinite([context.cut, context.errors, context.shuffled]).all()
    assert min(context.positions) >= 4
