"""Run a trainer before the user's eyes, and stop it when asked."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from charlstm.cli.options import note
from charlstm.errors import ExitCode

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.show.live import LivePanel
    from charlstm.train.trainer import Trainer

SHOW_CURSOR = "\x1b[?25h"


def watch(trainer: "Trainer", *, plain: bool, quiet: bool) -> "RunFinished":
    """Run the trainer to its end, and hand each event to the log and to what is shown."""
    from charlstm import runs
    from charlstm.events import RunFinished, StepDone
    from charlstm.metrics import MetricsLog
    from charlstm.show.console import can_animate, stderr_console
    from charlstm.show.plain import PlainLog

    console = stderr_console()
    finished: RunFinished | None = None
    with ExitStack() as stack:
        log = MetricsLog(trainer.path / runs.METRICS_FILE)
        stack.callback(log.close)
        stack.enter_context(_stop_signals(trainer))
        if quiet:
            for event in trainer.run():
                log.write(event)
                finished = event if isinstance(event, RunFinished) else finished
        elif plain or not can_animate(console):
            lines = PlainLog(sys.stderr)
            for event in trainer.run():
                log.write(event)
                _try(lines.write, event)
                finished = event if isinstance(event, RunFinished) else finished
        else:
            from charlstm.growing import GrowingSample
            from charlstm.metrics import read_lines
            from charlstm.show.live import LivePanel, replay

            sample = GrowingSample(trainer.model_file, trainer.run_file.train.seed)
            panel = stack.enter_context(LivePanel(console, lambda: (sample.text, sample.step)))
            stack.enter_context(_suspension(panel))
            replay(panel.view, read_lines(trainer.path / runs.METRICS_FILE))
            for event in trainer.run():
                log.write(event)
                if isinstance(event, StepDone):
                    sample.grow(event.step)
                if isinstance(event, RunFinished):
                    finished = event
                    sample.finish(event.step)
                _try(panel.show, event)
    assert finished is not None
    return finished


def _try(write: Any, event: Any) -> None:
    """Show an event; neither a terminal that went away nor a drawing that fails ends the run."""
    try:
        write(event)
    except Exception as error:
        if not isinstance(error, OSError | ValueError):
            note(f"what is shown is not complete: {error!r}")


@contextmanager
def _stop_signals(trainer: "Trainer") -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP finishes the step and saves; a second one exits.

    A signal that was ignored before, as by nohup, stays ignored.
    """
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        trainer.request_stop()
        if asked > 1:
            _leave(f"stopped at once; go on with: charlstm train --resume -c {trainer.path}")

    with _handlers(handle, "SIGINT", "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def _suspension(panel: "LivePanel") -> Iterator[None]:
    """Ctrl-Z gives the cursor back to the shell; when the run goes on, so does the panel."""

    def suspend(number: int, frame: FrameType | None) -> None:
        _write_if_there_is_room(SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stands still here until SIGCONT
        signal.signal(number, suspend)

    with _handlers(suspend, "SIGTSTP"), _handlers(lambda *_: panel.draw_below(), "SIGCONT"):
        yield


@contextmanager
def _handlers(handle: Callable[[int, FrameType | None], None], *names: str) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(message: str) -> NoReturn:
    """Exit at once, even if the terminal takes nothing more: unwinding would wait for it.

    What a save left half-written is removed by the next one.
    """
    from charlstm.show.text import printable

    show_cursor = SHOW_CURSOR if os.isatty(2) else ""
    _write_if_there_is_room(f"{show_cursor}\n{printable(message, keep='')}\n")
    os._exit(ExitCode.INTERRUPTED)


def _write_if_there_is_room(text: str) -> None:
    try:
        if os.name == "nt" or select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
    except OSError:
        pass
