"""Writes to a terminal that may take nothing for a while, without making anyone wait."""

import threading
from queue import SimpleQueue
from typing import IO, Any


class BackgroundWriter:
    """A file whose flushed text a thread of its own writes to ``file``.

    A terminal that is held (a lost connection, Ctrl-S) blocks whoever writes to it. Here that is
    the thread; while it is not ``idle`` the next frame can be left out. Every flushed text is
    written, in order: what is drawn in place relies on what was drawn before.
    """

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self._parts: list[str] = []
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, fileno: the file's
        return getattr(self.file, name)

    def write(self, text: str) -> int:
        """Keep the text until it is flushed."""
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the thread, and return at once."""
        with self._lock:
            self._waiting += 1
        self._texts.put("".join(self._parts))
        self._parts.clear()

    @property
    def idle(self) -> bool:
        """Whether all that was flushed has been written."""
        return self._waiting == 0

    def close(self, seconds: float) -> None:
        """Let the thread end; wait for it so long at most."""
        self._texts.put(None)
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while (text := self._texts.get()) is not None:
            try:
                self.file.write(text)
                self.file.flush()
            except (OSError, ValueError):
                pass  # the terminal is gone; what is being done goes on
            with self._lock:
                self._waiting -= 1
