"""Find the run that `charlstm train --resume` continues, and its text."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.cli.inputs import name_again, note_keyboard, reading_watch, refuse_run
from charlstm.cli.options import command, note, operands
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError
from charlstm.opening import text_of_run

if TYPE_CHECKING:
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus


def find_resumed(checkpoint: str | None, text: list[str], quiet: bool) -> "tuple[Path, Corpus]":
    """The run of ``-c``, else that of ``text``, else the newest; and its text.

    Raises:
        CharlstmError: there is none, or its text cannot be read.
    """
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
            command("train", *operands(text), "--resume", "-c", other),
        )
    return path, corpus


def _named_run(checkpoint: str | None, text: list[str]) -> "tuple[Path, RunFile, Corpus]":
    """The run of ``-c``, or the newest, and its text: the given one, or the recorded one."""
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone

    path = find_run(checkpoint, inside=True)
    run = read_run_file(path)
    try:
        return path, run, text_of_run(run, text, note, reading_watch(False))
    except TextGone as error:
        raise CharlstmError(error.message, *name_again(run.source, path)) from None


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
    read: dict[tuple[str, bool, str | None], Corpus | CharlstmError] = {}
    at_these_paths: list[tuple[Path, RunFile, Corpus | CharlstmError]] = []
    for path in (find_run(None), *list_runs()):
        try:
            run = read_run_file(path)
        except CharlstmError:
            continue
        reading = run.source.encoding, run.source.as_bytes, run.source.separator
        if reading not in read:
            if once and read:
                continue
            try:
                read[reading] = text_of_run(run, text, note, reading_watch(False))
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
        command("train", *operands(text)),
    )


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
    from charlstm.text.sources import STDIN

    refuse_run(name)
    if name != STDIN and not os.path.exists(name):
        raise UsageError(
            f"there is no file {name}", "name a run with -c; to list runs:", command("runs")
        )
