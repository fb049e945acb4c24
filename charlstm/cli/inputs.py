"""TextSource models and texts for the commands."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.options import note
from charlstm.cli.signals import interruptible
from charlstm.errors import CharlstmError, UsageError, reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.model import Model
    from charlstm.text.corpus import Corpus
    from charlstm.text.vocabulary import UnknownPolicy, Vocabulary

TOLD_EVERY = 100_000


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
    raise UsageError(f"--unknown is {name!r}", f"choose one of {', '.join(UNKNOWN_POLICIES)}")


def note_unknown(vocab: "Vocabulary", text: str, policy: "UnknownPolicy") -> None:
    """Tell how much of a text the model does not read as it stands."""
    missing = sum(map(text.count, vocab.unknown(text)))
    if missing and policy != "error":
        done = "left out" if policy == "skip" else "replaced"
        note(f"characters that the model never saw: {missing:,} of {len(text):,}, {done}")


def read_text(source: str, *, as_bytes: bool) -> str:
    """The text of a file, or of stdin for ``-``, exactly as it is; a byte-order mark is dropped.

    For a byte model any content will do: what is not UTF-8 becomes surrogate escapes.
    """
    from charlstm.files import read_stream

    name = "standard input" if source == "-" else source
    try:
        if source == "-":
            data = read_stream(sys.stdin.buffer)
        else:
            with Path(source).open("rb") as file:
                data = read_stream(file)
    except OSError as error:
        reason = reason_of(error)
        raise CharlstmError(
            f"{name} cannot be read: {reason}", "check the path, or pipe the words in and give -"
        ) from None
    if as_bytes:
        return data.decode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise CharlstmError(
            f"{name} is not valid utf-8: byte 0x{data[error.start]:02x} at offset {error.start:,}",
            "unpack it first, with gunzip -c FILE, and give -"
            if data.startswith(b"\x1f\x8b")
            else "convert it first, with iconv -f latin1 -t utf-8 FILE or the like, and give -",
        ) from None


def open_texts(text: list[str] | None, *, quiet: bool, **reading: Any) -> "Corpus":
    """The corpus of these files, folders or stdin (-), or the bundled one for none.

    stderr says what is notable about them, and unless ``quiet`` how far into a long text it is.
    """
    from charlstm.text.corpus import open_corpus
    from charlstm.text.sources import bundled_corpus

    sources: list[str | Path] = list(text) if text else [bundled_corpus()]
    shown = 0

    def progress(characters: int) -> None:
        nonlocal shown
        if characters - shown >= 50_000_000 and not quiet:
            shown = characters
            note(f"read {characters:,} characters …")

    with interruptible():  # nothing half-encoded stays
        corpus = open_corpus(sources, progress=progress, **reading)
    for notice in corpus.notices:
        note(notice)
    return corpus


def progress_of(total: int) -> Callable[[int], None]:
    """Tells on stderr, where that is a terminal, how far into a long text the reading is."""
    told = 0

    def progress(done: int) -> None:
        nonlocal told
        if done - told >= TOLD_EVERY and sys.stderr.isatty():
            told = done
            note(f"{done:,} of {total:,} characters …")

    return progress


def training_text(model: "Model") -> "tuple[NDArray[np.unsignedinteger], Vocabulary]":
    """What the model's run trained on, as ids, and their vocabulary.

    Raises:
        CharlstmError: the run or its text is gone, or the text has changed since.
    """
    from charlstm.runs.catalogue import training_corpus

    with interruptible():
        run, corpus = training_corpus(model.path)
    return corpus.split(run.train.val_fraction)[0], corpus.vocab
