"""Signals: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop and save; Ctrl-Z suspends, fg continues."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Self

from charlstm.cli import echo
from charlstm.errors import ExitCode

SHOW_CURSOR = "\x1b[?25h"
STOPS = ("SIGTERM", "SIGHUP", "SIGUSR1")
"""Sent by the system, when the terminal is closed, and by batch systems before the time is up."""


@contextmanager
def stop_signals(request_stop: Callable[[], None], go_on: str | None) -> Iterator[None]:
    """Call ``request_stop`` at the first signal; at the second, print ``go_on`` and exit.

    ``go_on`` is the command that resumes the work; None ignores all but the first. A signal
    that was already ignored, as by nohup, stays ignored.
    """
    signals = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        request_stop()
        if signals > 1 and go_on is not None:
            _leave("stopped immediately; to resume:", go_on)

    with _handlers(handle, "SIGINT", *STOPS):
        yield


@contextmanager
def suspension(redraw: Callable[[], None]) -> Iterator[None]:
    """Turn echo off; Ctrl-Z restores echo and cursor for the shell.

    ``redraw`` is called when the process continues; it must be safe in a signal handler.
    """

    def suspend(number: int, frame: FrameType | None) -> None:
        echo.restore()
        _write_if_there_is_room(SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # waits here until SIGCONT
        signal.signal(number, suspend)

    def go_on(number: int, frame: FrameType | None) -> None:
        echo.disable()
        redraw()

    with _handlers(suspend, "SIGTSTP"), _handlers(go_on, "SIGCONT"):
        echo.disable()
        try:
            yield
        finally:
            echo.restore()


class Terminated(KeyboardInterrupt):
    """A signal of ``STOPS``, which ends the command even where Ctrl-C ends only a part of it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Make the signals of ``STOPS`` act like Ctrl-C, but raise ``Terminated``."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if number == getattr(signal, "SIGHUP", None):
            signal.signal(number, signal.SIG_IGN)  # a closed terminal sends it twice
        raise Terminated

    with _handlers(interrupt, *STOPS):
        yield


class WholePieces:
    """A context in which the signals of ``interruptible`` wait until a piece of text is complete.

    Otherwise a signal may come when a character is in the state, but not in the text.
    """

    def __init__(self) -> None:
        self._may_act = False
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}

    def __enter__(self) -> Self:
        numbers = [getattr(signal, name) for name in ("SIGINT", *STOPS) if hasattr(signal, name)]
        for number in numbers:
            if callable(handler := signal.getsignal(number)):
                self._before[number] = handler
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._act()

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """A piece is complete: a signal acts at once, because a flush may wait for a reader."""
        self._may_act = True
        try:
            self._act()
            yield
        finally:
            self._may_act = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._may_act:
            self._before[number](number, frame)
        else:
            self._waiting.append((number, frame))

    def _act(self) -> None:
        while self._waiting:
            number, frame = self._waiting.pop()
            self._before[number](number, frame)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals during a short critical section."""
    with _handlers(signal.SIG_IGN, "SIGINT", *STOPS):
        yield


@contextmanager
def _handlers(
    handle: Callable[[int, FrameType | None], object] | signal.Handlers, *names: str
) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(*lines: str) -> NoReturn:
    """Exit immediately, even if the terminal is stalled: unwinding would wait for it.

    A half-written checkpoint is removed by the next save.
    """
    from charlstm.show.printable import printable

    echo.restore()
    show_cursor = SHOW_CURSOR if os.isatty(2) else ""
    message = "\n".join(printable(line, keep="") for line in lines)
    _write_if_there_is_room(f"{show_cursor}\n{message}\n")
    os._exit(ExitCode.INTERRUPTED)


def _write_if_there_is_room(text: str) -> None:
    try:
        if os.name == "nt" or select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    except OSError:
        pass
