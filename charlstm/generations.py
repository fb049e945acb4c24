"""Go on with the next generation of a run when one ends."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from charlstm.opening import Note, start_run

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.runs.generation import Generation
    from charlstm.training.trainer import Trainer


class OpenRun:
    """A run that is open for training, and after it the generations that follow it."""

    def __init__(self, trainer: "Trainer", opened: ExitStack, *, note: Note, advise: Note) -> None:
        """``opened`` holds the lock of the run, and then those of the later ones."""
        self.trainer = trainer
        """Of the generation that is open."""
        self.opened = opened
        self._note, self._advise = note, advise
        self._stopped = False

    def request_stop(self) -> None:
        """Stop the generation that is open, or is about to be; safe in a signal handler."""
        self._stopped = True
        self.trainer.request_stop()

    def next_generation(self, finished: "RunFinished") -> bool:
        """Open the generation after the one that ended so; False if there is none to train.

        ``opened`` must have been closed.

        Raises:
            CharlstmError: the text is gone, or the run cannot be begun.
        """
        trainer = _begin_next(self.opened, self.trainer, finished, self._note, self._advise)
        if trainer is None:
            return False
        self.trainer = trainer
        if self._stopped:  # asked for while there was no trainer
            trainer.request_stop()
        return True


def _begin_next(
    opened: ExitStack, trainer: "Trainer", finished: "RunFinished", note: Note, advise: Note
) -> "Trainer | None":
    from charlstm.runs.catalogue import find_checkpoint, generations, training_corpus
    from charlstm.runs.lock import lock

    run, path = trainer.run_file, trainer.folder
    complete = finished.reason in ("budget", "patience") and finished.unsaved is None
    if run.generation is None or not complete:
        return None
    with lock(path):  # a process that resumes this run would begin the next one, too
        generation = run.generation.next(finished.seconds)
        if generation.number > generation.count or generations(path)[-1].name != path.name:
            return None
        known = {f"note: {notice}" for notice in trainer.notices}
        moved = trainer.path.absolute() != path  # the working directory has changed
        advise(f"generation {generation.number} of {generation.count} learns from {path.name}:")
        return start_run(
            opened,
            training_corpus(run),
            _settings(generation),
            root=path.parent if moved else trainer.path.parent,
            name=generation.name,
            teacher=find_checkpoint(str(path)),
            generation=generation,
            note=lambda message: None if message in known else note(message),
            advise=advise,
        )


def _settings(generation: "Generation") -> dict[str, Any]:
    """What the user set for all generations, with the threads and minutes that are left."""
    from charlstm.presets import generation_minutes
    from charlstm.training.device import available_cores

    settings: dict[str, Any] = dict(generation.settings)
    if "threads" in settings:  # a smaller machine may go on with the chain
        settings["threads"] = min(settings["threads"], available_cores())
    if generation.minutes is not None:
        left = generation.minutes - generation.spent / 60
        settings["minutes"] = generation_minutes(
            generation.presets, generation.number, left, generation.minutes
        )
    return settings
