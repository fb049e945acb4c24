"""Turn the options of `charlstm train` into an open run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.inputs import name_again, note_keyboard
from charlstm.cli.options import command, note
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError

if TYPE_CHECKING:
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus
    from charlstm.text.sources import TextSource
    from charlstm.train.trainer import Trainer


def begin_run(
    stack: ExitStack,
    corpus: "Corpus",
    model: dict[str, Any],
    learning: dict[str, Any],
    start: dict[str, Any],
    quiet: bool,
) -> "Trainer":
    """Start a run on a corpus, with the given fields of the model, the training and the start."""
    from charlstm.presets import advice, default_settings
    from charlstm.runs.catalogue import find_checkpoint, runs_folder

    source = find_checkpoint(start["init_from"]) if "init_from" in start else None
    teacher = find_checkpoint(start["teacher"]) if "teacher" in start else None
    model_config, train_config = default_settings(
        len(corpus),
        len(corpus.vocab),
        preset=start.get("preset"),
        with_teacher=teacher is not None,
        model=model,
        train=learning,
    )
    if not quiet:
        for sentence in advice(model_config, corpus.vocab, corpus.counts, train_config):
            note(f"note: {sentence}")
        note("starting …")
    from charlstm.train.new_run import begin
    from charlstm.train.validation import held_out_notes

    if not quiet:
        for sentence in held_out_notes(corpus, train_config.val_fraction):
            note(f"note: {sentence}")

    opened = begin(
        corpus,
        model_config,
        train_config,
        root=runs_folder(),
        name=start.get("name"),
        init_from=source,
        teacher=teacher,
    )
    trainer = stack.enter_context(opened)
    if teacher is not None and not quiet:
        note(f"distilling from {teacher}")
    for sentence in _without_effect(learning, trainer):
        note(f"note: {sentence}")
    for notice in trainer.notices:
        note(f"note: {notice}")
    wanted = start.get("name")
    if wanted is not None and trainer.path.name != wanted:
        note(f"the run is named {trainer.path.name}")
    return trainer


def _without_effect(given: dict[str, Any], trainer: "Trainer") -> Iterator[str]:
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
    stack: ExitStack,
    checkpoint: str | None,
    text: list[str],
    changes: dict[str, Any],
    quiet: bool,
) -> "Trainer":
    """Resume a run; ``changes`` are settings that ``open_run`` can change."""
    note_keyboard(text)
    for name in text:
        _check_text(name)
    with interruptible():  # leaves no half-written cache
        if text and checkpoint is None:
            path, run, corpus = _run_of(text)
        else:
            path, run, corpus = _named_run(checkpoint, text)
    if checkpoint is None and not quiet:
        note(f"resuming {path}")
    if text and corpus.digest != run.digest and (other := _other_run_of(corpus)):
        raise UsageError(
            f"{', '.join(text)} is the text of the run {other.name}, not of {path.name}",
            f"to resume {other.name}:",
            command("train", *text, "--resume", "-c", other),
        )
    from charlstm.train.resume import open_run

    trainer = stack.enter_context(open_run(path, corpus, changes))
    for notice in trainer.notices:
        note(notice)
    return trainer


def _named_run(checkpoint: str | None, text: list[str]) -> "tuple[Path, RunFile, Corpus]":
    """The run of ``-c``, or the newest, and its text: the given one, or the recorded one."""
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone, reopen_corpus

    path = find_run(checkpoint, inside=True)
    run = read_run_file(path)
    if text:
        return path, run, _open_as(text, run.source)
    try:
        corpus = reopen_corpus(run.source, run.digest)
    except TextGone as error:
        raise CharlstmError(error.message, *name_again(run.source, path)) from None
    if (lost := run.source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} no longer exists; using its text from the cache")
    return path, run, corpus


def _run_of(text: list[str]) -> "tuple[Path, RunFile, Corpus]":
    """The newest run of a text, for a text given without ``-c``, and the text.

    If no run has that text, it is the newest run whose text was at these paths.

    Raises:
        CharlstmError: there is no such run, or the text cannot be read.
    """
    from charlstm.runs.catalogue import find_run, list_runs
    from charlstm.runs.run import read_run_file
    from charlstm.text.sources import STDIN, kind_of

    once = any(name == STDIN or kind_of(Path(name)) == "pipe" for name in text)
    named = tuple(str(Path(name).absolute()) for name in text)
    read: dict[tuple[str, bool], Corpus | CharlstmError] = {}
    at_these_paths: list[tuple[Path, RunFile, Corpus | CharlstmError]] = []
    for path in (find_run(None), *list_runs()):
        try:
            run = read_run_file(path)
        except CharlstmError:
            continue
        reading = run.source.encoding, run.source.as_bytes
        if reading not in read:
            if once and read:
                continue
            try:
                read[reading] = _open_as(text, run.source)
            except CharlstmError as error:
                read[reading] = error
        corpus = read[reading]
        if not isinstance(corpus, CharlstmError) and corpus.digest == run.digest:
            return path, run, corpus
        if run.source.paths == named:
            at_these_paths.append((path, run, corpus))
    for path, run, corpus in at_these_paths[:1]:
        if isinstance(corpus, CharlstmError):
            raise corpus
        return path, run, corpus
    unread = [corpus for corpus in read.values() if isinstance(corpus, CharlstmError)]
    if unread and len(unread) == len(read):
        raise unread[0]
    raise UsageError(
        f"no run was trained on {', '.join(text)} as it is now",
        "name the run to resume with -c, or start a new one:",
        command("train", *text),
    )


def _open_as(text: list[str], source: "TextSource") -> "Corpus":
    """A text, read with the encoding of a run's text."""
    from charlstm.text.corpus import open_corpus

    return open_corpus(text, encoding=source.encoding, as_bytes=source.as_bytes)


def _other_run_of(corpus: "Corpus") -> Path | None:
    """The newest run of a corpus, if there is one."""
    from charlstm.runs.catalogue import list_runs
    from charlstm.runs.run import read_run_file

    for other in list_runs():
        with suppress(CharlstmError):
            if read_run_file(other).digest == corpus.digest:
                return other
    return None


def _check_text(name: str) -> None:
    """Raise ``UsageError`` if what should be a text is a run, or does not exist."""
    from charlstm.runs.catalogue import is_part_of_run, is_run
    from charlstm.text.sources import STDIN

    if name == STDIN or (os.path.exists(name) and not is_part_of_run(Path(name))):
        return
    if os.path.exists(name) or is_run(name):
        raise UsageError(
            f"{name} is a run, not a text",
            "to resume it:",
            command("train", "--resume", "-c", name),
        )
    raise UsageError(
        f"there is no file {name}", "name a run with -c; to list runs:", command("runs")
    )
