"""Run a trainer, show its progress, and stop it when asked."""

from typing import TYPE_CHECKING

from charlstm.cli.inputs import name_again
from charlstm.cli.options import command
from charlstm.cli.signals import stop_signals, suspension
from charlstm.errors import CharlstmError

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.generations import OpenRun
    from charlstm.training.trainer import Trainer


def watch(run: "OpenRun", *, plain: bool, quiet: bool, tensorboard: str | None) -> "RunFinished":
    """Train a run and its later generations to the end; a signal stops it."""
    from charlstm.run_display import RunDisplay
    from charlstm.training.processes import started_by_torchrun
    from charlstm.training_run import TrainingRun

    trainer = run.trainer
    display = None
    if not quiet and trainer.is_first:
        display = RunDisplay(trainer, plain=plain, around_panel=suspension)
    training = TrainingRun(run, display, tensorboard)
    go_on = None
    if not started_by_torchrun():  # which sends each signal again, and kills after 30 seconds
        go_on = command("train", "--resume", "-c", trainer.path)
    with stop_signals(run.request_stop, go_on):
        try:
            finished = training.run().finished
        except CharlstmError as error:
            if training.finished is not None:  # the next generation could not begin
                error.hint, error.command = _go_on(error, run.trainer)
            raise
    assert finished is not None
    return finished


def _go_on(error: CharlstmError, trainer: "Trainer") -> tuple[str, str]:
    """A hint and a command to begin the generation after that of ``trainer``, which failed."""
    from charlstm.text.corpus import TextGone

    if isinstance(error, TextGone):
        return name_again(trainer.run_file.source, trainer.path)
    return "fix that, then resume:", command("train", "--resume", "-c", trainer.path)
