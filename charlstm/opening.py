"""Open a run for training: its text, its settings, its folder.

The command and the Python functions share this module.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus
    from charlstm.training.trainer import Trainer

Note = Callable[[str], object]
REPORTED_CHARACTERS = 50_000_000
"""Interval of the notes on the progress of reading a long text."""


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
    """Read a text and begin a run on it; ``stack`` holds the run's lock.

    ``settings`` are fields of ``ModelConfig`` and ``TrainConfig``; ``reading`` has arguments of
    ``open_corpus``. ``note`` gets what the user must know, ``advise`` what may help.
    """
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
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
    from charlstm.training.new_run import begin
    from charlstm.training.validation import held_out_notes

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
    """A sentence for each given setting that the run does not use as given."""
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
    """Open a run to train it on; ``stack`` holds its lock, ``changes`` are ``BudgetFields``."""
    if unknown := changes.keys() - BudgetFields.__annotations__.keys():
        raise TypeError(f"a resumed run cannot change {', '.join(sorted(unknown))}")
    from charlstm.training.resume import open_run

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
    """The corpus of files, folders or stdin (-); None stands for the bundled text.

    ``note`` gets what is unusual about the text, ``advise`` the progress of a long one.
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


def text_of_run(run: "RunFile", text: Sequence[str | Path] | None, note: Note) -> "Corpus":
    """A run's text, read from ``text`` if it was moved, otherwise from its recorded path.

    Raises:
        TextGone: the text is no longer there.
    """
    from charlstm.text.corpus import open_corpus, reopen_corpus

    if text:
        return open_corpus(text, encoding=run.source.encoding, as_bytes=run.source.as_bytes)
    corpus = reopen_corpus(run.source, run.digest)
    if (lost := run.source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} no longer exists; using its text from the cache")
    return corpus
