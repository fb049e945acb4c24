"""The lines typed with ``--interactive``, kept between sessions for readline.

The file has one JSON string per turn, because a turn may have several lines. Only its owner may
read it. History is a convenience: where it cannot be read or written, there is none.
"""

import json
import os
from pathlib import Path
from typing import Any

KEPT = 1000
"""Turns that are loaded. The file is shortened to them once it has twice as many."""


def history_file() -> Path:
    """Where the history is: below $XDG_STATE_HOME, or ~/.local/state.

    Raises:
        RuntimeError: there is no home directory.
    """
    base = os.environ.get("XDG_STATE_HOME")
    state = Path(base) if base else Path.home() / ".local" / "state"
    return state / "charlstm" / "history.jsonl"


def load(readline: Any) -> None:
    """Add the turns of earlier sessions to the history of ``readline``."""
    try:
        path = history_file()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines[-KEPT:]:
            try:
                turn = json.loads(line)
                if isinstance(turn, str) and "\0" not in turn:
                    readline.add_history(turn)
            except (ValueError, RecursionError):
                continue  # half a line, after a crash, or characters that this locale lacks
        if len(lines) > 2 * KEPT:
            _write(path, lines[-KEPT:], os.O_TRUNC)
    except (OSError, RuntimeError):
        pass


def append(turn: str) -> None:
    """Keep a turn for later sessions."""
    if not turn:
        return
    try:
        path = history_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, [json.dumps(turn)], os.O_APPEND)
    except (OSError, RuntimeError):
        pass


def _write(path: Path, lines: list[str], mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o600), "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
