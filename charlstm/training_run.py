"""Train in Python: begin a run or resume one, watch its events, stop it, read its curves."""

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, Unpack

from charlstm.errors import CharlstmError, require, shown
from charlstm.generations import OpenRun
from charlstm.opening import (
    BudgetFields,
    TrainingFields,
    begin_run,
    check_tensorboard,
    resume_run,
    resumed_text,
    text_of_run,
)
from charlstm.run_display import RunDisplay, print_note

if TYPE_CHECKING:  # torch and Rich are imported when a run begins
    from charlstm.events import Event, RunFinished
    from charlstm.model import Model
    from charlstm.runs.checkpoint import ModelFile
    from charlstm.runs.history import History
    from charlstm.text.corpus import Corpus
    from charlstm.training.trainer import Trainer

TextSources = str | Path | Sequence[str | Path]
SAMPLE_CHARACTERS, SAMPLE_ITEMS = 400, 10


def train(
    text: TextSources | None = None,
    *,
    name: str | None = None,
    init_from: str | Path | None = None,
    teacher: str | Path | None = None,
    preset: str | None = None,
    generations: int | None = None,
    encoding: str | None = None,
    as_bytes: bool = False,
    lines: bool = False,
    separator: str | None = None,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    **settings: Unpack[TrainingFields],
) -> "TrainingRun":
    """Begin a run on ``text`` below ``checkpoints/``, as ``charlstm train`` does.

    It trains when you call ``run``, or iterate over it for its events.

        model = charlstm.train("book.txt", minutes=2).run().model

    Args:
        text: a file, a folder or ``-`` for stdin, or several of them; None is the bundled text.
        name: name of the run; by default the text's name.
        init_from: a run or checkpoint that supplies the initial weights.
        teacher: a run of the same text that this one distils.
        preset: a name in ``presets.PRESETS``; by default the text's size and the minutes decide.
        generations: number of runs to train, each of which also learns from the predictions of the
            one before; by default as many as the text and the minutes suggest. The minutes are
            divided among them; a budget in steps or epochs is that of each.
        encoding: encoding of the text; by default UTF-8.
        as_bytes: model the bytes of any file instead of characters.
        lines: the text is a list of items that stand alone, such as names, one per line.
        separator: the same with another text between two items.
        progress: show the run: as a panel in a terminal, an output that is updated in a notebook,
            lines elsewhere.
        tensorboard: a folder for TensorBoard; the run writes to a folder of its own name in it.
        **settings: fields of ``ModelConfig`` and ``TrainConfig``; the defaults depend on the
            text (docs/explanation/training.md).

    Raises:
        UsageError: a setting is out of range, or excludes another one.
        CharlstmError: the text or a run cannot be read, or there is too little memory.
    """
    check_tensorboard(tensorboard)
    from charlstm.training.processes import is_first

    progress = progress and is_first()
    note = print_note if progress else _no_note
    stack = ExitStack()
    trainer = begin_run(
        stack,
        _paths(text),
        dict(settings),
        reading={"as_bytes": as_bytes, "lines": lines}
        | {k: v for k, v in (("encoding", encoding), ("separator", separator)) if v is not None},
        name=name,
        init_from=None if init_from is None else str(init_from),
        teacher=None if teacher is None else str(teacher),
        preset=preset,
        generations=generations,
        note=note,
        advise=note,
    )
    run = OpenRun(trainer, stack, note=note, advise=note)
    return TrainingRun(run, RunDisplay(trainer) if progress else None, tensorboard)


def resume(
    checkpoint: str | Path | None = None,
    *,
    text: TextSources | None = None,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    **changes: Unpack[BudgetFields],
) -> "TrainingRun":
    """Open a stopped or finished run, to continue exactly where it stopped.

    Args:
        checkpoint: the run; by default the newest.
        text: where the run's text is now, if it was moved.
        progress: as for ``train``.
        tensorboard: as for ``train``.
        **changes: a new budget for the whole run, ``patience``, ``keep`` or ``device``.

    Raises:
        UsageError: another process trains the run, or the budget ends before the run's step.
        CharlstmError: there is no such run, its text is gone or has changed, or none of its
            checkpoints can be read.
    """
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone
    from charlstm.training.processes import is_first

    check_tensorboard(tensorboard)
    progress = progress and is_first()
    note = print_note if progress else _no_note
    texts = _paths(text)

    def find() -> "tuple[Path, Corpus]":
        path = find_run(None if checkpoint is None else str(checkpoint), inside=True)
        try:
            return path, text_of_run(read_run_file(path), texts, note)
        except TextGone as error:
            raise CharlstmError(error.message, "give `text`: where it is now") from None

    path, corpus = resumed_text(find, texts, note)
    stack = ExitStack()
    trainer = resume_run(stack, path, corpus, dict(changes), note)
    run = OpenRun(trainer, stack, note=note, advise=note)
    return TrainingRun(run, RunDisplay(trainer) if progress else None, tensorboard)


def _paths(text: TextSources | None) -> list[str | Path] | None:
    if text is None:
        return None
    paths = [text] if isinstance(text, str | Path) or not isinstance(text, Iterable) else list(text)
    known = all(isinstance(path, str | Path) for path in paths)
    require(known, f"`text` is {shown(text)}, but must be a path, or several")
    return paths


class TrainingRun(Iterator["Event"]):
    """A run that is open for training: an iterator of its events (``charlstm.events``).

    Each ``next`` trains until the next event and returns it. The last one is a ``RunFinished``.
    Several generations are trained one after another: each begins with a ``RunStarted`` and ends
    with a ``RunFinished``, and all that this object describes is then the newest one.

    An interrupt (Ctrl-C, or a notebook's stop button) saves and stops the run, as ``stop`` does.
    A second interrupt ends it at once, at its last checkpoint.

    While it is open, no other process can train the run. If it is deleted before its end, the run
    is closed at its last checkpoint.
    """

    def __init__(
        self,
        run: OpenRun,
        display: RunDisplay | None = None,
        tensorboard: str | Path | None = None,
    ) -> None:
        """The last event closes ``run.opened``, and so gives up the run's lock."""
        self.finished: RunFinished | None = None
        """The last event, once the run has ended."""
        self._run = run
        self._events = _events(run, display, tensorboard)
        self._is_training = False

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._trainer.path

    @property
    def _trainer(self) -> "Trainer":
        return self._run.trainer

    def __next__(self) -> "Event":
        with self._training():
            return self._next()

    def run(self) -> Self:
        """Train to the end of the budget, or until the run is stopped; return this object."""
        with self._training(), suppress(StopIteration):
            while True:
                self._next()
        return self

    def stop(self) -> None:
        """Finish the step, save, and end the run.

        If the run is training, in another thread or below a signal handler, ``stop`` returns at
        once, and the loop that trains ends the run.
        """
        self._run.request_stop()
        if not self._is_training:
            self.run()

    @property
    def model(self) -> "Model":
        """The best checkpoint so far, or the last one if nothing is held out; loaded each time.

        Raises:
            CharlstmError: there is no checkpoint yet.
        """
        from charlstm.model import load

        return load(self._trainer.folder)

    @property
    def history(self) -> "History":
        """The curves of all sessions so far, as NumPy arrays."""
        from charlstm.runs.history import read_history

        return read_history(self._trainer.folder)

    @property
    def step(self) -> int:
        """Training steps taken."""
        return self._trainer.progress.step

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<TrainingRun {str(self.path)!r}: {facts}>"

    def _repr_html_(self) -> str:
        from charlstm.html_table import html_table
        from charlstm.show.printable import printable

        return html_table(f"Run {printable(str(self.path), keep='')}", self._facts())

    def _facts(self) -> dict[str, str]:
        total = self._trainer.run_file.budget.total_steps
        progress = self._trainer.progress
        facts = {"step": f"{self.step:,}" + (f" of {total:,}" if total else "")}
        if progress.best_step and progress.best_loss is not None:
            best = f"{progress.best_loss:.4f} nats at step {progress.best_step:,}"
            facts["best validation"] = best
        if self.finished is not None:
            facts["ended"] = self.finished.reason
        return facts

    def _next(self) -> "Event":
        from charlstm.events import RunFinished, RunStarted

        event = next(self._events)
        if isinstance(event, RunFinished):
            self.finished = event
        elif isinstance(event, RunStarted):
            self.finished = None
        return event

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Within this context an interrupt stops the run, unless the caller handles interrupts."""
        before: Any = None

        def handle(number: int, frame: FrameType | None) -> None:
            signal.signal(number, before)
            self._run.request_stop()

        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
        ours = before is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, handle)
        was_training, self._is_training = self._is_training, True
        try:
            yield
        finally:
            self._is_training = was_training
            if ours:
                signal.signal(signal.SIGINT, before)


def _events(
    run: OpenRun, display: RunDisplay | None, tensorboard: str | Path | None
) -> Iterator["Event"]:
    """Train all generations; close the open one at its end, or when the iterator is deleted."""
    from charlstm.events import RunFinished

    while True:
        with run.opened:
            for event in _events_of_one(run.trainer, run.opened, display, tensorboard):
                yield event
        if not isinstance(event, RunFinished) or not run.next_generation(event):
            return
        if display is not None:
            display.follow(run.trainer)


def _events_of_one(
    trainer: "Trainer",
    opened: ExitStack,
    display: RunDisplay | None,
    tensorboard: str | Path | None,
) -> Iterator["Event"]:
    """Train, log and show one run; ``opened`` closes what that needs."""
    from charlstm.events import Evaluated
    from charlstm.runs.metrics import MetricsLog
    from charlstm.runs.run import METRICS_FILE

    if not trainer.is_first:
        yield from trainer.run()
        return
    log, board = MetricsLog(trainer.folder / METRICS_FILE), None
    opened.callback(log.close)
    if tensorboard is not None:
        from charlstm.export.tensorboard import TensorBoardLog

        board = TensorBoardLog(Path(tensorboard) / trainer.path.name, trainer.progress.step)
        opened.callback(board.close)
    if display is not None:
        opened.enter_context(display)
    for event in trainer.run():
        log.write(event)
        if board is not None:
            board.write(event)
            if isinstance(event, Evaluated):
                board.write_sample(event.step, sample_of(trainer.model_file()))
        if display is not None:
            display.show(event)
        yield event


def sample_of(file: "ModelFile") -> str:
    """A sample for a log: always of the same seed, so that samples can be compared."""
    from charlstm.model import Model
    from charlstm.show.printable import printable

    model, separator = Model(file, Path()), file.vocab.separator
    count = 1 if separator is None else SAMPLE_ITEMS
    length = SAMPLE_CHARACTERS // count
    texts = model.generate_batch(count=count, length=length, temperature=0.8, seed=1)
    return printable((separator or "").join(texts))


def _no_note(message: str) -> None:
    """Print nothing: what ``progress=False`` does with notes."""
