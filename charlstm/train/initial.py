"""What a run learns with before its first step: its model, with whose weights, and its teacher."""

import shlex
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, UsageError, plural, require
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.runs.run import TEACHER, RunFile, read_pointers, read_run_file
from charlstm.text.vocabulary import Vocabulary
from charlstm.train.device import Precision, available_cores, choose_device
from charlstm.train.learner import Learner
from charlstm.train.network import (
    LanguageModel,
    load_arrays,
    stored_model,
    to_arrays,
    untrained_model,
)


def initial_learner(
    path: Path, run: RunFile, train_ids: NDArray[np.unsignedinteger], vocab: Vocabulary
) -> tuple[Learner, tuple[str, ...]]:
    """The learner of the run at ``path``, and notes about it if the run takes its first step.

    Raises:
        CharlstmError: the weights of ``init_from`` or the run's teacher cannot be read.
        UsageError: they have other characters than the text.
    """
    if run.train.threads:  # rounding depends on it; a smaller machine takes what it has
        torch.set_num_threads(min(run.train.threads, available_cores()))
    device, _ = choose_device(run.train.device)
    model, notices = untrained_model(run.model, run.train.seed), tuple[str, ...]()
    begins = not read_pointers(path).kept
    if begins and run.init_from is not None:
        source = read_model(Path(run.init_from))
        load_arrays(model, transplant(source, vocab, to_arrays(model)))
        notices += _what_is_new(source.vocab, vocab)
    teacher = None
    if run.teacher is not None:
        try:
            teacher = teacher_model(read_model(path / TEACHER), vocab).to(device)
        except CharlstmError as error:
            raise CharlstmError(
                error.message,
                f"start a new run from this one's weights: `init_from` {shlex.quote(str(path))}",
            ) from None
        if begins:
            notices += _what_a_teacher_may_know(Path(run.teacher), run)
    precision = Precision(device, run.train.precision)
    return Learner(run.train, train_ids, model.to(device), precision, teacher), notices


def teacher_model(file: ModelFile, vocab: Vocabulary) -> LanguageModel:
    """The teacher's model, frozen; raises ``UsageError`` if its characters are not the text's."""
    unlike = sorted(set(file.vocab.symbols) ^ set(vocab.symbols))
    shown = ", ".join(map(repr, unlike[:5])) + (" …" if len(unlike) > 5 else "")
    require(
        file.vocab == vocab,
        f"the teacher has other characters than the text ({shown or 'one of them has bytes'})",
        "train a teacher on the same text first",
    )
    return stored_model(file).eval().requires_grad_(False)


def _what_is_new(theirs: Vocabulary, vocab: Vocabulary) -> tuple[str, ...]:
    """Characters of the text that the weights of ``init_from`` do not know."""
    new = len(set(vocab.symbols) - set(theirs.symbols))
    if not new or vocab.kind != theirs.kind:
        return ()
    are = "is" if new == 1 else "are"
    count = plural(len(vocab), "character")
    return (f"{new} of the text's {count} {are} new to what it begins with",)


def _what_a_teacher_may_know(teacher: Path, run: RunFile) -> tuple[str, ...]:
    """What its own run reveals: it may have read what this one is validated on."""
    try:
        own = read_run_file(teacher.parent)
    except CharlstmError:
        return ()
    if own.digest != run.digest:
        return ("the teacher has learnt another text: its predictions may be of little use",)
    if own.train.val_fraction < run.train.val_fraction:
        return (
            "the teacher has read a part of what this run is validated on: the validation may "
            "look better than it is",
        )
    return ()


def transplant(
    source: ModelFile, vocab: Vocabulary, fresh: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """A source's weights for another vocabulary, mapped character by character.

    Recurrent layers are taken as they are. The rows of the embedding and of the output layer
    follow their characters; a character that the source did not have keeps its fresh row.
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
