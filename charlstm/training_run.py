"""Train in Python: begin a run or resume one, watch its events, stop it, read its curves."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from charlstm.errors import CharlstmError, UsageError

if TYPE_CHECKING:  # torch and what draws are imported when a run begins
    from charlstm.events import Event, RunFinished
    from charlstm.export.tensorboard import TensorBoardLog
    from charlstm.model import Model
    from charlstm.runs.checkpoint import ModelFile
    from charlstm.runs.history import History
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus
    from charlstm.train.trainer import Trainer

Note = Callable[[str], object]
TextSources = str | Path | Sequence[str | Path]
SAMPLE_CHARACTERS = 400
REPORTED_CHARACTERS = 50_000_000
"""Characters of a long text between two notes of how far it is read."""


class BudgetFields(TypedDict, total=False):
    """The settings that a resumed run may change; see ``TrainConfig`` for each."""

    epochs: float
    steps: int
    minutes: float
    patience: int
    keep: int
    device: str


class TrainingFields(BudgetFields, total=False):
    """The settings of a new run: fields of ``ModelConfig`` and ``TrainConfig``."""

    cell: str
    hidden_size: int
    layers: int
    embedding_size: int
    batch: int
    bptt: int
    learning_rate: float
    adam_rate: float
    warmup_steps: int
    final_rate: float
    weight_decay: float
    dropout: float
    clip: float
    averaging: float
    val_fraction: float
    seed: int
    precision: str
    threads: int
    dropout_masks: int
    hold: float
    row_averaging: float
    reset_every: int
    distillation: float


def train(
    text: TextSources | None = None,
    *,
    name: str | None = None,
    init_from: str | Path | None = None,
    teacher: str | Path | None = None,
    preset: str | None = None,
    encoding: str | None = None,
    as_bytes: bool = False,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    **settings: Unpack[TrainingFields],
) -> "TrainingRun":
    """Begin a run on ``text`` below ``checkpoints/``, as ``charlstm train`` does.

    Nothing is trained yet: iterate over the run for its events, or call ``run``.

        model = charlstm.train("book.txt", minutes=2).run().model

    Args:
        text: a file, a folder or ``-`` for stdin, or several of them; None is the bundled text.
        name: of the run; the text's name if left out.
        init_from: a run or checkpoint with whose weights to begin.
        teacher: a run of the same text from whose predictions to learn, too.
        preset: a name in ``presets.PRESETS``; the text's size and the minutes choose if left out.
        encoding: of the text; utf-8 if left out.
        as_bytes: model bytes, of any file, instead of characters.
        progress: show how the run goes on: a panel in a terminal, an output that is updated in a
            notebook, lines elsewhere.
        tensorboard: a folder for TensorBoard's files; they are below it in one of the run's name.
        **settings: fields of ``ModelConfig`` and ``TrainConfig``; those left out depend on the
            text (docs/explanation/training.md).

    Raises:
        UsageError: a setting is out of its range, or does not go with another.
        CharlstmError: the text or a run cannot be read, or memory does not suffice.
    """
    check_tensorboard(tensorboard)
    note = _print_note if progress else _no_note
    stack = ExitStack()
    trainer = begin_run(
        stack,
        [text] if isinstance(text, str | Path) else text,
        dict(settings),
        reading={"as_bytes": as_bytes, **({} if encoding is None else {"encoding": encoding})},
        name=name,
        init_from=None if init_from is None else str(init_from),
        teacher=None if teacher is None else str(teacher),
        preset=preset,
        note=note,
        advise=note,
    )
    return TrainingRun(trainer, stack, RunDisplay(trainer) if progress else None, tensorboard)


def resume(
    checkpoint: str | Path | None = None,
    *,
    text: TextSources | None = None,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    **changes: Unpack[BudgetFields],
) -> "TrainingRun":
    """Open a stopped or finished run, to train it on exactly where it stopped.

    Args:
        checkpoint: the run; the newest if left out.
        text: where the run's text is now, if it was moved.
        progress: as for ``train``.
        tensorboard: as for ``train``.
        **changes: another budget for the whole run, ``patience``, ``keep`` or ``device``.

    Raises:
        UsageError: another process trains the run, or the budget ends before the run's step.
        CharlstmError: there is no such run, its text is gone or has changed, or no checkpoint of
            it can be read.
    """
    import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone

    check_tensorboard(tensorboard)
    note = _print_note if progress else _no_note
    path = find_run(None if checkpoint is None else str(checkpoint), inside=True)
    run = read_run_file(path)
    try:
        corpus = text_of_run(run, [text] if isinstance(text, str | Path) else text, note)
    except TextGone as error:
        raise CharlstmError(error.message, "give `text`: where it is now") from None
    stack = ExitStack()
    trainer = resume_run(stack, path, corpus, dict(changes), note)
    return TrainingRun(trainer, stack, RunDisplay(trainer) if progress else None, tensorboard)


class TrainingRun(Iterator["Event"]):
    """A run that is open for training: an iterator of its events, see ``charlstm.events``.

    Each ``next`` trains until something happened, and returns that event. The last one is a
    ``RunFinished``. An interrupt (Ctrl-C, or that of a notebook's cell) while it trains stops and
    saves the run, as ``stop`` does; a second one ends it at once, at its last checkpoint.

    While it is open, no other process can train this run. One that is dropped before its end is
    closed at its last checkpoint.
    """

    def __init__(
        self,
        trainer: "Trainer",
        opened: ExitStack,
        display: "RunDisplay | None" = None,
        tensorboard: str | Path | None = None,
    ) -> None:
        """``opened`` holds the trainer's run; it is closed with the last event."""
        self.path = trainer.path
        """The run's folder."""
        self.finished: RunFinished | None = None
        """The last event, once the run has ended."""
        self._trainer = trainer
        board = None
        if tensorboard is not None:
            from charlstm.export.tensorboard import TensorBoardLog

            board = TensorBoardLog(Path(tensorboard) / self.path.name, trainer.progress.step)
            opened.callback(board.close)
        self._events = _events(trainer, opened, display, board)
        self._is_training = False

    def __next__(self) -> "Event":
        with self._training():
            return self._next()

    def run(self) -> Self:
        """Train to the end of the budget, or until it is stopped; returns this run."""
        with self._training(), suppress(StopIteration):
            while True:
                self._next()
        return self

    def stop(self) -> None:
        """Finish the step, save, and end the run.

        Where the run is being trained, by a loop in another thread or by the caller of a signal's
        handler, that loop does so, and ``stop`` returns at once.
        """
        self._trainer.request_stop()
        if not self._is_training:
            self.run()

    @property
    def model(self) -> "Model":
        """The best checkpoint so far, or the last one if nothing is held out; loaded again.

        Raises:
            CharlstmError: there is none yet.
        """
        from charlstm.model import load

        return load(self.path)

    @property
    def history(self) -> "History":
        """The curves so far, with those of earlier sessions, as NumPy arrays."""
        from charlstm.runs.history import read_history

        return read_history(self.path)

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
        from charlstm.events import RunFinished

        event = next(self._events)
        if isinstance(event, RunFinished):
            self.finished = event
        return event

    @contextmanager
    def _training(self) -> Iterator[None]:
        """An interrupt stops the run while this is entered, unless the caller handles it."""
        before: Any = None

        def handle(number: int, frame: FrameType | None) -> None:
            signal.signal(number, before)
            self._trainer.request_stop()

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
    trainer: "Trainer",
    opened: ExitStack,
    display: "RunDisplay | None",
    board: "TensorBoardLog | None",
) -> Iterator["Event"]:
    """Train, log and show; ``opened`` is closed at the end, or when nobody holds the events."""
    from charlstm.events import Evaluated
    from charlstm.runs.metrics import MetricsLog
    from charlstm.runs.run import METRICS_FILE

    with opened:
        log = MetricsLog(trainer.path / METRICS_FILE)
        opened.callback(log.close)
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


class RunDisplay:
    """Shows a run's events: on a panel, in a notebook's output, or as lines on stderr."""

    def __init__(self, trainer: "Trainer", *, plain: bool = False) -> None:
        """With ``plain`` they are lines, whatever there is."""
        from charlstm.generate.live_sample import LiveSample
        from charlstm.runs.metrics import read_lines
        from charlstm.runs.run import METRICS_FILE
        from charlstm.show.console import can_animate, in_kernel, stderr_console
        from charlstm.show.curves import replay
        from charlstm.show.live import LivePanel
        from charlstm.show.notebook import NotebookOutput
        from charlstm.show.plain import PlainLog

        self.panel: LivePanel | None = None
        self._sample = LiveSample(trainer.model_file, trainer.run_file.train.seed)
        self._show: Callable[[Event], None]
        console = stderr_console()
        if plain or not (in_kernel() or can_animate(console)):
            self._show = PlainLog(sys.stderr).write
            self._follow: Callable[[Event], None] = lambda event: None
            return
        self._follow = self._grow
        shown: LivePanel | NotebookOutput
        if in_kernel():
            shown = NotebookOutput(self._written)
        else:
            shown = self.panel = LivePanel(console, self._written)
        self._show = shown.show
        replay(shown.view, read_lines(trainer.path / METRICS_FILE))

    def __enter__(self) -> Self:
        if self.panel is not None:
            self.panel.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.panel is not None:
            self.panel.__exit__(*error)

    def show(self, event: "Event") -> None:
        """Show an event; neither a terminal that went away nor a bug in drawing ends the run."""
        try:
            self._follow(event)
            self._show(event)
        except (OSError, ValueError):
            pass
        except Exception as error:
            _print_note(f"what is shown is not complete: {error!r}")

    def _written(self) -> tuple[str, int]:
        return self._sample.text, self._sample.step

    def _grow(self, event: "Event") -> None:
        from charlstm.events import RunFinished, StepDone

        if isinstance(event, StepDone):
            self._sample.grow(event.step)
        if isinstance(event, RunFinished):
            self._sample.finish(event.step)


# -- what the command and the functions share ----------------------------------------------------


def begin_run(
    stack: ExitStack,
    text: Sequence[str | Path] | None,
    settings: Mapping[str, Any],
    *,
    reading: Mapping[str, Any],
    name: str | None = None,
    init_from: str | None = None,
    teacher: str | None = None,
    preset: str | None = None,
    note: Note,
    advise: Note,
) -> "Trainer":
    """Read a text and begin a run on it, which ``stack`` holds.

    ``settings`` are fields of ``ModelConfig`` and ``TrainConfig``, ``reading`` arguments of
    ``open_corpus``. ``note`` gets what the user must know, ``advise`` what might help.
    """
    import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.config import TrainConfig
    from charlstm.net.model_config import ModelConfig

    shape, learning = (
        {f.name: settings[f.name] for f in fields(kind) if f.name in settings}
        for kind in (ModelConfig, TrainConfig)
    )
    unknown = settings.keys() - shape.keys() - learning.keys() | shape.keys() & {"vocab_size"}
    if unknown:
        raise TypeError(f"there is no setting {', '.join(sorted(unknown))}")
    if init_from is not None and shape:
        raise UsageError(
            f"{', '.join(f'`{field}`' for field in shape)}: `init_from` takes the model's shape "
            "from the other run",
            "omit them, or train without `init_from`",
        )
    corpus = open_text(text, note=note, advise=advise, **reading)
    from charlstm.presets import advice, default_settings
    from charlstm.runs.catalogue import find_checkpoint, runs_folder

    source = None if init_from is None else find_checkpoint(init_from)
    taught_by = None if teacher is None else find_checkpoint(teacher)
    model_config, train_config = default_settings(
        len(corpus),
        len(corpus.vocab),
        preset=preset,
        with_teacher=taught_by is not None,
        model=shape,
        train=learning,
    )
    for sentence in advice(model_config, corpus.vocab, corpus.counts, train_config):
        advise(f"note: {sentence}")
    advise("starting …")
    from charlstm.train.new_run import begin
    from charlstm.train.validation import held_out_notes

    for sentence in held_out_notes(corpus, train_config.val_fraction):
        advise(f"note: {sentence}")
    opened = begin(
        corpus,
        model_config,
        train_config,
        root=runs_folder(),
        name=name,
        init_from=source,
        teacher=taught_by,
    )
    trainer = stack.enter_context(opened)
    if taught_by is not None:
        advise(f"taught by {taught_by}")
    for sentence in _without_effect(learning, trainer):
        note(f"note: {sentence}")
    for notice in trainer.notices:
        note(f"note: {notice}")
    if name is not None and trainer.path.name != name:
        note(f"the run is named {trainer.path.name}")
    return trainer


def _without_effect(given: Mapping[str, Any], trainer: "Trainer") -> Iterator[str]:
    """The given settings that the run does not use, or not as given, and why."""
    used, total = trainer.run_file.train, trainer.run_file.budget.total_steps
    for field in ("batch", "bptt"):
        if given.get(field, 0) > (limit := getattr(used, field)):
            yield f"the text is too short for `{field}` {given[field]}; using {limit}"
    if total is not None and (warmup := given.get("warmup_steps", 0)) > total // 10:
        yield f"using `warmup_steps` {total // 10}, not {warmup}: at most a tenth of the steps"
    if given.get("patience") and used.val_fraction == 0:
        yield "`patience` has no effect: with `val_fraction` 0 nothing is validated"
    if given.get("dropout_masks", 1) > 1 and used.dropout == 0:
        yield "`dropout_masks` has no effect: `dropout` is 0"
    if "final_rate" in given and used.hold == 1:
        yield "`final_rate` has no effect: with `hold` 1 the learning rate never decays"


def resume_run(
    stack: ExitStack, path: Path, corpus: "Corpus", changes: Mapping[str, Any], note: Note
) -> "Trainer":
    """Open a run to train it further, which ``stack`` holds; ``changes`` are ``BudgetFields``."""
    if unknown := changes.keys() - BudgetFields.__annotations__.keys():
        raise TypeError(f"a resumed run cannot change {', '.join(sorted(unknown))}")
    from charlstm.train.resume import open_run

    trainer = stack.enter_context(open_run(path, corpus, changes))
    for notice in trainer.notices:
        note(notice)
    return trainer


def check_tensorboard(folder: str | Path | None) -> None:
    """Raise ``CharlstmError``, before a run is made, if TensorBoard's files cannot be written."""
    if folder is not None:
        from charlstm.export.tensorboard import writer_class

        writer_class()


def open_text(
    text: Sequence[str | Path] | None, *, note: Note, advise: Note, **reading: Any
) -> "Corpus":
    """The corpus of files, folders or stdin (-), or the bundled one for none.

    ``note`` gets what is notable about them, ``advise`` how far a long text is read.
    """
    from charlstm.text.corpus import open_corpus
    from charlstm.text.notes import text_notes
    from charlstm.text.sources import bundled_corpus

    if reading.get("as_bytes") and "encoding" in reading:
        note("note: `encoding` has no effect with `as_bytes`")
    shown = 0

    def progress(characters: int) -> None:
        nonlocal shown
        if characters - shown >= REPORTED_CHARACTERS:
            shown = characters
            advise(f"read {characters:,} characters …")

    corpus = open_corpus(text or [bundled_corpus()], progress=progress, **reading)
    for sentence in text_notes(corpus):
        note(sentence)
    return corpus


def sample_of(file: "ModelFile") -> str:
    """What a model writes for a log: the same seed each time, so that samples can be compared."""
    from charlstm.model import Model
    from charlstm.show.printable import printable

    text = Model(file, Path()).generate(length=SAMPLE_CHARACTERS, temperature=0.8, seed=1)
    return printable(str(text))


def text_of_run(run: "RunFile", text: Sequence[str | Path] | None, note: Note) -> "Corpus":
    """A run's text, read from where it is now, or from where the run has recorded that it was.

    Raises:
        TextGone: it is no longer there.
    """
    from charlstm.text.corpus import open_corpus, reopen_corpus

    if text:
        return open_corpus(text, encoding=run.source.encoding, as_bytes=run.source.as_bytes)
    corpus = reopen_corpus(run.source, run.digest)
    if (lost := run.source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} no longer exists; using its text from the cache")
    return corpus


def _print_note(message: str) -> None:
    from charlstm.show.console import in_kernel
    from charlstm.show.printable import printable

    with suppress(OSError, ValueError):  # the terminal is gone; what is being done goes on
        stream = sys.stdout if in_kernel() else sys.stderr  # a notebook shows stderr as an error
        stream.write(printable(message, keep="") + "\n")
        stream.flush()


def _no_note(message: str) -> None:
    pass
