"""Grammars that require memory: after every character, which symbols may follow.

docs/research/studies.md cites the papers.
"""

import random
from dataclasses import dataclass
from functools import cache

import numpy as np

PADDING = "\n"
"""Fills a row after its string, and ends a string of a^n b^n."""


@dataclass(frozen=True)
class String:
    """One string of a grammar."""

    text: str
    legal: tuple[str, ...]
    """The symbols that may follow each character; empty where predictions are not scored."""


# From each node, the possible symbols and the nodes they lead to. Of the two at an inner node, the
# first stays within the string and the second leads towards its end.
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


def _first_probability(node: int, stay: float) -> float:
    """The probability of a node's first symbol."""
    return 1.0 if len(_REBER[node]) == 1 else 0.5 if node == 1 else stay


def reber_length(stay: float) -> float:
    """The mean length of Reber strings whose inner nodes stay inside with probability ``stay``.

    Solves n = 1 + P n over the nodes. With the original grammar's probability of 1/2 it is 8.
    """
    system = np.eye(_END)
    for node, edges in _REBER.items():
        first = _first_probability(node, stay)
        for (_, target), probability in zip(edges, (first, 1 - first), strict=False):
            if target != _END:
                system[node, target] -= probability
    return float(np.linalg.solve(system, np.ones(_END))[0])


@cache
def _stay_for(length: int) -> float:
    """The ``stay`` for which Reber strings have this mean length."""
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reber_length(middle) < length else (low, middle)
    return low


def embedded_reber(rng: random.Random, lag: int) -> String:
    """B, T or P, a Reber string, the same T or P again, E."""
    outer = rng.choice("TP")
    text, legal, node = ["B", outer], ["TP", "B"], 0
    while node != _END:
        first = rng.random() < _first_probability(node, _stay_for(lag))
        symbol, node = _REBER[node][0 if first else 1]
        text.append(symbol)
        legal.append(outer if node == _END else "".join(s for s, _ in _REBER[node]))
    return String("".join(text) + outer + "E", (*legal, "E", "B"))


def fillers(lag: int) -> str:
    """``lag - 1`` distinct characters that are not symbols of a task."""
    return "".join(map(chr, range(0x4E00, 0x4E00 + lag - 1)))


def long_lag(rng: random.Random, lag: int) -> String:
    """x or y, the same ``lag - 1`` characters every time, and the first one again."""
    edge, between = rng.choice("xy"), fillers(lag)
    legal = (*between, edge, "")
    return String(edge + between + edge, legal)


_ORDERS = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}


def temporal_order(rng: random.Random, lag: int) -> String:
    """E, random letters with an X or Y at two positions, B, and the symbol of their order."""
    letters = rng.choices("abcd", k=rng.randint(lag, lag + lag // 10) - 2)
    order = rng.choice("XY") + rng.choice("XY")
    letters[rng.randint(lag // 10, lag // 5) - 1] = order[0]
    letters[rng.randint(lag // 2, lag * 3 // 5) - 1] = order[1]
    text = "E" + "".join(letters) + "B" + _ORDERS[order]
    return String(text, ("",) * (len(text) - 2) + (_ORDERS[order], ""))


def a_n_b_n(n: int) -> String:
    """n times a, n times b, and the end; scored from the first b on."""
    text = "a" * n + "b" * n
    return String(text + PADDING, ("",) * n + (*text[n + 1 :], PADDING, ""))


def counting(rng: random.Random, lag: int) -> String:
    """``a_n_b_n`` of a random n of at most ``lag``."""
    return a_n_b_n(rng.randint(1, lag))


_PAIRS = {"(": ")", "[": "]"}


def brackets(rng: random.Random, lag: int) -> String:
    """Brackets of two kinds, until all are closed, nested at most ``lag`` deep."""
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
