"""What a text may contain: banned characters, and a regular expression that all of it matches.

The expression becomes an automaton over the symbols of the vocabulary. Each of its nodes knows how
many symbols the shortest completion needs, so a symbol is allowed only if the text can still be
completed within its length. A text therefore never runs into a dead end.
"""

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import UsageError, plural, require, shown
from charlstm.generate.expression import Expression, State
from charlstm.text.vocabulary import Ids, Vocabulary

NEVER = 2**62
"""Distance of a node from which no match can be completed."""
MAX_TABLE = 50_000_000
"""Most entries of the table of nodes and symbols, 4 bytes each."""
SHOWN = 40


class Node(NamedTuple):
    """A node of the automaton: how far a text has come."""

    state: State
    """State of the expression's automaton; empty if a stop sequence has to follow."""
    held: tuple[int, ...] = ()
    """The end of the text that may be the beginning of a stop sequence."""
    matched: tuple[bool, ...] = ()
    """For each symbol of ``held``, whether the text before it matches."""


STOPPED = Node(frozenset([-1]))
"""A stop sequence is complete, and the text before it matches."""


class Constraint:
    """The symbols that each of B texts may continue with.

    A text is at a node, and node 0 is the start; ``advance`` leads from node to node.

    Args:
        vocab: the symbols.
        match: regular expression, in the syntax of ``re``, that a text has to match, or "".
        ban: characters that a text must not contain.
        length: number of symbols of a text, or None for no limit.
        stops: stop sequences: one may end a text that matches.

    Raises:
        UsageError: the expression is malformed or unsupported, needs more symbols than ``length``,
            or needs characters that are not allowed; or all characters are banned.
    """

    def __init__(
        self,
        vocab: Vocabulary,
        match: str = "",
        ban: str = "",
        length: int | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        self._length = NEVER if length is None else length
        banned = banned_ids(vocab, ban)
        automaton = (
            _Automaton(vocab, match, banned, stops) if match else _Anything(len(vocab), banned)
        )
        self._next, self._distance = automaton.table, automaton.distances
        if match:
            self._check_possible(vocab)

    def allowed(self, nodes: NDArray[Any], written: int) -> NDArray[np.bool_]:
        """The symbols that may follow at ``nodes`` (B,), after ``written`` symbols: (B, V).

        A row without any belongs to a text that is complete.
        """
        within: NDArray[np.bool_] = self._distance[self._next[nodes]] < self._length - written
        return within

    def advance(self, nodes: NDArray[Any], ids: Ids) -> NDArray[Any]:
        """The nodes (B,) that ``ids`` (B,) lead to."""
        following: NDArray[Any] = self._next[nodes, ids]
        return following

    def _check_possible(self, vocab: Vocabulary) -> None:
        shortest = int(self._distance[0])
        if shortest == NEVER:
            reached = vocab.decode(self._farthest())
            raise UsageError(
                f"`match` cannot be matched: after {shown(reached[-SHOWN:])} it needs a character "
                "that the model never saw, or that `ban` or a stop sequence excludes",
                "change the expression",
            )
        if shortest > self._length:
            unit = "byte" if vocab.kind == "bytes" else "character"
            raise UsageError(
                f"`match` needs at least {plural(shortest, unit)}, but `length` is {self._length}",
                "increase the length, or change the expression",
            )

    def _farthest(self) -> list[int]:
        """The ids that lead to one of the nodes farthest from the start."""
        came_from: dict[int, tuple[int, int]] = {0: (0, -1)}
        queue, node = deque([0]), 0
        while queue:
            node = queue.popleft()
            for symbol, target in enumerate(self._next[node].tolist()):
                if target not in came_from and target != len(self._next) - 1:
                    came_from[target] = (node, symbol)
                    queue.append(target)
        ids: list[int] = []
        while node:
            node, symbol = came_from[node]
            ids.append(symbol)
        return ids[::-1]


def banned_ids(vocab: Vocabulary, ban: str) -> set[int]:
    """The ids of the characters in ``ban``; characters that the model never writes are ignored.

    Raises:
        UsageError: all symbols are banned, or a character is several symbols of the model: bytes,
            or a letter and its accent.
    """
    import unicodedata  # rarely needed

    if vocab.kind == "bytes" and not ban.isascii():
        raise UsageError(
            f"`ban` is {shown(ban)}, but a model of bytes can ban only ASCII characters",
            "exclude it with `match`",
        )
    form = vocab.known_form(ban)
    require(
        len(unicodedata.normalize("NFC", form)) == len(form),
        f"`ban` is {shown(ban)}, but this model has letters and accents as separate characters",
        "ban the accent alone, or exclude the letter with `match`",
    )
    banned = set(vocab.encode(form, "skip").tolist())
    require(len(banned) < len(vocab), "`ban` excludes every character that the model knows")
    return banned


class _Anything:
    """The automaton of texts without a ``match``: one node, which every allowed symbol keeps."""

    def __init__(self, vocab_size: int, banned: set[int]) -> None:
        self.table = np.zeros((2, vocab_size), np.int32)
        self.table[0, list(banned)] = self.table[1] = 1
        self.distances = np.array([0, NEVER])


class _Automaton:
    """The nodes that are reachable from the start, their successors and distances."""

    table: NDArray[np.int32]
    """(N + 1, V): the node that a symbol leads to. Node N has no way out."""
    distances: NDArray[np.int64]
    """(N + 1,): number of symbols of the shortest completion."""

    def __init__(
        self, vocab: Vocabulary, match: str, banned: set[int], stops: Sequence[str]
    ) -> None:
        self._expression = Expression(match, None if vocab.kind == "bytes" else vocab.symbols)
        self._symbols = set(range(len(vocab))) - banned
        known = [stop for stop in stops if not vocab.unknown(stop)]
        self._stops = [tuple(vocab.encode(stop).tolist()) for stop in known]
        self._letters = {symbol for stop in self._stops for symbol in stop} & self._symbols
        nodes, rows = self._explore(Node(self._expression.start), len(vocab))
        self.table = np.array([*rows, np.full(len(vocab), -1)], np.int32)
        self.table[self.table < 0] = len(nodes)
        self.distances = _distances(
            self.table,
            [n for n, node in enumerate(nodes) if node == STOPPED or self._accepts(node.state)],
        )

    def _explore(self, start: Node, vocab_size: int) -> tuple[list[Node], list[NDArray[np.int32]]]:
        number, nodes = {start: 0}, [start]
        rows: list[NDArray[np.int32]] = []

        def number_of(node: Node) -> int:
            if node not in number:
                number[node] = len(nodes)
                nodes.append(node)
            return number[node]

        for node in nodes:  # grows meanwhile
            row = np.full(vocab_size, -1, np.int32)
            if node != STOPPED:
                symbols, states, which = self._successors(node.state)
                row[symbols] = np.array([number_of(Node(s)) for s in states], np.int32)[which]
                for symbol in self._letters:
                    if (target := self._after_letter(node, symbol)) is not None:
                        row[symbol] = number_of(target)
            rows.append(row)
            if len(rows) * vocab_size > MAX_TABLE:
                raise UsageError("`match` needs too many states", "use a simpler expression")
        return nodes, rows

    def _accepts(self, state: State) -> bool:
        return self._expression.accepts(state)

    @cache  # noqa: B019  lives as long as the automaton, which is short
    def _following(self, state: State) -> tuple[list[State], NDArray[np.intp]]:
        return self._expression.following(state)

    def _successors(self, state: State) -> tuple[list[int], list[State], NDArray[np.intp]]:
        """Symbols that no stop sequence has, the different states that follow, and which does."""
        states, which = self._following(state)
        symbols = [s for s in sorted(self._symbols - self._letters) if states[which[s]]]
        return symbols, states, which[symbols]

    def _after_letter(self, node: Node, symbol: int) -> Node | None:
        """The node after a symbol of a stop sequence, as ``StopFilter`` would see it."""
        states, which = self._following(node.state)
        state = states[which[symbol]]
        held = (*node.held, symbol)
        matched = (*node.matched, self._accepts(node.state))
        complete = [len(stop) for stop in self._stops if held[-len(stop) :] == stop]
        if complete:
            return STOPPED if matched[-max(complete)] else None
        keep = next(
            n
            for n in range(len(held), -1, -1)
            if any(len(stop) > n and stop[:n] == held[len(held) - n :] for stop in self._stops)
        )
        held, matched = held[len(held) - keep :], matched[len(matched) - keep :]
        return None if not state and not any(matched) else Node(state, held, matched)


def _distances(table: NDArray[np.int32], accepting: Sequence[int]) -> NDArray[np.int64]:
    """The number of symbols from each node to the nearest accepting one: (N + 1,)."""
    before: list[list[int]] = [[] for _ in table]
    for node, row in enumerate(table[:-1]):
        for target in np.unique(row).tolist():
            before[target].append(node)
    distances = np.full(len(table), NEVER, np.int64)
    distances[list(accepting)] = 0
    queue = deque(accepting)
    while queue:
        target = queue.popleft()
        for node in before[target]:
            if distances[node] == NEVER:
                distances[node] = distances[target] + 1
                queue.append(node)
    return distances
