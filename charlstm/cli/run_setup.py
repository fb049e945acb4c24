"""From the options of `charlstm train` to an open run."""

import os
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
    """Begin a run on a corpus, with the options of the model, of its learning and of its start."""
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
        note(f"taught by {teacher}")
    for option in ("batch", "bptt"):
        used = getattr(trainer.run_file.train, option)
        if (asked := learning.get(option, used)) > used:
            note(f"note: the text is too short for --{option} {asked}: it is {used}")
    for notice in trainer.notices:
        note(f"note: {notice}")
    wanted = start.get("name")
    if wanted is not None and trainer.path.name != wanted:
        note(f"the run is called {trainer.path.name}")
    return trainer


def resume_run(
    stack: ExitStack,
    checkpoint: str | None,
    text: list[str],
    changes: dict[str, Any],
    quiet: bool,
) -> "Trainer":
    """Go on with a run; ``changes`` are the settings that ``open_run`` can change."""
    note_keyboard(text)
    for name in text:
        _check_text(name)
    with interruptible():  # nothing half-encoded stays
        if text and checkpoint is None:
            path, run, corpus = _run_of(text)
        else:
            path, run, corpus = _named_run(checkpoint, text)
    if checkpoint is None and not quiet:
        note(f"resuming {path}")
    if text and corpus.digest != run.digest and (other := _other_run_of(corpus)):
        raise UsageError(
            f"{', '.join(text)} is not the text of the run {path.name} but of {other.name}",
            command("train", *text, "--resume", "-c", other),
        )
    from charlstm.train.resume import open_run

    trainer = stack.enter_context(open_run(path, corpus, changes))
    for notice in trainer.notices:
        note(notice)
    total = trainer.run_file.budget.total_steps
    if total is not None and trainer.progress.step >= total:
        used = run.train
        name = "minutes" if used.minutes else "steps" if used.steps else "epochs"
        note(
            f"the run has done its {total:,} steps; to go on, give a larger budget than "
            f"--{name} {getattr(used, name):g}"
        )
    return trainer


def _named_run(checkpoint: str | None, text: list[str]) -> "tuple[Path, RunFile, Corpus]":
    """The run of ``-c``, else the newest, and its text: this one, else the one it has recorded."""
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
        raise CharlstmError(error.message, name_again(run.source, path)) from None
    if (lost := run.source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} is no longer there; its text is in the cache")
    return path, run, corpus


def _run_of(text: list[str]) -> "tuple[Path, RunFile, Corpus]":
    """The newest run of a text that is named without its run, and the text.

    Where the text is that of no run, it is the newest run whose text was at these paths.

    Raises:
        CharlstmError: there is none, or the text cannot be read.
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
        f"no run has learnt {', '.join(text)} as it is now",
        f"name the run that goes on with -c, or make one: {command('train', *text)}",
    )


def _open_as(text: list[str], source: "TextSource") -> "Corpus":
    """A text that is named, read as a run's."""
    from charlstm.text.corpus import open_corpus

    return open_corpus(text, encoding=source.encoding, as_bytes=source.as_bytes)


def _other_run_of(corpus: "Corpus") -> Path | None:
    """The newest run of a text, if there is one."""
    from charlstm.runs.catalogue import list_runs
    from charlstm.runs.run import read_run_file

    for other in list_runs():
        with suppress(CharlstmError):
            if read_run_file(other).digest == corpus.digest:
                return other
    return None


def _check_text(name: str) -> None:
    """Raise ``UsageError`` if a run, or nothing, stands where a resumed run's text would."""
    from charlstm.runs.catalogue import is_part_of_run, is_run
    from charlstm.text.sources import STDIN

    if name == STDIN or (os.path.exists(name) and not is_part_of_run(Path(name))):
        return
    if os.path.exists(name) or is_run(name):
        raise UsageError(
            f"{name} is a run and no text",
            f"{command('train', '--resume', '-c', name)} goes on with it",
        )
    raise UsageError(f"there is no file {name}", "a run is named by -c; charlstm runs has all")
