"""Statistics by hand, by brute force, and compared with SciPy and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.fft import prev_fast_len
from scipy.stats import false_discovery_control, rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from charlstm.analysis.statistics import (
    BLOCK,
    RATE,
    auc,
    block_errors,
    discoveries,
    ranks,
    shifted_p,
    smooth_length,
)

# Few different values, so that there are ties.
SERIES = st.lists(st.integers(0, 6), min_size=2, max_size=60)
P_VALUES = st.lists(st.integers(1, 997), min_size=1, max_size=60)
"""Counts of 997, a prime, so that no p-value is at a limit but for rounding."""


def test_ranks_share_ties_and_are_centred() -> None:
    row = ranks(np.array([[3.0, 1, 3, 2], [5, 5, 5, 5]]))
    expected = np.array([2.5, 0, 2.5, 1]) - 1.5
    assert_allclose(row[0], expected / np.sqrt((expected**2).sum()))
    assert not row[1].any()


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    values, labels = random.integers(0, 6, 40).astype(float), random.integers(0, 2, 40) * 1.0
    pairs = [(a > b) + 0.5 * (a == b) for a in values[labels == 1] for b in values[labels == 0]]
    assert auc(values, labels) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_p_is_the_share_of_shifts_as_by_brute_force() -> None:
    random = np.random.default_rng(1)
    units, labels = random.normal(size=(3, 100)), (random.random((2, 100)) < 0.4) * 1.0
    rho, p = shifted_p(units, labels)
    x, y = ranks(units), ranks(labels)
    for u in range(3):
        for f in range(2):
            null = [abs(x[u] @ np.roll(y[f], s)) for s in range(2, 99)]
            assert rho[u, f] == pytest.approx(x[u] @ y[f], abs=1e-12)
            reached = sum(n >= abs(rho[u, f]) - 1e-12 for n in null)
            assert p[u, f] == pytest.approx((1 + reached) / 98, abs=1e-12)


def test_step_up_procedure_of_the_paper() -> None:
    # The example of Benjamini & Hochberg (1995), section 3.3: four of fifteen at 5%.
    small = [1, 4, 19, 95, 201, 278, 298, 344, 459, 3240, 4262, 5719, 6528, 7590, 10_000]
    p = np.array(small) / 10_000
    assert discoveries(p, 0.05).sum() == 4


@given(SERIES)
def test_ranks_are_those_of_scipy_centred_and_of_length_one(values: list[int]) -> None:
    row = np.array(values, dtype=float)
    centred = rankdata(row) - (len(row) + 1) / 2
    length = np.sqrt((centred**2).sum())
    assert_allclose(ranks(row[None])[0], centred / (length or 1), atol=1e-12)


def test_rank_correlation_is_scipys() -> None:
    random = np.random.default_rng(3)
    units = random.normal(size=(3, 200))
    counts = random.integers(0, 5, (2, 200)).astype(float)
    rho, _ = shifted_p(units, counts)
    expected = [[spearmanr(unit, count).statistic for count in counts] for unit in units]
    assert_allclose(rho, expected, atol=1e-12)


@given(SERIES, st.randoms(use_true_random=False))
def test_auc_is_scikit_learns(values: list[int], random: object) -> None:
    labels = [0, 1] + [random.randint(0, 1) for _ in values[2:]]  # type: ignore[attr-defined]
    numbers, ones = np.array(values, dtype=float), np.array(labels, dtype=float)
    assert auc(numbers, ones) == pytest.approx(roc_auc_score(ones, numbers), abs=1e-12)


@given(P_VALUES, st.sampled_from([0.01, RATE, 0.2]))
def test_discoveries_are_scipys(counts: list[int], rate: float) -> None:
    p = np.array(counts) / 997
    assert_array_equal(discoveries(p, rate), false_discovery_control(p) <= rate)


def test_discoveries_of_a_table_are_those_of_all_its_values() -> None:
    p = np.random.default_rng(4).random((20, 6)) ** 3
    passed = false_discovery_control(p, axis=None) <= RATE
    assert 0 < passed.sum() < p.size
    assert_array_equal(discoveries(p).ravel(), passed)


@given(st.integers(1, 200_000))
def test_smooth_length_is_scipys(longest: int) -> None:
    assert smooth_length(longest) == prev_fast_len(longest, real=True)


def test_error_grows_where_neighbours_depend_on_each_other() -> None:
    random = np.random.default_rng(0)
    loose = random.normal(size=(40, 20 * BLOCK))
    tied = np.repeat(random.normal(size=(40, 20 * BLOCK // 10)), 10, axis=1)
    expected = (20 * BLOCK) ** -0.5
    assert block_errors(loose).mean() == pytest.approx(expected, rel=0.1)
    assert block_errors(tied).mean() == pytest.approx(expected * 10**0.5, rel=0.1)
