"""The exception that users see, exit codes, and checks of arguments."""

import math
import sys
from collections.abc import Collection
from enum import IntEnum
from numbers import Integral, Real
from reprlib import Repr

LONGEST_WITHOUT_COMMAS = 10**6
LONGEST_WRITTEN = 10**30
"""Integers from here on are not written out in a message."""
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class ExitCode(IntEnum):
    """The exit code of a command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class CharlstmError(Exception):
    """An error that the user can fix.

    ``message`` gives the value and the limit, ``hint`` the remedy, and ``command`` a shell command
    that applies it, if there is one. Settings are named by their field in backticks:
    "`temperature` is -1". The command line prints the error on one line, with its options in place
    of the fields, and the command on a line of its own.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "", command: str = "") -> None:
        super().__init__(message, hint, command)
        self.message = message
        self.hint = hint
        self.command = command

    def __str__(self) -> str:
        text = f"{self.message}; {self.hint}" if self.hint else self.message
        return f"{text}\n{self.command}" if self.command else text


class UsageError(CharlstmError):
    """A setting out of range, or settings that contradict each other."""

    exit_code = ExitCode.USAGE


class AccessError(CharlstmError):
    """The system does not let this process read a file now; the file itself may be intact."""


def reason_of(error: Exception) -> str:
    """The system's description of an error, in lower case for use within a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def require(condition: bool, message: str, hint: str = "") -> None:
    """Raise ``UsageError(message, hint)`` unless ``condition`` holds."""
    if not condition:
        raise UsageError(message, hint)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ``UsageError`` unless ``value`` is one of ``choices``; the hint lists them."""
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{name} is {shown(value)}", f"choose one of {', '.join(choices)}")


def check_number(
    name: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    low_allowed: bool = True,
    hint: str = "",
) -> None:
    """Raise ``UsageError`` unless ``value`` is a finite number from ``low`` to ``high``.

    ``name`` begins the message: a field in backticks, or words. A number too large for a float
    is above every limit.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} is {shown(value)}, but must be a number", hint)
    try:
        number = float(
            value
        )  # float16 overflows when compared with a limit; fractions have no format
    except OverflowError:
        value, high = int(value), min(high, sys.float_info.max)
    else:
        value = value if isinstance(value, Integral) else number
    _check_limits(name, value, low, high, low_allowed, hint)


def check_integer(
    name: str, value: int, low: int, high: float = math.inf, *, hint: str = ""
) -> None:
    """Raise ``UsageError`` unless ``value`` is an integer from ``low`` to ``high``.

    It may be larger than any float.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} is {shown(value)}, but must be a whole number", hint)
    _check_limits(name, value, low, high, True, hint)


def _check_limits(
    name: str, value: float, low: float, high: float, low_allowed: bool, hint: str
) -> None:
    above = value >= low if low_allowed else value > low
    finite = isinstance(value, Integral) or math.isfinite(value)
    if finite and above and value <= high:
        return
    bound = "at least" if low_allowed else "above"
    limit = f"{bound} {_written(low)}"
    if high != math.inf:
        limit += f" and at most {_written(high)}"
    elif not finite:
        limit = f"a finite number, {limit}"
    raise UsageError(f"{name} is {_written(value)}, but must be {limit}", hint)


def shown(value: object) -> str:
    """``repr`` on one line, shortened if it is long."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # a whole number of thousands of digits has no repr
        return f"a very long {type(value).__name__}"


def plural(count: int, what: str) -> str:
    """``1 character``, ``1,200 characters``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _written(value: float) -> str:
    if isinstance(value, Integral):
        if abs(value) < LONGEST_WRITTEN:
            return f"{value:,}" if abs(value) >= LONGEST_WITHOUT_COMMAS else str(value)
        sign = "negative number" if value < 0 else "number"
        return f"a {sign} of more than {len(str(LONGEST_WRITTEN)) - 1} digits"
    return f"{value:g}" if float(f"{value:g}") == value else str(value)
