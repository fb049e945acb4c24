"""Turn off the terminal's echo while a panel is on screen; typed keys stay in the input queue."""

import os

try:
    import termios
except ImportError:  # Windows echoes nothing that is not read
    termios = None  # type: ignore[assignment]

TERMINAL = 2
"""stderr, where the panel is drawn."""

_disabled = False


def disable() -> None:
    """Turn echo off if it is on and this process is in the terminal's foreground."""
    global _disabled
    _disabled = _disabled or _set_echo(False)


def restore() -> None:
    """Turn echo on again if ``disable`` turned it off."""
    global _disabled
    if _disabled:
        _disabled = False
        _set_echo(True)


def _set_echo(echo: bool) -> bool:
    """Turn echo on or off; return whether that changed anything."""
    if termios is None:
        return False
    try:
        if os.tcgetpgrp(TERMINAL) != os.getpgrp():
            return False  # in the background a change would stop the process
        attributes = termios.tcgetattr(TERMINAL)
        if bool(attributes[3] & termios.ECHO) == echo:
            return False
        attributes[3] ^= termios.ECHO
        # TCSANOW: the other modes wait until a stalled terminal has drained its output.
        termios.tcsetattr(TERMINAL, termios.TCSANOW, attributes)
    except (OSError, termios.error):
        return False  # no terminal, not ours, or gone
    return True
