"""Set up a run before its first step: the model, its initial weights, and its teacher."""

import shlex
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, UsageError, plural, require
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.runs.pointers import read_pointers
from charlstm.runs.run import TEACHER, RunFile, read_run_file
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.device import Precision, available_cores, choose_device
from charlstm.training.learner import Learner
from charlstm.training.network import (
    LanguageModel,
    load_arrays,
    stored_model,
    to_arrays,
    untrained_model,
)
from charlstm.training.processes import Processes


def initial_learner(
    path: Path,
    run: RunFile,
    train_ids: NDArray[np.unsignedinteger],
    vocab: Vocabulary,
    processes: Processes,
) -> tuple[Learner, tuple[str, ...]]:
    """The learner of the run at ``path``, and notes for the user if the run is new.

    Raises:
        CharlstmError: the weights of ``init_from`` or the run's teacher cannot be read.
        UsageError: their vocabulary does not fit the text's.
    """
    if run.train.threads:  # rounding depends on it; a smaller machine uses all its cores
        torch.set_num_threads(min(run.train.threads, available_cores()))
    processes.use_device(run.train.device)
    device, _ = choose_device(run.train.device)
    model, notices = untrained_model(run.model, run.train.seed), tuple[str, ...]()
    begins = processes.first(lambda: not read_pointers(path).kept)
    if begins and (init_from := run.init_from) is not None:
        source = processes.first(lambda: read_model(Path(init_from)))
        load_arrays(model, transplant(source, vocab, to_arrays(model)))
        notices += _what_is_new(source.vocab, vocab)
        notices += _what_it_knows("model it starts from", Path(init_from), run)
    teacher = None
    if run.teacher is not None:
        try:
            file = processes.first(lambda: read_model(path / TEACHER))
            teacher = teacher_model(file, vocab).to(device)
        except CharlstmError as error:
            raise CharlstmError(
                error.message,
                f"start a new run from this one's weights: `init_from` {shlex.quote(str(path))}",
            ) from None
        if begins:
            notices += _of_another_text(Path(run.teacher), run)
            notices += _what_it_knows("teacher", Path(run.teacher), run)
    precision = Precision(device, run.train.precision)
    model = model.to(device)
    return Learner(run.train, train_ids, model, precision, teacher, processes), notices


def teacher_model(file: ModelFile, vocab: Vocabulary) -> LanguageModel:
    """The teacher's model, frozen; raises ``UsageError`` if its vocabulary is not the text's."""
    theirs, ours = file.vocab.separator, vocab.separator
    require(
        theirs == ours,
        f"the teacher was trained on {_text_or_list(theirs)}, but this is {_text_or_list(ours)}",
        "read the text as the teacher did: `lines` or `separator` makes it a list",
    )
    unlike = sorted(set(file.vocab.symbols) ^ set(vocab.symbols))
    shown = ", ".join(map(repr, unlike[:5])) + (" …" if len(unlike) > 5 else "")
    require(
        file.vocab == vocab,
        f"the teacher's vocabulary differs from the text's ({shown or 'one of them uses bytes'})",
        "train a teacher on the same text first",
    )
    return stored_model(file).eval().requires_grad_(False)


def _text_or_list(separator: str | None) -> str:
    return "a text" if separator is None else f"a list separated by {separator!r}"


def _what_is_new(theirs: Vocabulary, vocab: Vocabulary) -> tuple[str, ...]:
    """A note about characters of the text that the source of ``init_from`` never saw."""
    new = len(set(vocab.symbols) - set(theirs.symbols))
    if not new or vocab.kind != theirs.kind:
        return ()
    are = "is" if new == 1 else "are"
    count = plural(len(vocab), "character")
    return (f"{new} of the text's {count} {are} new to the model it starts from",)


def _of_another_text(teacher: Path, run: RunFile) -> tuple[str, ...]:
    """A note if the teacher was trained on another text than the run."""
    try:
        same = read_run_file(teacher.parent).digest == run.digest
    except CharlstmError:
        return ()
    note = "the teacher was trained on another text; its predictions may not help"
    return () if same else (note,)


def _what_it_knows(what: str, source: Path, run: RunFile) -> tuple[str, ...]:
    """A note if the model that a run learns from has read part of the run's held-out text."""
    try:
        theirs = read_run_file(source.parent)
    except CharlstmError:
        return ()
    if theirs.digest != run.digest or theirs.train.val_fraction >= run.train.val_fraction:
        return ()
    return (
        f"the {what} was trained on part of this run's held-out text; the validation loss may "
        "be too optimistic",
    )


def transplant(
    source: ModelFile, vocab: Vocabulary, fresh: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Map the weights of ``source`` to another vocabulary, character by character.

    Recurrent layers are copied. The rows of the embedding (V, E) and of the output layer (V, H)
    follow their characters; a character that the source does not know keeps its row of ``fresh``.

    Raises:
        UsageError: the two vocabularies have no character in common.
    """
    weights = {name: array.copy() for name, array in source.weights.items()}
    theirs = {symbol: i for i, symbol in enumerate(source.vocab.symbols)}
    # Above ASCII a byte is not the character of the same number.
    alike = vocab.kind == source.vocab.kind
    shared = [
        (i, theirs[s])
        for i, s in enumerate(vocab.symbols)
        if s in theirs and (alike or s.isascii())
    ]
    if not shared:
        raise UsageError("the two texts have no character in common", "leave `init_from` out")
    new, old = map(list, zip(*shared, strict=True))
    for name in ("embedding", "output_weight", "output_bias"):
        weights[name] = fresh[name].copy()
        weights[name][new] = source.weights[name][old]
    return weights
