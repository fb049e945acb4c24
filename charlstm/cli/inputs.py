"""Open the models and texts that the user names."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.option_names import option_of
from charlstm.cli.options import command, note, weights_of
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError, plural, reason_of
from charlstm.opening import LINE_SECONDS, open_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.model import Model, Voice
    from charlstm.net.quantised import Precision
    from charlstm.opening import Watch
    from charlstm.runs.run import RunFile
    from charlstm.text.corpus import Corpus
    from charlstm.text.sources import TextSource
    from charlstm.text.vocabulary import Ids, UnknownPolicy, Vocabulary

LITTLE_WEIGHT = 1e-3
"""Of a model in a mixture; a smaller weight was hardly meant."""
LONG = 20_000
"""Characters that take noticeable time without the compiled kernel."""


def open_model(checkpoint: str | None) -> "Model":
    """The model of ``-c``; without ``-c``, report on stderr which one was chosen."""
    from charlstm.model import load
    from charlstm.runs.catalogue import better_generation

    model = load(checkpoint)
    if checkpoint is None:
        note(f"using {model.path}")
        if better := better_generation(model.path.parent):
            note(
                f"note: of its generations, {better.name} has the lowest validation loss, "
                f"{better.best_loss:z.4f}; to use it: -c {shlex.quote(better.path)}"
            )
    return model


def open_voice(checkpoints: list[str] | None, mix: str | None) -> "Voice":
    """The model of ``-c``, or the mixture of several with the weights ``--mix``."""
    names = checkpoints or []
    if len(names) < 2:
        if mix is not None:
            raise UsageError("`mix` needs several models", "name each with -c")
        return open_model(names[0] if names else None)
    from charlstm.mixture import mix as mixed

    weights = [1.0] * len(names) if mix is None else weights_of(mix)
    mixture = mixed([open_model(name) for name in names], weights)
    for name, weight in zip(names, mixture.weights, strict=True):
        if weight < LITTLE_WEIGHT:
            note(f"note: {name} has almost no effect: its weight is {weight:.2g}")
    if len({model.path.resolve() for model in mixture.models}) < len(names):
        note("note: a model is given more than once; its weights add up")
    return mixture


def check_one_model(checkpoints: list[str] | None, **needs_one: bool) -> None:
    """Raise ``UsageError`` if an option that needs a single model is given with several."""
    for field, is_given in needs_one.items():
        if is_given and len(checkpoints or []) > 1:
            raise UsageError(f"`{field}` works with one model, not with several", "give one -c")


def only_model(voice: "Voice") -> "Model":
    """``voice`` as a single model, where ``check_one_model`` has refused several."""
    from charlstm.model import Model

    assert isinstance(voice, Model)
    return voice


def unknown_policy(name: str) -> "UnknownPolicy":
    """The policy called ``name``; raises ``UsageError`` for any other name."""
    from charlstm.text.vocabulary import UNKNOWN_POLICIES

    for policy in UNKNOWN_POLICIES:
        if policy == name:
            return policy
    raise UsageError(f"`unknown` is {name!r}", f"choose one of {', '.join(UNKNOWN_POLICIES)}")


def precision_of(name: str) -> "Precision":
    """The precision called ``name``; raises ``UsageError`` for any other name."""
    from charlstm.net.quantised import PRECISIONS

    for precision in PRECISIONS:
        if precision == name:
            return precision
    raise UsageError(f"`precision` is {name!r}", f"choose one of {', '.join(PRECISIONS)}")


def note_no_kernel(precision: "Precision", characters: float) -> None:
    """Report why int8 runs without its kernel, if that is a fault or the text is long."""
    from charlstm.net.kernel import NO_COMPILER, why_missing

    if precision == "int8" and (reason := why_missing()):
        if reason != NO_COMPILER:
            note(f"note: int8 is slow without its kernel: {reason}; CHARLSTM_KERNEL=off skips it")
        elif characters >= LONG:
            note(f"note: int8 is several times slower without its kernel, and {reason}")


class Reader:
    """Encodes the texts of a command; reports on stderr what it had to change."""

    def __init__(self, vocab: "Vocabulary", policy: "UnknownPolicy") -> None:
        self._vocab = vocab
        self.policy = policy
        self._form_noted = False

    def known_form(self, text: str) -> str:
        """``text`` in the Unicode form of the vocabulary; a change is reported once."""
        form = self._vocab.known_form(text)
        if form != text and not self._form_noted:
            self._form_noted = True
            note("note: accented characters were converted to the Unicode form of the vocabulary")
        return form

    def encode(self, text: str) -> "Ids":
        """The ids of ``text``; report how many characters were skipped or replaced.

        Raises:
            CharlstmError: a character is not in the vocabulary, and the policy is ``error``.
        """
        text = self.known_form(text)
        ids = self._vocab.encode(text, self.policy)
        if self.policy != "error" and (unknown := self._vocab.unknown(text)):
            missing = sum(map(text.count, unknown))
            done = "skipped" if self.policy == "skip" else "replaced"
            note(f"{done} {missing:,} of {plural(len(text), 'character')}: not in the vocabulary")
        return ids

    def note_stops(self, stops: Iterable[str]) -> None:
        """Report stop sequences that can never occur."""
        for stop in stops:
            if unknown := self._vocab.unknown(self.known_form(stop)):
                note(f"note: --stop {stop!r} cannot occur: {unknown[0]!r} is not in the vocabulary")


def note_keyboard(sources: Iterable[str] | None) -> None:
    """Report on stderr if the command now waits for typed input."""
    if "-" in (sources or ()) and sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        note(f"reading from the keyboard; press {end} on an empty line to finish")


def read_text(source: str, *, as_bytes: bool) -> str:
    """The text of a file, or of stdin for ``-``, without a byte-order mark.

    A byte model accepts any content: bytes that are not UTF-8 become surrogate escapes.
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
            f"{name} cannot be read: {reason}", "check the path, or pipe the text in and use -"
        ) from None
    if as_bytes:
        return data.decode("utf-8", "surrogateescape")
    encoding = wide_encoding(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, binary = data[error.start], format_of(data)
        message = f"{name} is not valid UTF-8: byte 0x{byte:02x} at offset {error.start:,}"
        if data.startswith(b"\x1f\x8b"):
            hint = "decompress it first: gunzip -c FILE, piped into the command with -"
        elif binary:
            hint = f"it is {binary}; convert it to plain text"
        else:
            hint = _convert(encoding or ("cp1252" if 0x80 <= byte < 0xA0 else "latin1"))
        raise CharlstmError(message, hint) from None
    if encoding:
        raise CharlstmError(f"{name} is {encoding}, not UTF-8", _convert(encoding))
    if kind := format_of(data):
        note(f"note: {name} is {kind}, not plain text; convert it first")
    return text.removeprefix("\ufeff")


def _convert(encoding: str) -> str:
    return f"convert it first: iconv -f {encoding} -t utf-8 FILE, piped into the command with -"


def refuse_run(name: str) -> None:
    """Raise ``UsageError`` if a run stands where a text would."""
    from charlstm.runs.catalogue import is_part_of_run, is_run

    if is_part_of_run(Path(name)) if os.path.exists(name) else is_run(name):
        if option_of("resume") is None:
            raise UsageError(
                f"{name} is a run, not a text",
                f"give a text; the run of that name is used by -c {shlex.quote(name)}",
            )
        raise UsageError(
            f"{name} is a run, not a text",
            "to resume it:",
            command("train", "--resume", "-c", name),
        )


def open_texts(text: list[str] | None, *, quiet: bool, **reading: Any) -> "Corpus":
    """The corpus of these files, folders or stdin (-); without any, the bundled corpus.

    Notices go to stderr, and so does the progress through a long text unless ``quiet``.
    """
    for name in text or ():
        refuse_run(name)
    note_keyboard(text)
    with interruptible():  # leaves no half-written cache
        advise = (lambda message: None) if quiet else note
        return open_text(text, note=note, advise=advise, watch=reading_watch(quiet), **reading)


def reading_watch(quiet: bool) -> "Watch | None":
    """A progress bar for a text that is read, on a terminal; elsewhere the lines suffice."""
    from charlstm.show.console import can_animate, progress_bar, stderr_console

    console = stderr_console()
    return None if quiet or not can_animate(console) else partial(progress_bar, console)


def progress_of(total: int) -> Callable[[int], None]:
    """A function that reports every few seconds on stderr, if it is a terminal, how far it is."""
    reported = time.monotonic()

    def progress(done: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= LINE_SECONDS and done < total and sys.stderr.isatty():
            reported = now
            note(f"{done:,} of {plural(total, 'character')} …")

    return progress


def name_again(source: "TextSource", run: Path) -> tuple[str, str]:
    """How to supply a run's text again: a hint and a command. The run records the new path."""
    from charlstm.text.sources import BUNDLED, STDIN, bundled_corpus

    if source.paths == (STDIN,):
        return "pipe it in again:", command("train", "-", "--resume", "-c", run)
    text = bundled_corpus() if Path(source.paths[0]).name == BUNDLED else "TEXT"
    return "give its new path:", command("train", text, "--resume", "-c", run)


def training_text(model: "Model") -> "tuple[NDArray[np.unsignedinteger], Vocabulary]":
    """The ids that the model was trained on, and their vocabulary; raises as ``_corpus_of``."""
    run, corpus = _corpus_of(model)
    return corpus.split(run.train.val_fraction)[0], corpus.vocab


def is_training_text(model: "Model", text: str) -> bool:
    """Whether most of a text is known to be in the training part of the model's text."""
    from charlstm.runs.catalogue import training_corpus
    from charlstm.runs.run import read_run_file
    from charlstm.text.copies import SEARCHED, is_copied

    try:
        run = read_run_file(model.path.parent)
        corpus = training_corpus(run, read_again=False)
    except CharlstmError:
        return False
    (trained, _), vocab = corpus.split(run.train.val_fraction), corpus.vocab
    if vocab.separator is None:
        return is_copied(vocab.encode(text, "skip"), trained)
    items = {*text.split(vocab.separator)} - {""}
    new = items.difference(vocab.decode(trained[-SEARCHED:].tolist()).split(vocab.separator))
    return len(new) < len(items) / 2


def items_of(model: "Model") -> set[str]:
    """All items of the list of the model's run, the held-out ones, too.

    Raises:
        UsageError: the model was not trained on a list.
        CharlstmError: as ``_corpus_of``.
    """
    separator = model.file.vocab.separator
    if separator is None:
        raise UsageError("`new` needs a model of a list", "train one with --lines or --separator")
    _, corpus = _corpus_of(model)
    return set(corpus.vocab.decode(corpus.ids.tolist()).split(separator))


def _corpus_of(model: "Model") -> "tuple[RunFile, Corpus]":
    """The run that the model belongs to, and its text.

    Raises:
        CharlstmError: the run or its text is gone, or the text has changed.
    """
    from charlstm.runs.catalogue import find_run, training_corpus
    from charlstm.runs.run import read_run_file
    from charlstm.text.corpus import TextGone

    path = find_run(str(model.path), inside=True)
    run = read_run_file(path)
    try:
        with interruptible():
            corpus = training_corpus(run)
    except TextGone as error:
        raise CharlstmError(error.message, *name_again(run.source, path)) from None
    return run, corpus
