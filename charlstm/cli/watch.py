"""Run a trainer before the user's eyes, and stop it when asked."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from charlstm.cli.options import note
from charlstm.cli.stopping import stop_signals, suspension

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.train.trainer import Trainer


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
        go_on = f"charlstm train --resume -c {trainer.path}"
        stack.enter_context(stop_signals(trainer.request_stop, go_on))
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
            from charlstm.show.curves import replay
            from charlstm.show.live import LivePanel

            sample = GrowingSample(trainer.model_file, trainer.run_file.train.seed)
            panel = stack.enter_context(LivePanel(console, lambda: (sample.text, sample.step)))
            stack.enter_context(suspension(panel.draw_below))
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
