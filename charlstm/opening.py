"""Open a run for training: its text, its settings, its folder.

The command and the Python functions share this module.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from charlstm.errors import CharlstmError, UsageError, require, shown

if TYPE_CHECKING:
    from charlstm.runs.generation import Generation
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus
    from charlstm.text.found import Progress
    from charlstm.training.trainer import Trainer

Note = Callable[[str], object]
Watch = Callable[[], AbstractContextManager["Progress"]]
"""What shows the progress through a text while it is read."""
LINE_SECONDS = 5.0
"""Seconds between two lines that say how far a long text is read."""


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
    generations: int | None = None,
    note: Note,
    advise: Note,
    watch: Watch | None = None,
) -> "Trainer":
    """Read a text and begin a run on it; ``stack`` holds the run's lock.

    ``settings`` are fields of ``ModelConfig`` and ``TrainConfig``, ``reading`` arguments of
    ``open_corpus``. ``note`` gets what the user must know, ``advise`` what might help; ``watch`` is
    as in ``open_text``. The first of several ``generations`` is begun.
    """
    begun = time.perf_counter()
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.training.processes import all_processes, may_restart, started_by_torchrun

    require(name is None or isinstance(name, str), f"`name` is {shown(name)}, but must be a string")
    shape, _ = _by_kind(settings)
    if init_from is not None and shape:
        raise UsageError(
            f"{', '.join(f'`{field}`' for field in shape)}: `init_from` takes the model's shape "
            "from the other run",
            "omit them, or train without `init_from`",
        )
    if name is None and may_restart():
        raise UsageError(
            "torchrun may restart the run, which needs a `name` to continue", "choose a `name`"
        )
    processes = all_processes()
    corpus = processes.same_text(
        lambda: open_text(text, note=note, advise=advise, watch=watch, **reading)
    )
    from charlstm.presets import (
        PRESETS,
        default_epochs,
        generation_minutes,
        generation_presets,
    )
    from charlstm.runs.catalogue import find_checkpoint
    from charlstm.runs.generation import Generation

    if name is not None and started_by_torchrun():
        run_name = name
        found = processes.first(lambda: _run_of_that_name(run_name, settings, corpus))
        if found is not None:
            note(f"resuming {found[0]}")
            path, changes = found
            return resume_run(stack, path, corpus, changes, note)

    def find(run: str | None) -> Path | None:
        return processes.first(lambda: None if run is None else find_checkpoint(run))

    is_list, divided = corpus.vocab.end is not None, generations is None
    alone = started_by_torchrun() or teacher is not None or init_from is not None
    budgeted = any(settings.get(field) is not None for field in ("steps", "epochs"))
    if divided and (alone or budgeted):
        generations = 1
    minutes, generation = settings.get("minutes"), None
    presets = generation_presets(len(corpus), minutes, generations, preset, is_list=is_list)
    if len(presets) > 1:
        require(not started_by_torchrun(), "torchrun trains one generation", "omit `generations`")
        if divided and minutes is None:
            epochs = default_epochs(PRESETS[presets[0]], len(corpus)) / len(presets)
            settings = {**settings, "epochs": epochs}
        generation = Generation.first(presets, name, settings)
        advise(f"{len(presets)} generations: each learns from the one before")
        if minutes is not None:
            settings = {**settings, "minutes": generation_minutes(presets, 1, minutes, minutes)}
    return start_run(
        stack,
        corpus,
        settings,
        name=name,
        init_from=find(init_from),
        teacher=find(teacher),
        preset=preset,
        generation=generation,
        begun=begun,
        note=note,
        advise=advise,
    )


def start_run(
    stack: ExitStack,
    corpus: "Corpus",
    settings: Mapping[str, Any],
    *,
    root: Path | None = None,
    name: str | None = None,
    init_from: Path | None = None,
    teacher: Path | None = None,
    preset: str | None = None,
    generation: "Generation | None" = None,
    begun: float | None = None,
    note: Note,
    advise: Note,
) -> "Trainer":
    """Begin a run on a corpus below ``root``, by default ``runs_folder``; see ``begin_run``.

    ``init_from`` and ``teacher`` are checkpoints. The time since ``begun`` counts as the run's.
    """
    from charlstm.presets import advice, default_settings
    from charlstm.runs.catalogue import runs_folder
    from charlstm.training.new_run import begin
    from charlstm.training.validation import held_out_notes

    begun = time.perf_counter() if begun is None else begun
    shape, learning = _by_kind(settings)
    if generation is not None:
        preset = generation.presets[generation.number - 1]
        if teacher is None:  # the first, while the others distil
            learning.pop("distillation", None)
    model_config, train_config = default_settings(
        len(corpus),
        len(corpus.vocab),
        preset=preset,
        with_teacher=teacher is not None,
        items=None if corpus.vocab.end is None else corpus.counts[corpus.vocab.end],
        model=shape,
        train=learning,
    )
    is_first = generation is None or generation.number == 1
    if is_first:
        for sentence in advice(model_config, corpus.vocab, corpus.counts, train_config):
            advise(f"note: {sentence}")
        advise("starting …")
        for sentence in held_out_notes(corpus, train_config.val_fraction):
            advise(f"note: {sentence}")
    opened = begin(
        corpus,
        model_config,
        train_config,
        root=root or runs_folder(),
        name=name,
        init_from=init_from,
        teacher=teacher,
        generation=generation,
    )
    trainer = stack.enter_context(opened)
    trainer.progress.seconds += time.perf_counter() - begun
    if teacher is not None and generation is None:
        advise(f"taught by {teacher}")
    for sentence in _without_effect(learning, trainer) if is_first else ():
        note(f"note: {sentence}")
    for notice in trainer.notices:
        note(f"note: {notice}")
    if name not in (None, trainer.path.name) and is_first:
        note(f"the run is named {trainer.path.name}")
    return trainer


def _by_kind(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of ``ModelConfig`` and those of ``TrainConfig``; a third kind is an error."""
    from charlstm.config import TrainConfig
    from charlstm.net.model_config import ModelConfig

    shape, learning = (
        {f.name: settings[f.name] for f in fields(kind) if f.name in settings}
        for kind in (ModelConfig, TrainConfig)
    )
    unknown = settings.keys() - shape.keys() - learning.keys()
    unknown |= shape.keys() & {"vocab_size", "end"}
    if unknown:
        raise TypeError(f"there is no setting {', '.join(sorted(unknown))}")
    return shape, learning


def _run_of_that_name(
    name: str, settings: Mapping[str, Any], corpus: "Corpus"
) -> "tuple[Path, dict[str, Any]] | None":
    """The run that a restarted command continues, if there is one, and the changes to its budget.

    Raises:
        UsageError: it has other settings than the command.
    """
    from charlstm.runs.catalogue import runs_folder
    from charlstm.runs.run import RUN_FILE, read_run_file, safe_name
    from charlstm.text.streams import fit_streams

    path = runs_folder() / safe_name(name)
    if not (path / RUN_FILE).is_file():
        return None
    run = read_run_file(path)
    has = {**run.model.to_dict(), **run.train.to_dict()}
    train_ids, _ = corpus.split(run.train.val_fraction)
    sizes = (settings.get(field, has[field]) for field in ("batch", "bptt"))
    fitted = dict(zip(("batch", "bptt"), fit_streams(len(train_ids), *sizes), strict=True))
    changes = {}
    for field, value in settings.items():
        if value in ("auto", has[field]) or (field == "threads" and value == 0):
            continue
        if field in BudgetFields.__annotations__:
            changes[field] = value
        elif fitted.get(field) != has[field]:
            raise UsageError(
                f"the run {name} exists, with `{field}` {has[field]} instead of {value}",
                "choose another `name`, or leave that setting out to continue the run",
            )
    return path, changes


def resumed_text(
    find: Callable[[], tuple[Path, "Corpus"]], text: Sequence[str | Path] | None, note: Note
) -> tuple[Path, "Corpus"]:
    """The run that ``find`` finds in process 0, and its text, opened once on each machine."""
    from charlstm.runs.run import read_run_file
    from charlstm.training.processes import all_processes

    opened: list[Corpus] = []

    def find_first() -> "tuple[Path, RunFile]":
        path, corpus = find()
        opened.append(corpus)
        return path, read_run_file(path)

    processes = all_processes()
    path, run = processes.first(find_first, patient=True)
    corpus = processes.same_text(lambda: opened[0] if opened else text_of_run(run, text, note))
    return path, corpus


def _without_effect(given: Mapping[str, Any], trainer: "Trainer") -> Iterator[str]:
    """A sentence for each given setting that the run does not use as given."""
    used, total = trainer.run_file.train, trainer.run_file.budget.total_steps
    for field in ("batch", "bptt"):
        if given.get(field, 0) > (limit := getattr(used, field)):
            yield f"the text is too short for `{field}` {given[field]}; using {limit}"
    if total is not None and (warmup := given.get("warmup_steps", 0)) > total // 10:
        yield f"using `warmup_steps` {total // 10}, not {warmup}: at most a tenth of the steps"
    yield from _idle_patience(given, trainer)
    if given.get("dropout_masks", 1) > 1 and used.dropout == 0:
        yield "`dropout_masks` has no effect: `dropout` is 0"
    if given.get("reset_every") and trainer.run_file.source.separator is not None:
        yield "`reset_every` has no effect: every item of a list starts from zero state"
    if "final_rate" in given and used.hold == 1:
        yield "`final_rate` has no effect: with `hold` 1 the learning rate never decays"


def _idle_patience(given: Mapping[str, Any], trainer: "Trainer") -> Iterator[str]:
    """A sentence if ``patience`` is given, but nothing is validated."""
    if given.get("patience") and trainer.run_file.train.val_fraction == 0:
        yield "`patience` has no effect: with `val_fraction` 0 nothing is validated"


def resume_run(
    stack: ExitStack, path: Path, corpus: "Corpus", changes: Mapping[str, Any], note: Note
) -> "Trainer":
    """Open a run to train it on; ``stack`` holds its lock, ``changes`` are ``BudgetFields``."""
    if unknown := changes.keys() - BudgetFields.__annotations__.keys():
        raise TypeError(f"a resumed run cannot change {', '.join(sorted(unknown))}")
    from charlstm.training.processes import all_processes
    from charlstm.training.resume import BUDGETS, open_run

    if not changes.keys() & (BUDGETS | {"patience"}):
        named, path = path, all_processes().first(lambda: _latest(path))
        if path != named:
            note(f"its chain has come to {path.name}")
    trainer = stack.enter_context(open_run(path, corpus, changes))
    for sentence in _idle_patience(changes, trainer):
        note(f"note: {sentence}")
    for notice in trainer.notices:
        note(notice)
    return trainer


def _latest(path: Path) -> Path:
    """The last generation of a run's chain, which resuming any of them goes on with."""
    from charlstm.runs.catalogue import generations

    return generations(path)[-1]


def check_tensorboard(folder: str | Path | None) -> None:
    """Raise ``CharlstmError``, before a run is made, if TensorBoard's files cannot be written."""
    if folder is not None:
        from charlstm.export.tensorboard import writer_class

        writer_class()


def open_text(
    text: Sequence[str | Path] | None,
    *,
    note: Note,
    advise: Note,
    lines: bool = False,
    watch: Watch | None = None,
    **reading: Any,
) -> "Corpus":
    """The corpus of files, folders or stdin (-); None stands for the bundled text.

    With ``lines`` each line is an item of a list. ``note`` gets what is notable about the text.
    ``watch`` shows how far a long text is read; by default ``advise`` gets lines about that.

    Raises:
        UsageError: the separator does not occur in the text, or only at its end.
    """
    from charlstm.text.corpus import open_corpus
    from charlstm.text.notes import text_notes
    from charlstm.text.sources import bundled_corpus

    if reading.get("as_bytes") and "encoding" in reading:
        note("note: `encoding` has no effect with `as_bytes`")
    if lines:
        require("separator" not in reading, "`lines` excludes `separator`", "use one of them")
        reading["separator"] = "\n"
    with nullcontext(progress_lines(advise)) if watch is None else watch() as progress:
        corpus = open_corpus(text or [bundled_corpus()], progress=progress, **reading)
    if (end := corpus.vocab.end) is not None and corpus.counts[end] == 1:  # only that of the file
        require(not lines, "the text has only one line", "separate its items by `separator`")
        raise UsageError(
            f"the separator {corpus.vocab.separator!r} does not occur in the text, or only at its "
            "end",
            "in most shells, a newline is written as $'\\n'",
        )
    for sentence in text_notes(corpus):
        note(sentence)
    return corpus


def progress_lines(write: Note, clock: Callable[[], float] = time.monotonic) -> "Progress":
    """A function of (activity, bytes done, total) that writes a line every few seconds."""
    began: dict[str, float] = {}
    written_at = clock()

    def report(activity: str, done: int, total: int | None) -> None:
        nonlocal written_at
        now = clock()
        start = began.setdefault(activity, now)
        if now - written_at < LINE_SECONDS:
            return
        written_at = now
        line = f"{activity} the text: {done / 1e6:,.0f} MB"
        if total and done and now > start:
            left = (now - start) * (total - done) / done
            line += f" of {total / 1e6:,.0f} MB, {left:,.0f} s left"
        write(f"{line} …")

    return report


def text_of_run(
    run: "RunFile",
    text: Sequence[str | Path] | None,
    note: Note,
    watch: Watch | None = None,
) -> "Corpus":
    """A run's text, read from where it is now, or from where the run has recorded that it was.

    If what is recorded has changed or cannot be read, the text is taken as it was from the cache.
    ``watch`` is as in ``open_text``.

    Raises:
        TextGone: the text is no longer there.
    """
    from charlstm.text.corpus import find_encoded, open_corpus, reopen_corpus

    source = run.source
    with nullcontext(progress_lines(note)) if watch is None else watch() as progress:
        if text:
            return open_corpus(
                text,
                encoding=source.encoding,
                as_bytes=source.as_bytes,
                separator=source.separator,
                progress=progress,
            )
        found: Corpus | CharlstmError
        try:
            found = reopen_corpus(source, run.digest, progress)
        except CharlstmError as error:
            found = error
        changed = isinstance(found, CharlstmError) or found.digest != run.digest
        before = find_encoded(run.digest, source, progress) if changed else None
    if before is not None:
        change = "the text has changed since the run started"
        change = found.message if isinstance(found, CharlstmError) else change
        note(f"note: {change}; continuing with the text as it was, from the cache")
        return before
    if isinstance(found, CharlstmError):
        raise found
    if (lost := source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} no longer exists; using its text from the cache")
    return found
