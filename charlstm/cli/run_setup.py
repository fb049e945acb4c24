"""From the options of `charlstm train` to an open run."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.inputs import name_again, refuse_run
from charlstm.cli.options import command, note, operands
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError

if TYPE_CHECKING:
    from charlstm.text.corpus import Corpus
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
    text: list[str] | None,
    changes: dict[str, Any],
    quiet: bool,
) -> "Trainer":
    """Go on with a run; ``changes`` are the settings that ``open_run`` can change."""
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.run import read_run_file

    for name in text or ():
        _check_text(name)
    with interruptible():  # nothing half-encoded stays
        if text and checkpoint is None:
            path, corpus = _run_of(text)
        else:
            path = find_run(checkpoint, inside=True)
            corpus = _text_of(path, text)
    run = read_run_file(path)
    if checkpoint is None and not quiet:
        note(f"resuming {path}")
    if text and corpus.digest != run.digest and (other := _other_run_of(corpus)):
        raise UsageError(
            f"{', '.join(text)} is not the text of the run {path.name} but of {other.name}",
            command("train", *operands(text), "--resume", "-c", other),
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


def _text_of(path: Path, text: list[str] | None) -> "Corpus":
    """The text of a run: the one that is named, else where the run has it from."""
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone, open_corpus, reopen_corpus

    run = read_run_file(path)
    source = run.source
    if text:
        return open_corpus(text, encoding=source.encoding, as_bytes=source.as_bytes)
    try:
        corpus = reopen_corpus(source, run.digest)
    except TextGone as error:
        raise CharlstmError(error.message, name_again(source, path)) from None
    if (lost := source.not_there()) and lost[1] == "nothing":
        note(f"note: {lost[0]} is no longer there; its text is in the cache")
    return corpus


def _run_of(text: list[str]) -> "tuple[Path, Corpus]":
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
    at_these_paths: list[tuple[Path, Corpus | CharlstmError]] = []
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
                read[reading] = _text_of(path, text)
            except CharlstmError as error:
                read[reading] = error
        corpus = read[reading]
        if not isinstance(corpus, CharlstmError) and corpus.digest == run.digest:
            return path, corpus
        if run.source.paths == named:
            at_these_paths.append((path, corpus))
    for path, corpus in at_these_paths[:1]:
        if isinstance(corpus, CharlstmError):
            raise corpus
        return path, corpus
    unread = [corpus for corpus in read.values() if isinstance(corpus, CharlstmError)]
    if unread and len(unread) == len(read):
        raise unread[0]
    raise UsageError(
        f"no run has learnt {', '.join(text)} as it is now",
        f"name the run that goes on with -c, or make one: {command('train', *operands(text))}",
    )


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
    from charlstm.text.sources import STDIN

    refuse_run(name)
    if name != STDIN and not os.path.exists(name):
        raise UsageError(f"there is no file {name}", "a run is named by -c; charlstm runs has all")
