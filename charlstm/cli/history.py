"""The lines typed with ``--interactive``, kept between sessions for readline.

The file has one JSON string per turn, because a turn may have several lines. Only its owner may
read it. History is a convenience: where it cannot be read or written, there is none.
"""

import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

KEPT = 1000
"""Turns that are loaded. The file is shortened to them once it has twice as many."""


def history_file() -> Path:
    """Where the history is: below $XDG_STATE_HOME, or ~/.local/state.

    Raises:
        RuntimeError: there is no home directory.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    # By the specification, a relative path is ignored.
    state = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return state / "charlstm" / "history.jsonl"


def load(readline: Any) -> None:
    """Add the turns of earlier sessions to the history of ``readline``."""
    try:
        path = history_file()
        if not path.is_file():  # a pipe would never end
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines[-KEPT:]:
            # Half a line, after a crash; a turn that the locale cannot encode.
            with suppress(ValueError, RecursionError):
                turn = json.loads(line)
                if isinstance(turn, str) and "\0" not in turn:
                    readline.add_history(turn)
        if len(lines) > 2 * KEPT:
            from charlstm.files import replace_file

            kept = "".join(f"{line}\n" for line in lines[-KEPT:])
            replace_file(Path(os.path.realpath(path)), kept.encode())
    except (OSError, RuntimeError):
        pass


def append(turn: str) -> None:
    """Keep a turn for later sessions."""
    if not turn:
        return
    try:
        path = history_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "ab", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"{json.dumps(turn)}\n".encode())
    except (OSError, RuntimeError):
        pass
