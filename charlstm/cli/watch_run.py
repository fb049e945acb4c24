"""Run a trainer, show its progress, and stop it when asked."""

from typing import TYPE_CHECKING

from charlstm.cli.options import command
from charlstm.cli.signals import stop_signals, suspension

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.generations import OpenRun


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
        finished = training.run().finished
    assert finished is not None
    return finished
