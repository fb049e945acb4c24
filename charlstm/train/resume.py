"""Open a run to train it, new or stopped: its lock, what it verifies, what it goes on from."""

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, UsageError, require
from charlstm.runs.checkpoint import ModelFile, read_model, read_resume_state
from charlstm.runs.metrics import cut_metrics
from charlstm.runs.run import (
    METRICS_FILE,
    TEACHER,
    Budget,
    RunFile,
    lock,
    read_pointers,
    read_run_file,
    resume_order,
    sweep,
    write_run_file,
)
from charlstm.text.corpus import Corpus, find_encoded
from charlstm.text.vocabulary import Vocabulary
from charlstm.train.device import (
    Precision,
    available_cores,
    choose_device,
    choose_precision,
    memory_errors_explained,
    threads_restored,
)
from charlstm.train.learner import Learner
from charlstm.train.network import (
    LanguageModel,
    load_arrays,
    stored_model,
    to_arrays,
    untrained_model,
)
from charlstm.train.progress import Progress
from charlstm.train.trainer import Resumption, Snapshot, Trainer

BUDGETS = frozenset({"epochs", "steps", "minutes"})


@contextmanager
def open_run(
    path: Path,
    corpus: Corpus,
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    step_seconds: float | None = None,
    notices: tuple[str, ...] = (),
) -> Iterator[Trainer]:
    """Hold the run at ``path`` for training, from its last complete checkpoint.

    ``changes`` are fields of ``TrainConfig`` to change: another budget, to extend it, ``patience``,
    ``keep`` or ``device``. A damaged checkpoint is passed over for the one before it;
    ``Trainer.notices`` says so. A run without a checkpoint begins from its settings. What was
    logged after the checkpoint is dropped.

    Raises:
        CharlstmError: the corpus is not the run's, no checkpoint can be read, or memory does not
            suffice; also later, while the run is open.
        UsageError: another process trains into the run, or the new budget ends before the step the
            run has reached.
    """
    with threads_restored(), lock(path) as problem, memory_errors_explained():
        notices += (problem,) if problem else ()
        recorded = read_run_file(path)
        _check_corpus(path, recorded, corpus)
        run, found = _with_changes(_at_new_place(recorded, corpus), changes, corpus)
        notices += found
        sweep(path)
        learner, found = _learner(path, run, corpus)
        notices += found + _environment_notices()
        resumption, found = _restore(path, learner)
        notices += found
        if resumption is not None and changes.keys() & BUDGETS:
            _check_extension(run, resumption.progress)
        if run != recorded:
            write_run_file(path, run)
        if resumption is None:
            (path / METRICS_FILE).unlink(missing_ok=True)
        else:
            done = resumption.progress
            cut_metrics(path / METRICS_FILE, done.step, done.rate_scale)
        yield Trainer(
            path, run, corpus, learner, resumption, notices=notices, step_seconds=step_seconds
        )


def _check_corpus(path: Path, run: RunFile, corpus: Corpus) -> None:
    if corpus.digest == run.digest:
        return
    change = f"{run.characters:,} characters then, {len(corpus):,} now"
    remedy = f"start a new run with `init_from` {shlex.quote(str(path))}"
    remedy = f"bring the old text back, or {remedy}"
    if len(corpus) == run.characters:
        before = find_encoded(run.digest, run.source)
        if before is None:
            change = f"{run.characters:,} characters then and now, others or in another order"
        elif (before.vocab, before.counts) == (corpus.vocab, corpus.counts):
            change = f"the same {run.characters:,} characters, in another order"
            remedy = (
                "a folder's files are read in the order of their names: restore the names, or "
                "name the files in the old order"
            )
        else:
            change = f"{run.characters:,} characters then and now, but others"
    raise CharlstmError(
        f"the corpus has changed since the run {path.name} began ({change})", remedy
    )


def _at_new_place(run: RunFile, corpus: Corpus) -> RunFile:
    """The run, with the paths of its text as they are now; what came from a pipe has none."""
    return run if corpus.source.not_there() else replace(run, source=corpus.source)


def _with_changes(
    run: RunFile, changes: Mapping[str, Any], corpus: Corpus
) -> tuple[RunFile, tuple[str, ...]]:
    """The run with other settings, and notes about what they mean."""
    changes, notices = dict(changes), tuple[str, ...]()
    extended = bool(changes.keys() & BUDGETS)
    if extended:
        changes = {**dict.fromkeys(BUDGETS), **changes}
    if "device" in changes:
        precision, notices = _precision_on(changes["device"], run)
        changes |= {"device": precision.device.type, "precision": precision.name}
    run = replace(run, train=replace(run.train, **changes))
    return (replace(run, budget=budget_of(run.train, corpus)) if extended else run), notices


def _precision_on(name: str, run: RunFile) -> tuple[Precision, tuple[str, ...]]:
    """The device of that name, with the run's precision if it has that, else in float32."""
    device, notices = choose_device(name)
    old, new = run.train, Precision(device, run.train.precision)
    if device.type == old.device:
        return new, notices
    try:
        choose_precision(old.precision, device, run.model, old.batch, old.bptt)
    except UsageError:
        new = Precision(device, "float32")
    note = (
        f"began on {old.device} in {old.precision}, goes on on {device.type} in {new.name}: "
        "rounding may differ from that of an undisturbed run"
    )
    return new, (*notices, note)


def _learner(path: Path, run: RunFile, corpus: Corpus) -> tuple[Learner, tuple[str, ...]]:
    """What a run learns with, before its first step, and notes about it if it takes that."""
    if run.train.threads:  # rounding depends on it; a smaller machine takes what it has
        torch.set_num_threads(min(run.train.threads, available_cores()))
    device, _ = choose_device(run.train.device)
    model, notices = untrained_model(run.model, run.train.seed), tuple[str, ...]()
    begins = not read_pointers(path).kept
    if begins and run.init_from is not None:
        source = read_model(Path(run.init_from))
        load_arrays(model, transplant(source, corpus.vocab, to_arrays(model)))
        notices += _what_is_new(source.vocab, corpus.vocab)
    teacher = None
    if run.teacher is not None:
        try:
            teacher = teacher_model(read_model(path / TEACHER), corpus).to(device)
        except CharlstmError as error:
            raise CharlstmError(
                error.message,
                f"start a new run from this one's weights: `init_from` {shlex.quote(str(path))}",
            ) from None
        if begins:
            notices += _what_a_teacher_may_know(Path(run.teacher), run)
    precision = Precision(device, run.train.precision)
    train_ids, _ = corpus.split(run.train.val_fraction)
    return Learner(run.train, train_ids, model.to(device), precision, teacher), notices


def _restore(path: Path, learner: Learner) -> tuple[Resumption | None, tuple[str, ...]]:
    """Set a learner to the run's last checkpoint that can be read, and say where it goes on.

    After the last validation a run is saved by the clock as well. If it diverges, it goes back to
    the validation all the same, so that one that was interrupted ends as one that was not.
    """
    failures: list[str] = []
    restored: tuple[Progress, Snapshot, str] | None = None
    for candidate in resume_order(path):
        try:
            snapshot = Snapshot(read_model(candidate), read_resume_state(candidate))
            if restored is None:
                restored = snapshot.restore(learner), snapshot, candidate.name
        except CharlstmError as error:
            if restored is None:
                failures.append(str(error))
            continue
        if snapshot.evaluated:
            restored = restored[0], snapshot, candidate.name
            break
    notices = tuple(f"passed over a checkpoint: {failure}" for failure in failures)
    if restored is None:
        if failures:
            raise CharlstmError(
                f"no checkpoint of {path} can be read ({failures[0]})", "start a new run"
            )
        return None, ()
    was, threads = restored[1].state.values.get("threads"), torch.get_num_threads()
    if threads != was:
        notices += (
            f"trained with {was} threads so far, now with {threads}: rounding may differ from that "
            "of an undisturbed run",
        )
    return Resumption(*restored), notices


def _environment_notices() -> tuple[str, ...]:
    """What in the environment promises something that charlstm does not do."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal() or processes.lstrip("0") in ("", "1"):
        return ()
    shown = processes if len(processes) < 10 else f"{processes[:9]}…"
    return (
        f"WORLD_SIZE is {shown}, but a run trains in one process: each process trains a run of its "
        "own",
    )


def teacher_model(file: ModelFile, corpus: Corpus) -> LanguageModel:
    """The teacher's model, frozen; raises ``UsageError`` if its characters are not the text's."""
    unlike = sorted(set(file.vocab.symbols) ^ set(corpus.vocab.symbols))
    shown = ", ".join(map(repr, unlike[:5])) + (" …" if len(unlike) > 5 else "")
    require(
        file.vocab == corpus.vocab,
        f"the teacher has other characters than the text ({shown or 'one of them has bytes'})",
        "train a teacher on the same text first",
    )
    return stored_model(file).eval().requires_grad_(False)


def _what_is_new(theirs: Vocabulary, vocab: Vocabulary) -> tuple[str, ...]:
    """Characters of the text that the weights of ``init_from`` do not know."""
    new = len(set(vocab.symbols) - set(theirs.symbols))
    if not new or vocab.kind != theirs.kind:
        return ()
    return (f"{new} of the text's {len(vocab)} characters are new to what it begins with",)


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


def _check_extension(run: RunFile, progress: Progress) -> None:
    remedy = "give a budget for the whole run, larger than what is done"
    total = run.budget.total_steps
    if total is not None and total <= progress.step:
        raise UsageError(
            f"the new budget is {total:,} steps, and the run has done {progress.step:,}", remedy
        )
    minutes, spent = run.train.minutes, progress.seconds / 60
    if minutes is not None and minutes <= spent:
        raise UsageError(
            f"the new budget is {minutes:g} minutes, and the run has taken {spent:.1f}", remedy
        )


def budget_of(config: TrainConfig, corpus: Corpus) -> Budget:
    """The number of steps; unknown for a budget in minutes, until the speed is measured."""
    if config.steps is not None:
        return Budget(total_steps=config.steps)
    if config.epochs is not None:
        train_ids, _ = corpus.split(config.val_fraction)
        steps = config.epochs * len(train_ids) / (config.batch * config.bptt)
        return Budget(total_steps=max(1, math.ceil(steps)))
    return Budget()


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
