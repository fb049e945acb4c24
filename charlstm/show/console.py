"""Consoles for stdout and stderr, whether they can animate, and a progress bar."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TextIO

from rich.console import Console

UNKNOWN_WIDTH = 80
PATIENCE_SECONDS = 2.0
HIDE_CURSOR = "\x1b[?25l"
BAR_SECONDS = 0.1
"""Minimum time between two redraws of a progress bar."""


def make_console(stream: TextIO) -> Console:
    """A console that writes plain text unless ``stream`` is a capable terminal."""
    console = Console(file=stream, highlight=False, soft_wrap=False, emoji=False, markup=False)
    if console.width < 1:  # COLUMNS=0 means that the width is unknown; Rich would show nothing
        console.width = UNKNOWN_WIDTH
    return console


def stderr_console() -> Console:
    """The console for the panel and notices."""
    return make_console(sys.stderr)


def stdout_console() -> Console:
    """The console for results."""
    return make_console(sys.stdout)


def can_animate(console: Console) -> bool:
    """Whether output can be redrawn in place: on a real terminal that moves its cursor.

    FORCE_COLOR and TTY_COMPATIBLE make Rich treat a file or a pipe as a terminal. They request
    colours; an animation would write every frame to the file.
    """
    large = console.width >= 20 and console.height >= 8
    real = console.is_interactive and console.file.isatty() and in_foreground(console.file)
    return real and large and not in_notebook()


def in_foreground(stream: IO[str]) -> bool:
    """Whether this process is in the terminal's foreground; a background job is not.

    Drawing in place would cover what the user types.
    """
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # not our terminal, or Windows
        return True


def in_notebook() -> bool:
    """Whether a notebook's ``!command`` started this process.

    It runs on a terminal device whose reader ignores cursor movements. Jupyter sets
    JPY_PARENT_PID for every kernel; ipykernel sets the other three everywhere, editors included.
    """
    names = ("TERM", "PAGER", "GIT_PAGER")
    by_ipykernel = [os.environ.get(name) for name in names] == ["xterm-color", "cat", "cat"]
    return by_ipykernel or "JPY_PARENT_PID" in os.environ


def in_kernel() -> bool:
    """Whether this process is a notebook's kernel, whose outputs can be updated in place."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def start_below(console: Console) -> None:
    """Keep the screen's content, such as a shell's, and draw in place below it."""
    console.file.write(HIDE_CURSOR + "\n" * console.height)


@contextmanager
def silent_in_background(console: Console) -> Iterator[None]:
    """Let the console write nothing if another process has the terminal."""
    console.quiet = not in_foreground(console.file)
    try:
        yield
    finally:
        console.quiet = False


@contextmanager
def progress_bar(
    console: Console,
    patience: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a function of (activity, done, total) that draws a bar, which is erased at the end.

    A total of None is unknown.

    Nothing is shown in the first ``patience`` seconds, in the background, or if the console cannot
    animate.
    """
    # Imported here: `charlstm sample` needs a console at startup, and never a bar.
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
    task = progress.add_task("", total=None)
    animated = can_animate(console)
    start = clock()
    drawn_at: float | None = None

    def report(what: str, done: int, total: int | None) -> None:
        nonlocal drawn_at
        now = clock()
        if not animated or now - start < patience or not in_foreground(console.file):
            return
        if drawn_at is None:
            progress.start()
            console.show_cursor(True)  # Ctrl-Z leaves it to the shell as it is
        elif now - drawn_at < BAR_SECONDS:
            return
        drawn_at = now
        progress.update(task, description=what, completed=done, total=total, refresh=True)

    try:
        yield report
    finally:
        if drawn_at is not None:
            with silent_in_background(console):
                progress.stop()
