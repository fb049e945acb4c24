"""Run a trainer, show its progress, and stop it when asked."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from charlstm.cli.options import command, note
from charlstm.cli.signals import stop_signals, suspension

if TYPE_CHECKING:
    from charlstm.events import Event, RunFinished
    from charlstm.train.trainer import Trainer

    Show = Callable[[Event], object]


def watch(trainer: "Trainer", *, plain: bool, quiet: bool) -> "RunFinished":
    """Run the trainer to its end; log and show each event."""
    from charlstm.events import RunFinished
    from charlstm.runs.metrics import MetricsLog
    from charlstm.runs.run import METRICS_FILE

    with ExitStack() as stack:
        log = MetricsLog(trainer.path / METRICS_FILE)
        stack.callback(log.close)
        go_on = command("train", "--resume", "-c", trainer.path)
        stack.enter_context(stop_signals(trainer.request_stop, go_on))
        show = _shown(trainer, plain=plain, quiet=quiet, stack=stack)
        for event in trainer.run():
            log.write(event)
            # Neither a closed terminal nor an error in the display may end the run.
            try:
                show(event)
            except (OSError, ValueError):
                pass
            except Exception as error:
                note(f"note: the display is incomplete: {error!r}")
    assert isinstance(event, RunFinished)
    return event


def _shown(trainer: "Trainer", *, plain: bool, quiet: bool, stack: ExitStack) -> "Show":
    """The function that shows an event: in a panel on a terminal, else as lines, or not at all."""
    from charlstm.show.console import can_animate, stderr_console
    from charlstm.show.plain import PlainLog

    console = stderr_console()
    if quiet:
        return lambda event: None
    if plain or not can_animate(console):
        return PlainLog(sys.stderr).write

    from charlstm.events import RunFinished, StepDone
    from charlstm.generate.live_sample import LiveSample
    from charlstm.runs.metrics import read_lines
    from charlstm.runs.run import METRICS_FILE
    from charlstm.show.curves import replay
    from charlstm.show.live import LivePanel

    sample = LiveSample(trainer.model_file, trainer.run_file.train.seed)
    panel = stack.enter_context(LivePanel(console, lambda: (sample.text, sample.step)))
    stack.enter_context(suspension(panel.draw_below))
    replay(panel.view, read_lines(trainer.path / METRICS_FILE))

    def show(event: "Event") -> None:
        if isinstance(event, StepDone):
            sample.grow(event.step)
        if isinstance(event, RunFinished):
            sample.finish(event.step)
        panel.show(event)

    return show
