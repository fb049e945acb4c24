"""Consoles for stdout and stderr that honour NO_COLOR, TERM=dumb, pipes and narrow windows."""

import os
import sys
from typing import TextIO

from rich.console import Console


def make_console(stream: TextIO) -> Console:
    """A console that writes plain text unless ``stream`` is a terminal that can do more."""
    return Console(file=stream, highlight=False, soft_wrap=False, emoji=False, markup=False)


def stderr_console() -> Console:
    """For the panel and notices."""
    return make_console(sys.stderr)


def stdout_console() -> Console:
    """For results."""
    return make_console(sys.stdout)


def can_animate(console: Console) -> bool:
    """Whether a panel may be redrawn in place."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    return console.is_terminal and not dumb and console.width >= 20 and console.height >= 8
