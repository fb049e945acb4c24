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
def stop_signals(request_stop: Callable[[], None], go_on: str) -> Iterator[None]:
    """Call ``request_stop`` at the first signal; exit at once at the second.

    ``go_on`` is the command that goes on, which is then shown.

    A signal that was ignored before, as by nohup, stays ignored.
    """
    signals = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        request_stop()
        if signals > 1:
            _leave(f"stopped at once; go on with: {go_on}")

    with _handlers(handle, "SIGINT", "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def suspension(redraw: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keys are not echoed; Ctrl-Z gives echo and cursor back to the shell.

    ``redraw`` is called when the run goes on.
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


@contextmanager
def interruptible() -> Iterator[None]:
    """A closed terminal and SIGTERM end what is inside as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if number == getattr(signal, "SIGHUP", None):
            signal.signal(number, signal.SIG_IGN)  # a closed terminal sends it twice
        raise KeyboardInterrupt

    with _handlers(interrupt, "SIGTERM", "SIGHUP"):
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
    caught = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(message: str) -> NoReturn:
    """Exit at once, even if the terminal takes nothing more: unwinding would wait for it.

    What a save left half-written is removed by the next one.
    """
    from charlstm.show.printable import printable

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
