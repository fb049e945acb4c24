"""Ctrl-C, SIGTERM and SIGHUP: the first one asks to stop and save, a second one exits."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from charlstm.errors import ExitCode


@contextmanager
def stop_signals(ask: Callable[[], None], go_on: str) -> Iterator[None]:
    """Call ``ask`` at the first signal; exit at once at the second, saying how to ``go_on``."""
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        ask()
        if asked > 1:
            _leave(f"stopped at once; go on with: {go_on}")

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(message: str) -> NoReturn:
    """Exit at once, even if the terminal takes nothing more: unwinding would wait for it.

    What a save left half-written is removed by the next one.
    """
    from charlstm.show.text import printable

    try:
        if os.name == "nt" or select.select([], [2], [], 0)[1]:
            show_cursor = "\x1b[?25h" if os.isatty(2) else ""
            os.write(2, f"{show_cursor}\n{printable(message, keep='')}\n".encode())
    except OSError:
        pass
    os._exit(ExitCode.INTERRUPTED)
