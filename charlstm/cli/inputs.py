"""Open the models and texts that commands name."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.option_names import option_of
from charlstm.cli.options import command, note
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.training_run import open_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.model import Model
    from charlstm.text.corpus import Corpus
    from charlstm.text.sources import TextSource
    from charlstm.text.vocabulary import Ids, UnknownPolicy, Vocabulary

REPORTED_EVERY = 100_000
"""Characters between two reports of how far a text is read."""


def open_model(checkpoint: str | None) -> "Model":
    """The model of ``-c``; when it was left out, stderr says which one it is."""
    from charlstm.model import load

    model = load(checkpoint)
    if checkpoint is None:
        note(f"using {model.path}")
    return model


def unknown_policy(name: str) -> "UnknownPolicy":
    """The policy called ``name``; raises ``UsageError`` for any other name."""
    from charlstm.text.vocabulary import UNKNOWN_POLICIES

    for policy in UNKNOWN_POLICIES:
        if policy == name:
            return policy
    raise UsageError(f"`unknown` is {name!r}", f"choose one of {', '.join(UNKNOWN_POLICIES)}")


class Reader:
    """Turns the texts that a command gives a model into ids; stderr reports what is changed."""

    def __init__(self, vocab: "Vocabulary", policy: "UnknownPolicy") -> None:
        self._vocab = vocab
        self.policy = policy
        self._form_noted = False

    def known_form(self, text: str) -> str:
        """``text`` in the Unicode form that the model knows; one note for all texts will do."""
        form = self._vocab.known_form(text)
        if form != text and not self._form_noted:
            self._form_noted = True
            note("accents were put in the Unicode form that the model knows: they look the same")
        return form

    def encode(self, text: str) -> "Ids":
        """The ids of ``text``; notes how many characters are left out or replaced.

        Raises:
            CharlstmError: the model does not know a character, and the policy is ``error``.
        """
        text = self.known_form(text)
        ids = self._vocab.encode(text, self.policy)
        if self.policy != "error" and (unknown := self._vocab.unknown(text)):
            missing = sum(map(text.count, unknown))
            done = "left out" if self.policy == "skip" else "replaced"
            note(f"characters that the model never saw: {missing:,} of {len(text):,}, {done}")
        return ids

    def note_stops(self, stops: Iterable[str]) -> None:
        """Report stop sequences that never occur: the model cannot write them."""
        for stop in stops:
            if unknown := self._vocab.unknown(self.known_form(stop)):
                note(f"--stop {stop!r} never occurs: the model does not know {unknown[0]!r}")


def note_keyboard(sources: Iterable[str] | None) -> None:
    """Say on stderr that the command waits for somebody to type, if it does."""
    if "-" in (sources or ()) and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        note(f"reading from the keyboard; end with {end} on a line of its own")


def read_text(source: str, *, as_bytes: bool) -> str:
    """The text of a file, or of stdin for ``-``, without a byte-order mark.

    For a byte model any content will do: what is not UTF-8 becomes surrogate escapes.
    """
    from charlstm.files import read_text_bytes
    from charlstm.text.sources import format_of, wide_encoding

    name = "standard input" if source == "-" else source
    refuse_run(source)
    note_keyboard([source])
    try:
        if source == "-":
            data = read_text_bytes(sys.stdin.buffer, name)
        else:
            with Path(source).open("rb") as file:
                data = read_text_bytes(file, name)
    except OSError as error:
        reason = reason_of(error)
        raise CharlstmError(
            f"{name} cannot be read: {reason}", "check the path, or pipe the words in and give -"
        ) from None
    if as_bytes:
        return data.decode("utf-8", "surrogateescape")
    encoding = wide_encoding(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, binary = data[error.start], format_of(data)
        message = f"{name} is not valid utf-8: byte 0x{byte:02x} at offset {error.start:,}"
        if data.startswith(b"\x1f\x8b"):
            hint = "unpack it first, with gunzip -c FILE, and give -"
        elif binary:
            hint = f"it is {binary}; convert it to plain text"
        else:
            hint = _convert(encoding or ("cp1252" if 0x80 <= byte < 0xA0 else "latin1"))
        raise CharlstmError(message, hint) from None
    if encoding:
        raise CharlstmError(f"{name} is not utf-8 but {encoding}", _convert(encoding))
    return text.removeprefix("\ufeff")


def _convert(encoding: str) -> str:
    return f"convert it first, with iconv -f {encoding} -t utf-8 FILE or the like, and give -"


def refuse_run(name: str) -> None:
    """Raise ``UsageError`` if a run stands where a text would."""
    from charlstm.runs.catalogue import is_part_of_run, is_run

    if is_part_of_run(Path(name)) if os.path.exists(name) else is_run(name):
        raise UsageError(
            f"{name} is a run and no text",
            f"give a text; the run of that name is named by -c {shlex.quote(name)}"
            if option_of("resume") is None
            else f"{command('train', '--resume', '-c', name)} goes on with it",
        )


def open_texts(text: list[str] | None, *, quiet: bool, **reading: Any) -> "Corpus":
    """The corpus of these files, folders or stdin (-), or the bundled one for none.

    stderr says what is notable about them, and unless ``quiet`` how far into a long text it is.
    """
    for name in text or ():
        refuse_run(name)
    note_keyboard(text)
    with interruptible():  # nothing half-encoded stays
        return open_text(
            text, note=note, advise=(lambda message: None) if quiet else note, **reading
        )


def progress_of(total: int) -> Callable[[int], None]:
    """A function that reports on stderr, if that is a terminal, how far a long text is read."""
    reported = 0

    def progress(done: int) -> None:
        nonlocal reported
        if done - reported >= REPORTED_EVERY and sys.stderr.isatty():
            reported = done
            note(f"{done:,} of {total:,} characters …")

    return progress


def name_again(source: "TextSource", run: Path) -> str:
    """How to give a run its text again, wherever that is now; the run keeps the new path."""
    from charlstm.text.sources import BUNDLED, STDIN, bundled_corpus

    if source.paths == (STDIN,):
        return f"pipe it in again: {command('train', '-', '--resume', '-c', run)}"
    text = bundled_corpus() if Path(source.paths[0]).name == BUNDLED else "TEXT"
    return f"say where it is now: {command('train', text, '--resume', '-c', run)}"


def training_text(model: "Model") -> "tuple[NDArray[np.unsignedinteger], Vocabulary]":
    """What the model's run trained on, as ids, and their vocabulary.

    Raises:
        CharlstmError: the run or its text is gone, or the text has changed since.
    """
    from charlstm.runs.catalogue import training_corpus
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone

    run = read_run_file(model.path.parent)
    try:
        with interruptible():
            corpus = training_corpus(run)
    except TextGone as error:
        raise CharlstmError(error.message, name_again(run.source, model.path.parent)) from None
    return corpus.split(run.train.val_fraction)[0], corpus.vocab
