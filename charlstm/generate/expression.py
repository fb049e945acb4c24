"""A regular expression as an automaton over the symbols of a vocabulary.

Python's ``re`` parses the expression and decides which symbols each of its parts matches. The rest
is Thompson's construction: nodes joined by symbols and by empty steps, of which a state is a set.
Source: Thompson, "Regular Expression Search Algorithm", Communications of the ACM 11 (1968).
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import UsageError, shown

MAX_NODES = 100_000
BYTES, CODE_POINTS = 256, 0x110000
State = frozenset[int]
"""Nodes that the text so far may have led to; empty if no text that begins so can match."""
# re has no public parser. These two modules have kept their interface since Python 3.11.
_parser, _compiler = import_module("re._parser"), import_module("re._compiler")


@cache
def _all_characters() -> str:
    return "".join(map(chr, range(CODE_POINTS)))


def _without_anchors(tree: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The parts of an expression without the anchors at its ends: all of a text has to match."""
    parts = list(tree)
    for at, anchors in ((0, "AT_BEGINNING AT_BEGINNING_STRING"), (-1, "AT_END AT_END_STRING")):
        if parts and str(parts[at][0]) == "AT" and str(parts[at][1]) in anchors.split():
            del parts[at]
    return parts


class Expression:
    """The automaton of ``match`` over ``symbols``, one character each; None stands for 256 bytes.

    A text of bytes matches if what it encodes in UTF-8 does.

    Raises:
        UsageError: the expression is malformed, too large, or needs lookaround, a backreference, a
            word boundary or another feature that looks at more than one symbol.
    """

    start: State

    def __init__(self, match: str, symbols: Sequence[str] | None) -> None:
        self._match, self._of_bytes = match, symbols is None
        self._size = BYTES if symbols is None else len(symbols)
        self._alphabet = _all_characters() if symbols is None else "".join(symbols)
        self._empty: list[list[int]] = []
        self._leads: list[tuple[NDArray[np.bool_], int] | None] = []
        self._leaf = cache(self._leaf)  # type: ignore[method-assign]  # equal parts match equally
        self._end = self._node()
        try:
            with warnings.catch_warnings():  # re warns of what it may read differently one day
                warnings.simplefilter("ignore")
                tree = _parser.parse(match)
                first = self._sequence(_without_anchors(tree), tree.state.flags, self._end)
        except RecursionError:
            raise UsageError("`match` is nested too deeply", "use a simpler expression") from None
        except (re.error, OverflowError, ValueError) as error:  # flags that exclude each other
            raise UsageError(f"`match` is {shown(match)}: {error}") from None
        self.start = self._closure([first])

    def accepts(self, state: State) -> bool:
        """Whether a text that leads to ``state`` matches."""
        return self._end in state

    def following(self, state: State) -> tuple[list[State], NDArray[np.intp]]:
        """The states that follow, and for each symbol (V,) the index of the one it leads to."""
        leads = [lead for node in sorted(state) if (lead := self._leads[node]) is not None]
        if not leads:
            return [frozenset()], np.zeros(self._size, np.intp)
        matches = np.stack([symbols for symbols, _ in leads])
        columns, which = np.unique(matches, axis=1, return_inverse=True)
        states = [
            self._closure(target for (_, target), on in zip(leads, column, strict=True) if on)
            for column in columns.T
        ]
        return states, which.reshape(-1)

    def _closure(self, nodes: Iterable[int]) -> State:
        """The nodes that empty steps lead to from ``nodes``, and these."""
        reached, waiting = set[int](), list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += self._empty[node]
        return frozenset(n for n in reached if n == self._end or self._leads[n] is not None)

    def _node(
        self, empty: Iterable[int] = (), lead: tuple[NDArray[np.bool_], int] | None = None
    ) -> int:
        if len(self._empty) == MAX_NODES:
            raise UsageError("`match` needs too many states", "use a simpler expression")
        self._empty.append(list(empty))
        self._leads.append(lead)
        return len(self._empty) - 1

    def _sequence(self, parts: Iterable[tuple[Any, Any]], flags: int, after: int) -> int:
        """The node from which ``parts`` lead to the node ``after``."""
        for operator, argument in reversed(list(parts)):
            after = self._part(operator, argument, flags, after)
        return after

    def _part(self, operator: Any, argument: Any, flags: int, after: int) -> int:
        match str(operator):
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                key = tuple(argument) if isinstance(argument, list) else argument
                return self._symbol(self._leaf(operator, key, flags), after)
            case "SUBPATTERN":
                _, added, removed, parts = argument
                return self._sequence(parts, (flags | added) & ~removed, after)
            case "BRANCH":
                return self._node(self._sequence(one, flags, after) for one in argument[1])
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, parts = argument
                return self._repeat(least, most, parts, flags, after)
        raise UsageError(
            f"`match` is {shown(self._match)}: lookaround, backreferences, possessive repeats, \\b "
            "and anchors inside the expression are not supported",
            "the whole text has to match anyway",
        )

    def _repeat(self, least: int, most: int, parts: Any, flags: int, after: int) -> int:
        if str(most) == "MAXREPEAT":
            node = self._node()
            self._empty[node] = [self._sequence(parts, flags, node), after]
        else:
            node = after
            for _ in range(most - least):
                node = self._node([self._sequence(parts, flags, node), after])
        for _ in range(least):
            node = self._sequence(parts, flags, node)
        return node

    def _leaf(self, operator: Any, argument: Any, flags: int) -> NDArray[np.bool_]:
        """Which characters of the alphabet a part that stands for one character matches."""
        state = _parser.State()
        state.flags, state.str = flags, self._match
        part = list(argument) if str(operator) == "IN" else argument
        pattern = _compiler.compile(_parser.SubPattern(state, [(operator, part)]))
        matches = np.zeros(len(self._alphabet), np.bool_)
        matches[[found.start() for found in pattern.finditer(self._alphabet)]] = True
        return matches

    def _symbol(self, matches: NDArray[np.bool_], after: int) -> int:
        """The node from which the characters that ``matches`` marks lead to ``after``."""
        if not self._of_bytes:
            return self._node(lead=(matches, after))
        # UTF-8 has 1 to 4 bytes, and all after the first carry 6 bits. Surrogates have no encoding.
        limits = (0, 1 << 7, 1 << 11, 1 << 16, CODE_POINTS)
        shapes = ((-1,), (-1, 64), (-1, 64, 64), (-1, 64, 64, 64))
        ways = []
        for least, most, shape, first in zip(
            limits[:-1], limits[1:], shapes, (0, 0xC0, 0xE0, 0xF0), strict=True
        ):
            block = np.zeros(5 << 18 if most == CODE_POINTS else most, np.bool_)
            block[least:most] = matches[least:most]
            block[0xD800:0xE000] = False
            ways.append(self._bytes(block.reshape(shape), first, after))
        return self._node(ways)

    def _bytes(self, block: NDArray[np.bool_], first: int, after: int) -> int:
        """The node from which byte ``first`` + n leads to ``block[n]``, or to ``after``."""
        rows: dict[bytes, list[int]] = {}
        for number in np.flatnonzero(block.reshape(len(block), -1).any(1)).tolist():
            rows.setdefault(block[number].tobytes(), []).append(number)
        targets: list[int] = []
        for numbers in rows.values():
            row = block[numbers[0]]
            follows = np.zeros(BYTES, np.bool_)
            follows[first + np.array(numbers)] = True
            target = self._bytes(row, 0x80, after) if row.ndim else after
            targets.append(self._node(lead=(follows, target)))
        return self._node(targets)
