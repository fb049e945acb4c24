"""Tasks that measure memory, with texts whose possible continuations are known.

Each task samples strings from a grammar that needs a longer memory as its ``lag`` grows. A model
solves it when its predictions agree with the grammar on unseen strings.
docs/research/studies.md gives papers, criteria and results.

Shapes: T characters, B texts in a batch, V vocabulary.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import require
from charlstm.study.grammars import (
    PADDING,
    String,
    a_n_b_n,
    brackets,
    counting,
    embedded_reber,
    fillers,
    long_lag,
    temporal_order,
)
from charlstm.text.vocabulary import Ids, Vocabulary, code_points

WARMUP = 200
"""Characters at the start of a stream that are not scored: training sees a zero state only once."""
MOST_LAG = 300
"""A lag of 1,000 took more than 8 GB for texts and tests."""


@dataclass(frozen=True)
class Task:
    """A family of grammars, one for each lag."""

    name: str
    draw: Callable[[random.Random, int], String]
    """Samples a string for a lag."""
    symbols: Callable[[int], str]
    """All characters of the strings for a lag."""
    lags: tuple[int, ...]
    """Lags tried by default."""
    least_lag: int
    lag_is: str
    paper: str
    width: Callable[[int], int] | None = None
    """Characters of a row, which holds one string and is read from zero state. None: strings follow
    each other and the state is never reset."""
    batch: int = 16
    """Batch size in rows or streams. 1, as in the papers, if only one character of a long string
    matters: docs/research/studies.md shows the effect."""
    threshold: float | None = None
    """Probability that the legal symbol must exceed; None: every legal symbol must be more probable
    than every other symbol."""
    criterion: str = "after every character, the legal symbols are the most probable"
    numbered: Callable[[int], String] | None = None
    """The string of each n from 1 on, for tasks with numbered strings: a model is tested on those
    up to twice the lag instead of on random strings."""

    def vocabulary(self, lag: int) -> Vocabulary:
        """The vocabulary of the texts for a lag."""
        return Vocabulary("".join(sorted({*self.symbols(lag), PADDING})))

    def check_lag(self, lag: int) -> None:
        """Raise ``UsageError`` if the lag is out of range."""
        require(
            lag >= self.least_lag,
            f"the lag is {lag}, too short for {self.name}",
            f"use at least {self.least_lag}; it is {self.lag_is}",
        )
        require(
            lag <= MOST_LAG,
            f"the lag is {lag}, which is too long",
            f"use at most {MOST_LAG:,}, because texts and tests grow with it",
        )


@dataclass(frozen=True)
class Examples:
    """A test set."""

    ids: Ids
    """(T + 1, B); the last character is only predicted, not read."""
    legal: NDArray[np.bool_]
    """(T, B, V) which symbols may follow each character; all False where nothing is scored."""


def training_text(task: Task, lag: int, seed: int, characters: int) -> str:
    """At least ``characters`` characters of strings, in whole rows if the task has rows."""
    rng = random.Random(f"{task.name} {lag} {seed} train")
    pieces, length = [], 0
    for string in _strings(task, lag, rng):
        pieces.append(string.text)
        length += len(string.text)
        if length >= characters:
            break
    return "".join(pieces)


def examples(task: Task, lag: int, seed: int, count: int, characters: int) -> Examples:
    """``count`` test texts, sampled independently of training texts: rows, or long streams.

    ``characters`` is the scored length of a stream, after its warm-up.
    """
    rng = random.Random(f"{task.name} {lag} {seed} test")
    strings = _strings(task, lag, rng)
    return encode(task, lag, [_reading(task, strings, characters) for _ in range(count)])


def _reading(task: Task, strings: Iterator[String], characters: int) -> String:
    """One row, or a stream of strings cut after ``characters`` scored ones."""
    if task.width is not None:
        return next(strings)
    text, legal = "", list[str]()
    while len(text) <= WARMUP + characters:
        string = next(strings)
        text += string.text
        legal += string.legal
    end = WARMUP + characters + 1
    return String(text[:end], ("",) * WARMUP + tuple(legal[WARMUP:end]))


def _strings(task: Task, lag: int, rng: random.Random) -> Iterator[String]:
    """An endless sequence of strings, padded to rows if the task has rows."""
    while True:
        string = task.draw(rng, lag)
        if task.width is None:
            yield string
        elif len(string.text) < (width := task.width(lag)):
            yield _padded(string, width)


def _padded(string: String, width: int) -> String:
    """A string padded to a row; the padding is not scored."""
    rest = width - len(string.text)
    return String(string.text + PADDING * rest, (*string.legal[:-1], *("",) * (rest + 1)))


def numbered_examples(task: Task, lag: int, most: int) -> Examples:
    """The strings of n = 1 to ``most``; text n - 1 is the one of n."""
    assert task.numbered is not None
    strings = [task.numbered(n) for n in range(1, most + 1)]
    width = max(len(string.text) for string in strings)
    return encode(task, lag, [_padded(string, width) for string in strings])


def encode(task: Task, lag: int, strings: list[String]) -> Examples:
    """Strings of equal length as arrays."""
    vocab = task.vocabulary(lag)
    ids = np.stack([vocab.encode(string.text) for string in strings], axis=1)
    masks = {
        legal: np.isin(code_points(vocab.symbols), code_points(legal))
        for string in strings
        for legal in set(string.legal)
    }
    legal = np.array([[masks[after] for after in string.legal[:-1]] for string in strings])
    return Examples(ids, legal.swapaxes(0, 1))


def is_right(
    logits: NDArray[np.floating], legal: NDArray[np.bool_], threshold: float | None
) -> NDArray[np.bool_]:
    """Which predictions meet a task's criterion.

    Args:
        logits: (T, B, V).
        legal: (T, B, V); where nothing is legal, every prediction is correct.
        threshold: as ``Task.threshold``.

    Returns:
        (T, B)
    """
    if threshold is None:
        least_legal = np.where(legal, logits, np.inf).min(axis=-1)
        right: NDArray[np.bool_] = least_legal > np.where(legal, -np.inf, logits).max(axis=-1)
    else:
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        fraction = (weights * legal).sum(axis=-1) / weights.sum(axis=-1)
        right = fraction > threshold
    return right | ~legal.any(axis=-1)


_FINAL = "the last symbol has a probability above"

TASKS = {
    task.name: task
    for task in (
        Task(
            name="reber",
            draw=embedded_reber,
            symbols=lambda _: "BTPSXVE",
            lags=(8, 16, 32, 64),
            least_lag=6,
            lag_is="the mean length of the inner string, 8 in the original grammar",
            width=lambda lag: 3 * lag + 5,
            batch=1,
            paper="Hochreiter & Schmidhuber 1997, experiment 1",
        ),
        Task(
            name="continual-reber",
            draw=embedded_reber,
            symbols=lambda _: "BTPSXVE",
            lags=(8, 16, 32),
            least_lag=6,
            lag_is="the mean length of the inner strings, 8 in the original grammar",
            paper="Gers, Schmidhuber & Cummins 2000",
        ),
        Task(
            name="long-lag",
            draw=long_lag,
            symbols=lambda lag: "xy" + fillers(lag),
            lags=(10, 50, 100, 200),
            least_lag=2,
            lag_is="the distance in characters from the symbol to remember to where it is needed",
            width=lambda lag: lag + 2,
            batch=1,
            threshold=0.75,
            criterion=f"{_FINAL} 0.75, as has every other symbol after the first",
            paper="Hochreiter & Schmidhuber 1997, experiment 2a",
        ),
        Task(
            name="temporal-order",
            draw=temporal_order,
            symbols=lambda _: "EBabcdXYQRSU",
            lags=(20, 50, 100),
            least_lag=10,
            lag_is="the minimum length of a string, 100 in the paper",
            width=lambda lag: lag + lag // 10 + 2,
            batch=1,
            threshold=0.7,
            criterion=f"{_FINAL} 0.7",
            paper="Hochreiter & Schmidhuber 1997, experiment 6a",
        ),
        Task(
            name="anbn",
            draw=counting,
            symbols=lambda _: "ab",
            lags=(5, 10, 20),
            least_lag=1,
            lag_is="the largest n of the training strings a^n b^n",
            width=lambda lag: 2 * lag + 2,
            criterion="after each b, the legal symbol is the most probable, for all n up to twice "
            "the largest in training",
            paper="Gers & Schmidhuber 2001",
            numbered=a_n_b_n,
        ),
        Task(
            name="brackets",
            draw=brackets,
            symbols=lambda _: "()[]",
            lags=(2, 4, 6),
            least_lag=1,
            lag_is="the maximum nesting depth",
            paper="after Hewitt et al. 2020: two kinds of brackets, bounded depth",
        ),
    )
}
