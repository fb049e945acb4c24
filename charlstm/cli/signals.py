"""What signals do: Ctrl-C, SIGTERM and SIGHUP stop and save, Ctrl-Z and fg are survived."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from charlstm.cli import echo
from charlstm.errors import ExitCode

SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stop_signals(ask: Callable[[], None], go_on: str) -> Iterator[None]:
    """Call ``ask`` at the first signal; exit at once at the second, saying how to ``go_on``.

    A signal that was ignored before, as by nohup, stays ignored.
    """
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        ask()
        if asked > 1:
            _leave(f"stopped at once; go on with: {go_on}")

    with _handlers(handle, "SIGINT", "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def suspension(draw_anew: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keys are not echoed; Ctrl-Z gives echo and cursor back to the shell.

    ``draw_anew`` is called when the run goes on.
    """

    def suspend(number: int, frame: FrameType | None) -> None:
        echo.restore()
        _write_if_there_is_room(SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stands still here until SIGCONT
        signal.signal(number, suspend)

    def go_on(number: int, frame: FrameType | None) -> None:
        echo.disable()
        draw_anew()

    with _handlers(suspend, "SIGTSTP"), _handlers(go_on, "SIGCONT"):
        echo.disable()
        try:
            yield
        finally:
            echo.restore()


@contextmanager
def interruptible() -> Iterator[None]:
    """A closed terminal and SIGTERM end what is inside as Ctrl-C does."""
    with _handlers(signal.default_int_handler, "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What is inside is short, and is done whatever signal comes."""
    with _handlers(signal.SIG_IGN, "SIGINT", "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def _handlers(
    handle: Callable[[int, FrameType | None], object] | signal.Handlers, *names: str
) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(message: str) -> NoReturn:
    """Exit at once, even if the terminal takes nothing more: unwinding would wait for it.

    What a save left half-written is removed by the next one.
    """
    from charlstm.show.format import printable

    echo.restore()
    show_cursor = SHOW_CURSOR if os.isatty(2) else ""
    _write_if_there_is_room(f"{show_cursor}\n{printable(message, keep='')}\n")
    os._exit(ExitCode.INTERRUPTED)


def _write_if_there_is_room(text: str) -> None:
    try:
        if os.name == "nt" or select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    except OSError:
        pass
