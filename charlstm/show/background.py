"""Writes to a terminal in the background, so that a blocked terminal blocks nobody."""

import threading
from queue import SimpleQueue
from typing import IO, Any


class BackgroundWriter:
    """A file whose flushed text is written to ``file`` by a separate thread.

    A suspended terminal (lost connection, Ctrl-S) blocks its writer, which here is the thread.
    While it is not ``idle``, callers can skip a frame. All flushed text is written, in order:
    drawing in place relies on what was drawn before.
    """

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self._parts: list[str] = []
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, fileno
        return getattr(self.file, name)

    def write(self, text: str) -> int:
        """Buffer the text until it is flushed."""
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        """Pass the buffer to the thread and return at once."""
        with self._lock:
            self._waiting += 1
        self._texts.put("".join(self._parts))
        self._parts.clear()

    @property
    def idle(self) -> bool:
        """Whether all flushed text has been written."""
        return self._waiting == 0

    def close(self, seconds: float) -> None:
        """Stop the thread; wait at most ``seconds`` for it."""
        self._texts.put(None)
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while (text := self._texts.get()) is not None:
            try:
                self.file.write(text)
                self.file.flush()
            except (OSError, ValueError):
                pass  # the terminal is gone; the work continues
            with self._lock:
                self._waiting -= 1
