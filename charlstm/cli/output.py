"""Streaming text to stdout: byte-exact in a pipe, escaped and optionally tinted on a terminal."""

import sys
import time
from typing import TYPE_CHECKING, Any

from charlstm.cli.signals import WholePieces

if TYPE_CHECKING:
    from charlstm.generate.writing import Text

LONGEST_WAIT = 0.05
"""Longest time in seconds between two flushes to a pipe."""


class Output:
    """Stdout of ``sample``: no control characters on a terminal, the exact text in a pipe."""

    def __init__(self, *, raw: bool, color: bool) -> None:
        """``raw`` writes bytes that are not UTF-8 unchanged, for byte models."""
        from charlstm.show.console import stdout_console
        from charlstm.show.printable import printable
        from charlstm.show.surprise import Tint

        self.terminal = sys.stdout.isatty()
        if self.terminal:
            _reconfigure(sys.stdout, line_buffering=False)  # only ``_flush`` waits for it
        else:
            errors = "surrogateescape" if raw else "strict"
            _reconfigure(sys.stdout, encoding="utf-8", errors=errors, newline="")
        self._printable = printable
        self._tint = Tint(stdout_console()) if color else None
        self.tinted = self._tint is not None and self._tint.has_color
        self._due = 0.0

    def write(self, text: str, bits: list[float] | None = None) -> None:
        """Write a piece of text; ``bits`` is the surprise of each character, for tinting."""
        self._put(text, bits)
        self._flush()

    def _put(self, text: str, bits: list[float] | None) -> None:
        if self.tinted and self._tint is not None and bits is not None:
            text = "".join(map(self._tint, text, bits))
        elif self.terminal:
            text = self._printable(text)
        sys.stdout.write(text)

    def _flush(self) -> None:
        if self.terminal:
            sys.stdout.flush()
        elif (now := time.monotonic()) >= self._due:
            sys.stdout.flush()
            self._due = now + LONGEST_WAIT

    def show(self, text: "Text", before: str = "", *, collect: bool = False) -> str:
        """Write ``before`` and a text as it is generated; return the text if ``collect``."""
        collected = []
        self.write(before)
        with WholePieces() as whole:
            for piece in text:
                self._put(piece, text.surprise(piece) if self.tinted else None)
                with whole.flushing():
                    self._flush()
                if collect:  # an endless text would fill the memory
                    collected.append(piece)
        return "".join(collected)

    def close(self, separator: str | None = None) -> None:
        """End the item of a list, and on a terminal the last line; flush."""
        self.write(separator or "")
        if self.terminal and not (separator or "").endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.flush()


def _reconfigure(stream: Any, **settings: Any) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(**settings)
