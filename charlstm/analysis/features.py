"""Features of a text that a unit may track, with a value for each character.

Each value is known once the character is read: an opening quotation mark is inside the quotation,
the closing one outside. Only ``newline soon`` looks ahead.
"""

import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import UsageError, require, shown
from charlstm.text.marks import BRACKETS, PUNCTUATION, QUOTES

Values = NDArray[np.float64]
SOON = 5
"""Characters ahead that count as soon."""

LONGEST_SEARCH = 20
"""CPU seconds allowed for a user's expression; matching a long text takes well under one."""


@dataclass(frozen=True)
class Feature:
    """A feature of a text of T characters."""

    name: str
    values: Values
    """(T,) 0 or 1, or counts."""
    is_count: bool = False


def features_of(text: str, own: Iterable[str] = ()) -> tuple[Feature, ...]:
    """The built-in features, and the user's ``own``, given as NAME=REGEX.

    Raises:
        UsageError: one of ``own`` is not NAME=REGEX, or its expression takes too long.
    """
    lines = text.split("\n")
    characters = np.array(list(text)) if text else np.array([], dtype="<U1")
    return (
        Feature("inside quotes", _inside_quotes(text)),
        Feature("bracket depth", _depth(text), is_count=True),
        Feature("position in line", _since(characters == "\n"), is_count=True),
        Feature("indentation", _indentation(lines), is_count=True),
        Feature("position in word", _since(~_each(text, str.isalnum)), is_count=True),
        Feature("capital", _each(text, str.isupper).astype(float)),
        Feature("newline soon", _soon(characters == "\n")),
        Feature("after punctuation", _after_punctuation(text)),
        Feature("digit", _each(text, str.isdigit).astype(float)),
        *(_own(text, definition) for definition in own),
    )


def _each(text: str, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
    return np.fromiter((holds(c) for c in text), dtype=np.bool_, count=len(text))


def _inside_quotes(text: str) -> Values:
    """1 from an opening quotation mark up to the closing one; an empty line closes as well."""
    values = np.zeros(len(text))
    closing = ""
    for t, character in enumerate(text):
        if closing and (character == closing or text[t - 1 : t + 1] == "\n\n"):
            closing = ""
        elif not closing:
            closing = QUOTES.get(character, "")
        values[t] = bool(closing)
    return values


def _depth(text: str) -> Values:
    """Number of open brackets; an unmatched closing one is ignored, an empty line closes all."""
    values = np.zeros(len(text))
    depth = 0
    for t, character in enumerate(text):
        if character in BRACKETS:
            depth += 1
        elif character in BRACKETS.values():
            depth = max(0, depth - 1)
        elif text[t - 1 : t + 1] == "\n\n":
            depth = 0
        values[t] = depth
    return values


def _since(starts: NDArray[np.bool_]) -> Values:
    """Characters since the last start, which itself is 0; the text begins as if after one."""
    positions = np.arange(len(starts))
    last = np.maximum.accumulate(np.where(starts, positions, -1)) if len(starts) else positions
    return (positions - last).astype(float)


def _indentation(lines: list[str]) -> Values:
    """Blanks at the start of the line so far; a newline has the value of the line it ends."""
    values: list[float] = []
    for line in lines:
        width = len(line) - len(line.lstrip(" \t"))
        values += [min(read, width) for read in range(1, len(line) + 1)] + [width]
    return np.array(values[:-1], dtype=float)


def _soon(holds: NDArray[np.bool_]) -> Values:
    """1 where ``holds`` is true of one of the next ``SOON`` characters."""
    values = np.zeros(len(holds))
    for ahead in range(1, SOON + 1):
        values[:-ahead] = np.maximum(values[:-ahead], holds[ahead:])
    return values


def _after_punctuation(text: str) -> Values:
    """1 where the last nonblank character ends a phrase or a sentence."""
    values = np.zeros(len(text))
    marked = False
    for t, character in enumerate(text):
        if not character.isspace():
            marked = character in PUNCTUATION
        values[t] = marked
    return values


def _own(text: str, definition: str) -> Feature:
    hint = "use NAME=REGEX, for example 'vowel=[aeiou]'"
    require(isinstance(definition, str), f"`features` has {shown(definition)}, not text", hint)
    name, equals, expression = definition.partition("=")
    if not (name and equals and expression):
        raise UsageError(f"`features` has {shown(definition)}, which is not NAME=REGEX", hint)
    values = np.zeros(len(text))
    try:
        with _time_limit(name), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about syntax that Python may interpret differently in future
            for match in re.finditer(expression, text, re.MULTILINE):
                values[match.start() : match.end()] = 1
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        message = f"`features` has {name}, which is not a valid regular expression: {error}"
        raise UsageError(message, hint) from None
    return Feature(name, values)


@contextmanager
def _time_limit(name: str) -> Iterator[None]:
    """Raise ``UsageError`` if an expression needs more than ``LONGEST_SEARCH``.

    Some expressions, such as (a+)+$, try exponentially many ways to match. The limit needs the main
    thread and interval timers, which Windows lacks.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise UsageError(
            f"`features` has {name}, whose expression ran for more than {LONGEST_SEARCH} s",
            "avoid nested repetition such as (a+)+",
        )

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SEARCH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
