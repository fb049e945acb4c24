"""A bar on stderr for work that takes more than two seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE_SECONDS = 2.0


@contextmanager
def progress_bar(
    console: Console,
    patience: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str, int, int], None]]:
    """A function to tell what is done, how much of it and how much there is; gone at the end.

    Nothing is shown where the console is no terminal, or before ``patience`` seconds.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
    task = progress.add_task("", total=None)
    start = clock()
    shown_at: float | None = None

    def tell(what: str, done: int, total: int) -> None:
        nonlocal shown_at
        now = clock()
        if not console.is_terminal or now - start < patience:
            return
        if shown_at is None:
            progress.start()
        elif now - shown_at < 0.1:
            return
        shown_at = now
        progress.update(task, description=what, completed=done, total=total, refresh=True)

    try:
        yield tell
    finally:
        if shown_at is not None:
            progress.stop()
