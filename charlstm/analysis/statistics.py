"""Statistics of autocorrelated series: AUC, circular-shift p-values, discoveries, errors."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 0.05
"""Accepted false discovery rate."""
LEAST_SHIFT = 0.02
"""The smallest shift of the null distribution, as a fraction of the text."""
UNITS_AT_ONCE = 32
BLOCK, FEWEST = 50, 10
"""Characters of a block, and the fewest blocks for a standard error of their means."""


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks (N, T) of the rows, ties sharing their mean, centred and of length 1.

    A constant row becomes zeros.
    """
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    rows, steps = values.shape
    first = np.ones((rows, steps), dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(first)
    ties = np.diff(starts, append=first.size)
    means = starts % steps + ties / 2 - steps / 2
    result = np.empty((rows, steps))
    np.put_along_axis(result, order, np.repeat(means, ties).reshape(rows, steps), axis=1)
    length = np.sqrt((result**2).sum(axis=1, keepdims=True))
    return result / np.where(length > 0, length, 1)


def auc(values: NDArray[np.floating], labels: NDArray[np.float64]) -> float:
    """How often a value (T,) is higher where the label is 1 than where it is 0; ties count half."""
    ones = labels > 0
    ordered = np.sort(values[~ones])
    below = np.searchsorted(ordered, values[ones], "left")
    up_to = np.searchsorted(ordered, values[ones], "right")
    return float((below + up_to).mean() / 2 / len(ordered))


def is_frequent(values: NDArray[np.float64], least: int) -> bool:
    """Whether at least ``least`` values (T,) differ from the most common one."""
    return len(values) - int(np.unique(values, return_counts=True)[1].max(initial=0)) >= least


def smooth_length(longest: int) -> int:
    """The largest number up to ``longest`` whose prime factors are 2, 3 and 5: a fast FFT."""
    best = 1
    five = 1
    while five <= longest:
        three = five
        while three <= longest:
            best = max(best, three << (longest // three).bit_length() - 1)
            three *= 3
        five *= 5
    return best


def shifted_p(
    values: NDArray[np.floating],
    features: NDArray[np.float64],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rank correlations (N, F) of units (N, T) and features (F, T), and their p-values.

    p is the fraction of circular shifts, including none, whose correlation is at least as large in
    size. All shifts at once are a product of Fourier transforms.
    """
    count, steps = values.shape
    least = max(1, int(LEAST_SHIFT * steps))
    known = ranks(features)
    transformed = np.conj(np.fft.rfft(known, axis=1))
    rho = np.empty((count, len(features)))
    p = np.empty_like(rho)
    for start in range(0, count, UNITS_AT_ONCE):
        some = slice(start, start + UNITS_AT_ONCE)
        units = ranks(values[some])
        rho[some] = units @ known.T
        spectra = np.fft.rfft(units, axis=1)
        for f in range(len(features)):
            shifted = np.fft.irfft(spectra * transformed[f], n=steps, axis=1)
            null = np.abs(shifted[:, least : steps - least + 1])
            reached = (null >= np.abs(rho[some, f, None]) - 1e-12).sum(axis=1)
            p[some, f] = (1 + reached) / (1 + null.shape[1])
        progress(min(count, start + UNITS_AT_ONCE))
    return rho, p


def discoveries(p: NDArray[np.float64], rate: float = RATE) -> NDArray[np.bool_]:
    """Which of the p-values pass the step-up procedure of Benjamini & Hochberg."""
    flat = np.sort(p, axis=None)
    passed = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / flat.size)
    return p <= flat[passed[-1]] if len(passed) else np.zeros(p.shape, dtype=bool)


def block_errors(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) standard errors of the means of N series (N, T), from the means of their blocks.

    Neighbouring values depend on each other; blocks hardly do. NaN if there are too few blocks.
    """
    count = values.shape[1] // BLOCK
    if count < FEWEST:
        return np.full(len(values), np.nan)
    means = values[:, : count * BLOCK].reshape(len(values), count, BLOCK).mean(axis=2)
    errors: NDArray[np.float64] = means.std(axis=1, ddof=1) / np.sqrt(count)
    return errors
