"""Tasks that measure a memory: texts of which it is known what may come next.

Each task draws strings from a grammar that needs a longer memory as its ``lag`` grows. A model
has solved it when its predictions agree with the grammar on strings it never saw.
docs/research/studies.md gives papers, criteria and results.

Shapes: T characters, B texts side by side, V vocabulary.
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
"""Characters at the start of a stream that are not judged: training sees a zero state only once."""
MOST_LAG = 300
"""With 1,000, texts and tests took more than 8 GB."""


@dataclass(frozen=True)
class Task:
    """A family of grammars, one for each lag."""

    name: str
    draw: Callable[[random.Random, int], String]
    """A string of a lag."""
    symbols: Callable[[int], str]
    """All characters of a lag's strings."""
    lags: tuple[int, ...]
    """Those that are tried when none are given."""
    least_lag: int
    lag_is: str
    paper: str
    width: Callable[[int], int] | None = None
    """Characters of a row: each holds one string and is read from zero state. None: the strings
    follow each other, and the state is never reset."""
    batch: int = 16
    """Rows or streams that a step of training reads. 1, as in the papers, where a string is long
    and one of its characters matters: docs/research/studies.md has what that makes."""
    threshold: float | None = None
    """What the legal symbol's probability must exceed; None: every legal symbol must be more
    probable than every other."""
    criterion: str = "the legal symbols are the most probable ones, after every character"
    numbered: Callable[[int], String] | None = None
    """The string of each n from 1 on, where a task has such: a model is judged by those up to
    twice the lag instead of by strings that are drawn."""

    def vocabulary(self, lag: int) -> Vocabulary:
        """The symbols of a lag's texts."""
        return Vocabulary("".join(sorted({*self.symbols(lag), PADDING})))

    def check_lag(self, lag: int) -> None:
        """Raise ``UsageError`` if there is no such grammar."""
        require(
            lag >= self.least_lag,
            f"the lag {lag} is too short for {self.name}",
            f"give {self.least_lag} at least: {self.lag_is}",
        )
        require(
            lag <= MOST_LAG,
            f"the lag {lag} is too long",
            f"give {MOST_LAG:,} at most: texts and tests grow with it",
        )


@dataclass(frozen=True)
class Examples:
    """Texts to judge a model by."""

    ids: Ids
    """(T + 1, B); the last character is only predicted."""
    legal: NDArray[np.bool_]
    """(T, B, V): what may follow each character; all False where nothing is judged."""


def training_text(task: Task, lag: int, seed: int, characters: int) -> str:
    """At least ``characters`` characters of strings, whole rows where the task has rows."""
    rng = random.Random(f"{task.name} {lag} {seed} train")
    pieces, length = [], 0
    for string in _strings(task, lag, rng):
        pieces.append(string.text)
        length += len(string.text)
        if length >= characters:
            break
    return "".join(pieces)


def examples(task: Task, lag: int, seed: int, count: int, characters: int) -> Examples:
    """``count`` texts that no training text was drawn with: a row each, or long streams.

    ``characters`` is what is judged of a stream, after its warm-up.
    """
    rng = random.Random(f"{task.name} {lag} {seed} test")
    strings = _strings(task, lag, rng)
    return encode(task, lag, [_reading(task, strings, characters) for _ in range(count)])


def _reading(task: Task, strings: Iterator[String], characters: int) -> String:
    """One row, or strings until there are more than ``characters``, cut there."""
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
    """Strings without end; those of a task with rows fill their row."""
    while True:
        string = task.draw(rng, lag)
        if task.width is None:
            yield string
        elif len(string.text) < (width := task.width(lag)):
            yield _padded(string, width)


def _padded(string: String, width: int) -> String:
    """A string in a row of its own; what comes after it is not judged."""
    rest = width - len(string.text)
    return String(string.text + PADDING * rest, (*string.legal[:-1], *("",) * (rest + 1)))


def numbered_examples(task: Task, lag: int, most: int) -> Examples:
    """The strings of n = 1 to ``most``, text n - 1 being that of n."""
    assert task.numbered is not None
    strings = [task.numbered(n) for n in range(1, most + 1)]
    width = max(len(string.text) for string in strings)
    return encode(task, lag, [_padded(string, width) for string in strings])


def encode(task: Task, lag: int, strings: list[String]) -> Examples:
    """Strings of one length as arrays."""
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
    """Whether the predictions meet a task's criterion.

    Args:
        logits: (T, B, V).
        legal: (T, B, V); where nothing is legal, all is right.
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
            lag_is="the characters from the symbol to be remembered to where it is needed",
            width=lambda lag: lag + 2,
            batch=1,
            threshold=0.75,
            criterion=f"{_FINAL} 0.75, and so has every other symbol after the first",
            paper="Hochreiter & Schmidhuber 1997, experiment 2a",
        ),
        Task(
            name="temporal-order",
            draw=temporal_order,
            symbols=lambda _: "EBabcdXYQRSU",
            lags=(20, 50, 100),
            least_lag=10,
            lag_is="the least length of a string, 100 in the paper",
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
            lag_is="the greatest n of the strings a^n b^n it is trained on",
            width=lambda lag: 2 * lag + 2,
            criterion="after each b the right symbol is the most probable, for all n up to twice "
            "the greatest trained on",
            paper="Gers & Schmidhuber 2001",
            numbered=a_n_b_n,
        ),
        Task(
            name="brackets",
            draw=brackets,
            symbols=lambda _: "()[]",
            lags=(2, 4, 6),
            least_lag=1,
            lag_is="how deep brackets are nested",
            paper="as Hewitt et al. 2020, two kinds of brackets of bounded depth",
        ),
    )
}
