"""From the options of `charlstm train` to an open run."""

import os
import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from charlstm.cli.options import note
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
    from charlstm.runs.catalogue import find_checkpoint

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
    from charlstm.text.corpus import open_corpus, reopen_corpus

    for name in text or ():
        _check_text(name)
    path = find_run(checkpoint, inside=True)
    if checkpoint is None and not quiet:
        note(f"resuming {path}")
    run = read_run_file(path)
    source = run.source
    with interruptible():  # nothing half-encoded stays
        if text:
            corpus = open_corpus(text, encoding=source.encoding, as_bytes=source.as_bytes)
        elif gone := [path for path in source.paths if not _is_there(path)]:
            raise CharlstmError(
                f"the run's text {gone[0]} is no longer there",
                f"say where it is now: charlstm train TEXT --resume -c {shlex.quote(str(path))}",
            )
        elif found := reopen_corpus(source, run.digest):
            corpus = found
        else:
            raise CharlstmError(
                "the run's text came from stdin and is no longer in the cache",
                f"pipe it in again: charlstm train - --resume -c {shlex.quote(str(path))}",
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


def _is_there(source: str) -> bool:
    from charlstm.text.sources import STDIN

    return source == STDIN or os.path.exists(source)


def _check_text(name: str) -> None:
    """Raise ``UsageError`` if a run, or nothing, stands where a resumed run's text would."""
    from charlstm.runs.catalogue import is_run

    if not os.path.isfile(name) and is_run(name):
        raise UsageError(
            f"{name} is a run and no text",
            f"charlstm train --resume -c {shlex.quote(name)} goes on with it",
        )
    if not _is_there(name):
        raise UsageError(f"there is no file {name}", "a run is named by -c; charlstm runs has all")
