"""Run a study, show its progress, stop it when asked, and print how to continue."""

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from charlstm.cli.options import note, operands
from charlstm.cli.signals import stop_signals, suspension
from charlstm.errors import ExitCode, plural

if TYPE_CHECKING:
    from charlstm.study.results import Results


class Status(NamedTuple):
    """A line about the progress of a study; a ``result`` is always printed."""

    line: str
    result: bool = False


class Stop:
    """Whether to stop: a signal asked for it, or the time is up."""

    def __init__(self, minutes: float | None) -> None:
        from charlstm.errors import check_number

        if minutes is not None:
            check_number("--minutes", minutes, 0, low_allowed=False)
        self.asked = False
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def ask(self) -> None:
        """Ask the study to stop as soon as it can."""
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked or time.monotonic() >= self._end


def follow(
    context: typer.Context,
    results: "Results[Any]",
    wanted: list[Any],
    work: Iterator[Status],
    view: Callable[[Any, list[Any]], Any],
    stop: Stop,
    *,
    as_json: bool,
) -> int:
    """Do the ``work``, which adds to the ``results``; then print the ``wanted`` ones.

    A terminal shows them live; otherwise there is a line per result. ``view`` makes a renderable
    from a console and the results so far.
    """
    from charlstm.show.console import can_animate, stderr_console, stdout_console
    from charlstm.show.study_panel import StudyLines, StudyPanel

    console, go_on = stderr_console(), _go_on(context)
    with ExitStack() as stack:
        stack.enter_context(stop_signals(stop.ask, go_on))
        shown: StudyPanel | StudyLines
        if can_animate(console):
            panel = StudyPanel(console, lambda: view(console, results.among(wanted)))
            shown = stack.enter_context(panel)
            stack.enter_context(suspension(panel.draw_below))
        else:
            shown = StudyLines(sys.stderr)
        for status in work:
            try:
                shown.show(status.line, result=status.result)
            except (OSError, ValueError):
                pass  # the terminal is gone; the study continues
    found = results.among(wanted)
    if as_json:
        print(json.dumps({**results.to_dict(), "results": [asdict(one) for one in found]}))
    else:
        console = stdout_console()
        console.print(view(console, found))
    note(f"results: {results.path}")
    if len(found) < len(wanted):
        note(f"{len(found)} of {plural(len(wanted), 'result')} done; to continue:")
        note(go_on)
    return int(ExitCode.INTERRUPTED if stop.asked else ExitCode.DONE)


def _go_on(context: typer.Context) -> str:
    """The command line of this study, without options at their default."""
    words = context.command_path.split()
    for parameter in context.command.params:
        value: Any = context.params.get(str(parameter.name))
        if value in (None, False) or value == parameter.default:
            continue
        if parameter.param_type_name == "argument":
            words += operands(value)
        else:
            words.append(parameter.opts[0])
            words += [] if value is True else [str(value)]
    return shlex.join(words)
