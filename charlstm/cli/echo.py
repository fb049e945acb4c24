"""Keys pressed while a panel is drawn are not echoed into it; whoever reads next gets them."""

import os

try:
    import termios
except ImportError:  # Windows echoes nothing that is not read
    termios = None  # type: ignore[assignment]

TERMINAL = 2
"""stderr, where the panel is drawn."""

_disabled = False


def disable() -> None:
    """Switch the terminal's echo off, if it is on and this process has the terminal."""
    global _disabled
    _disabled = _disabled or _set_echo(False)


def restore() -> None:
    """Switch the echo on again, if ``disable`` has switched it off."""
    global _disabled
    if _disabled:
        _disabled = False
        _set_echo(True)


def _set_echo(echo: bool) -> bool:
    """Whether that changed anything."""
    if termios is None:
        return False
    try:
        if os.tcgetpgrp(TERMINAL) != os.getpgrp():
            return False  # in the background a change would stop the process
        attributes = termios.tcgetattr(TERMINAL)
        if bool(attributes[3] & termios.ECHO) == echo:
            return False
        attributes[3] ^= termios.ECHO
        # At once: a terminal that takes nothing would be waited for otherwise.
        termios.tcsetattr(TERMINAL, termios.TCSANOW, attributes)
    except (OSError, termios.error):
        return False  # no terminal, not ours, or gone
    return True
