"""Tasks that measure a memory: texts of which it is known what may come next.

Each task draws strings from a grammar that needs a longer memory as its ``lag`` grows, and says
after each character which symbols may follow. A model has solved it when its predictions agree
with that on strings it never saw. docs/study.md gives papers, criteria and results.

Shapes: T characters, B texts side by side, V vocabulary.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import require
from charlstm.vocab import Ids, Vocabulary, code_points

PADDING = "\n"
"""What fills a row after its string."""
WARMUP = 200
"""Characters at the start of a stream that are not judged: training sees a zero state only once."""


@dataclass(frozen=True)
class String:
    """One string of a task."""

    text: str
    legal: tuple[str, ...]
    """After each character the symbols that may follow; empty where nothing is judged."""


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
    width: Callable[[int], int] | None
    """Characters of a row: each holds one string and is read from zero state. None: the strings
    follow each other, and the state is never reset."""
    threshold: float | None
    """What the legal symbol's probability must exceed; None: every legal symbol must be more
    probable than every other."""
    criterion: str
    paper: str
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
        share = (weights * legal).sum(axis=-1) / weights.sum(axis=-1)
        right = share > threshold
    return right | ~legal.any(axis=-1)


# -- Reber's grammar ---------------------------------------------------------------------------

# From each node the symbols that may come and where they lead; of the inner nodes' two, the first
# leads on within the string and the second towards its end.
_REBER: dict[int, tuple[tuple[str, int], ...]] = {
    0: (("B", 1),),
    1: (("T", 2), ("P", 3)),
    2: (("S", 2), ("X", 4)),
    3: (("T", 3), ("V", 5)),
    4: (("X", 3), ("S", 6)),
    5: (("P", 4), ("V", 6)),
    6: (("E", 7),),
}
_END = 7


def _first_share(node: int, stay: float) -> float:
    """The probability of a node's first symbol."""
    return 1.0 if len(_REBER[node]) == 1 else 0.5 if node == 1 else stay


def reber_length(stay: float) -> float:
    """The mean length of Reber strings whose inner nodes lead on with probability ``stay``.

    Solves n = 1 + P n over the nodes. The original grammar's even coin gives 8.
    """
    system = np.eye(_END)
    for node, edges in _REBER.items():
        first = _first_share(node, stay)
        for (_, target), share in zip(edges, (first, 1 - first), strict=False):
            if target != _END:
                system[node, target] -= share
    return float(np.linalg.solve(system, np.ones(_END))[0])


@cache
def _stay_for(length: int) -> float:
    """The ``stay`` at which Reber strings have this mean length."""
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reber_length(middle) < length else (low, middle)
    return low


def _embedded_reber(rng: random.Random, lag: int) -> String:
    """B, T or P, a Reber string, the same T or P once more, E."""
    outer = rng.choice("TP")
    text, legal, node = ["B", outer], ["TP", "B"], 0
    while node != _END:
        first = rng.random() < _first_share(node, _stay_for(lag))
        symbol, node = _REBER[node][0 if first else 1]
        text.append(symbol)
        legal.append(outer if node == _END else "".join(s for s, _ in _REBER[node]))
    return String("".join(text) + outer + "E", (*legal, "E", "B"))


# -- the other tasks ---------------------------------------------------------------------------


def _fillers(lag: int) -> str:
    """lag - 1 different characters that are not letters of a task."""
    return "".join(map(chr, range(0x4E00, 0x4E00 + lag - 1)))


def _long_lag(rng: random.Random, lag: int) -> String:
    """x or y, lag - 1 characters that are always the same, and the first one again."""
    edge, between = rng.choice("xy"), _fillers(lag)
    legal = (*between, edge, "")
    return String(edge + between + edge, legal)


_ORDERS = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}


def _temporal_order(rng: random.Random, lag: int) -> String:
    """E, letters that say nothing but for an X or Y at two places, B, and their order's name."""
    letters = rng.choices("abcd", k=rng.randint(lag, lag + lag // 10) - 2)
    order = rng.choice("XY") + rng.choice("XY")
    letters[rng.randint(lag // 10, lag // 5) - 1] = order[0]
    letters[rng.randint(lag // 2, lag * 3 // 5) - 1] = order[1]
    text = "E" + "".join(letters) + "B" + _ORDERS[order]
    return String(text, ("",) * (len(text) - 2) + (_ORDERS[order], ""))


def _a_n_b_n(n: int) -> String:
    """n times a, n times b, and the end; judged from the first b on."""
    text = "a" * n + "b" * n
    return String(text + PADDING, ("",) * n + (*text[n + 1 :], PADDING, ""))


def _counting(rng: random.Random, lag: int) -> String:
    return _a_n_b_n(rng.randint(1, lag))


_PAIRS = {"(": ")", "[": "]"}


def _brackets(rng: random.Random, lag: int) -> String:
    """Brackets of two kinds until all are closed, nested to a depth of ``lag`` at most."""
    text, legal, open_ = list[str](), list[str](), list[str]()
    while not text or open_:
        opens = not open_ or (len(open_) < lag and rng.random() < 0.5)
        if opens:
            text.append(rng.choice("(["))
            open_.append(_PAIRS[text[-1]])
        else:
            text.append(open_.pop())
        may_open = "([" if len(open_) < lag else ""
        legal.append(may_open + (open_[-1] if open_ else ""))
    return String("".join(text), tuple(legal))


_MOST_PROBABLE = "the legal symbols are the most probable ones, after every character"
_FINAL = "the last symbol has a probability above"

TASKS = {
    task.name: task
    for task in (
        Task(
            name="reber",
            draw=_embedded_reber,
            symbols=lambda _: "BTPSXVE",
            lags=(8, 16, 32, 64),
            least_lag=6,
            lag_is="the mean length of the inner string, 8 in the original grammar",
            width=lambda lag: 3 * lag + 5,
            threshold=None,
            criterion=_MOST_PROBABLE,
            paper="Hochreiter & Schmidhuber 1997, experiment 1",
        ),
        Task(
            name="continual-reber",
            draw=_embedded_reber,
            symbols=lambda _: "BTPSXVE",
            lags=(8, 16, 32),
            least_lag=6,
            lag_is="the mean length of the inner strings, 8 in the original grammar",
            width=None,
            threshold=None,
            criterion=_MOST_PROBABLE,
            paper="Gers, Schmidhuber & Cummins 2000",
        ),
        Task(
            name="long-lag",
            draw=_long_lag,
            symbols=lambda lag: "xy" + _fillers(lag),
            lags=(10, 50, 100, 200),
            least_lag=2,
            lag_is="the characters from the symbol to be remembered to where it is needed",
            width=lambda lag: lag + 2,
            threshold=0.75,
            criterion=f"{_FINAL} 0.75, and so has every other symbol after the first",
            paper="Hochreiter & Schmidhuber 1997, experiment 2a",
        ),
        Task(
            name="temporal-order",
            draw=_temporal_order,
            symbols=lambda _: "EBabcdXYQRSU",
            lags=(20, 50, 100),
            least_lag=10,
            lag_is="the least length of a string, 100 in the paper",
            width=lambda lag: lag + lag // 10 + 2,
            threshold=0.7,
            criterion=f"{_FINAL} 0.7",
            paper="Hochreiter & Schmidhuber 1997, experiment 6a",
        ),
        Task(
            name="anbn",
            draw=_counting,
            symbols=lambda _: "ab",
            lags=(5, 10, 20),
            least_lag=1,
            lag_is="the greatest n of the strings a^n b^n it is trained on",
            width=lambda lag: 2 * lag + 2,
            threshold=None,
            criterion="after each b the right symbol is the most probable, for all n up to twice "
            "the greatest trained on",
            paper="Gers & Schmidhuber 2001",
            numbered=_a_n_b_n,
        ),
        Task(
            name="brackets",
            draw=_brackets,
            symbols=lambda _: "()[]",
            lags=(2, 4, 6),
            least_lag=1,
            lag_is="how deep brackets are nested",
            width=None,
            threshold=None,
            criterion=_MOST_PROBABLE,
            paper="as Hewitt et al. 2020, two kinds of brackets of bounded depth",
        ),
    )
}
