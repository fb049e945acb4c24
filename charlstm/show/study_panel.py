"""Progress of a study: redrawn in place, or as plain lines."""

import time
from collections.abc import Callable
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from charlstm.show.console import in_foreground, silent_in_background, start_below
from charlstm.show.live import MOST_DRAWINGS_PER_SECOND
from charlstm.show.plain import LINE_SECONDS
from charlstm.show.printable import printable


class StudyPanel:
    """The results so far, redrawn in place and erased when the study ends."""

    def __init__(self, console: Console, view: Callable[[], RenderableType]) -> None:
        self._view = view
        self._line = Text()
        self._body: RenderableType = view()
        self._drawn_at = 0.0
        self._below = False
        self._live = Live(
            console=console,
            get_renderable=lambda: Group(self._line, Text(), self._body),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, line: str, *, result: bool) -> None:
        """Show the current activity; with a ``result``, redraw the view too."""
        self._line = Text(printable(line, keep=""), "bold", no_wrap=True, overflow="ellipsis")
        if result:
            self._body = self._view()
        if not in_foreground(self._live.console.file):
            self._below = True  # another process has the terminal
            return
        if result or time.monotonic() - self._drawn_at >= 1 / MOST_DRAWINGS_PER_SECOND:
            self._leave_what_is_there()
            self._live.refresh()
            self._drawn_at = time.monotonic()

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if in_foreground(self._live.console.file):
            self._leave_what_is_there()
        with silent_in_background(self._live.console):
            self._live.stop()

    def draw_below(self) -> None:
        """Keep the screen's content and continue below it; safe to call in a signal handler."""
        self._below = True

    def _leave_what_is_there(self) -> None:
        if self._below:
            self._below = False
            start_below(self._live.console)


class StudyLines:
    """A study as plain lines, for pipes and logs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._next_line_at = 0.0

    def show(self, line: str, *, result: bool) -> None:
        """Print every ``result``, and other lines every few seconds."""
        if not result:
            if self._clock() < self._next_line_at:
                return
            self._next_line_at = self._clock() + LINE_SECONDS
        print(printable(line, keep=""), file=self._stream, flush=True)
