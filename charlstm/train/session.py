"""Begin a run, or go on with one: everything that comes before the training loop."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, UsageError, require
from charlstm.net.model_config import ModelConfig
from charlstm.runs.checkpoint import ModelFile, read_model, read_resume_state
from charlstm.runs.run import (
    ROOT,
    TEACHER,
    Budget,
    RunFile,
    create_run,
    now,
    read_pointers,
    read_run_file,
    resume_order,
    sweep,
    write_run_file,
)
from charlstm.text.corpus import Corpus
from charlstm.text.streams import fit_streams
from charlstm.text.vocabulary import Vocabulary
from charlstm.train.device import (
    Precision,
    choose_device,
    choose_precision,
    choose_threads,
    reading_seconds,
)
from charlstm.train.network import LanguageModel, load_arrays, to_arrays
from charlstm.train.trainer import Trainer

STEP_OVER_PASS = 1.25
"""A training step takes about so much longer than its forward and backward pass."""


def begin(
    corpus: Corpus,
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    root: Path = ROOT,
    name: str | None = None,
    init_from: Path | None = None,
    teacher: Path | None = None,
) -> Trainer:
    """Make a new run: its folder, its settings on disk, its untrained model.

    What the settings leave open is decided here and written down: B and T that fit the text,
    the device, its precision, and the threads. With ``init_from`` the model's shape is that
    checkpoint's. ``teacher`` is a checkpoint to learn from, see ``Learner``.

    Raises:
        CharlstmError: the text is too short, or ``init_from`` or ``teacher`` cannot be read.
        UsageError: there are not so many cores, there is no such device, or the teacher has other
            characters than the text.
    """
    train_ids, _ = corpus.split(train_config.val_fraction)
    batch, bptt = fit_streams(len(train_ids), train_config.batch, train_config.bptt)
    source = None
    if init_from is not None:
        source = read_model(init_from)
        model_config = replace(source.config, vocab_size=len(corpus.vocab))
    lessons = reader = None
    if teacher is not None:
        lessons = read_model(teacher)
        reader = _teacher(lessons, corpus)
    require(
        (lessons is None) == (train_config.distillation == 0),
        f"distillation is {train_config.distillation:g}",
        "more than 0 goes with a teacher, 0 without one",
    )
    threads, cores = train_config.threads, os.cpu_count() or 1
    require(threads <= cores, f"--threads is {threads}; this machine has {cores}", "leave it out")
    device = choose_device(train_config.device)
    precision, pass_seconds = choose_precision(
        train_config.precision, device, model_config, batch, bptt
    )
    if threads == 0:
        threads, pass_seconds = choose_threads(precision, model_config, batch, bptt, pass_seconds)
    step_seconds = pass_seconds * STEP_OVER_PASS
    if reader is not None:
        step_seconds += reading_seconds(reader.to(device), precision, batch, bptt)
    train_config = replace(
        train_config,
        batch=batch,
        bptt=bptt,
        device=device.type,
        precision=precision.name,
        threads=threads,
    )
    run = _run_file(corpus, model_config, train_config, init_from, teacher)
    path = create_run(root, name or corpus.name, run, lessons)
    trainer = _trainer(path, run, corpus, source)
    trainer.guessed_step_seconds = step_seconds
    if source is not None:
        trainer.notices += _what_is_new(source.vocab, corpus.vocab)
    if teacher is not None:
        trainer.notices += _what_a_teacher_may_know(teacher, run)
    return trainer


def unsaved(
    corpus: Corpus,
    model_config: ModelConfig,
    train_config: TrainConfig,
    adjust: Callable[[LanguageModel], None] = lambda _: None,
) -> Trainer:
    """A trainer without a folder, for whoever takes its steps one by one and saves nothing.

    B and T are used as they are, and device and precision must be named. ``adjust`` may change
    the untrained weights.
    """
    run = _run_file(corpus, model_config, train_config)
    return _trainer(Path(corpus.name), run, corpus, None, adjust)


def resume(
    path: Path, corpus: Corpus, changes: Mapping[str, Any] = MappingProxyType({})
) -> Trainer:
    """Go on with the run at ``path`` from its last complete checkpoint.

    ``changes`` are fields of ``TrainConfig`` to change: another budget, to extend it, ``patience``
    or ``keep``. A damaged checkpoint is passed over for the one before it; ``Trainer.notices``
    says so. A run that was stopped before its first checkpoint begins again from its settings.

    Raises:
        CharlstmError: the corpus is not the run's, or no checkpoint can be read.
        UsageError: the new budget ends before the step the run has reached.
    """
    run = read_run_file(path)
    if corpus.digest != run.digest:
        raise CharlstmError(
            f"the corpus has changed since the run {path.name} began "
            f"({run.characters:,} characters then, {len(corpus):,} now)",
            f"bring the old text back, or start a new run with --init-from {path}",
        )
    budgets = {"epochs": None, "steps": None, "minutes": None}
    extended = bool(changes.keys() & budgets.keys())
    if extended:
        changes = {**budgets, **changes}
    run = replace(run, train=replace(run.train, **changes))
    if extended:
        run = replace(run, budget=_budget(run.train, corpus))
    source = None
    if run.init_from is not None and not read_pointers(path).kept:
        source = read_model(Path(run.init_from))
    trainer = _trainer(path, run, corpus, source)
    sweep(path)
    failures: list[str] = []
    for candidate in resume_order(path):
        try:
            trainer.restore(read_model(candidate), read_resume_state(candidate))
            break
        except CharlstmError as error:
            failures.append(str(error))
    else:
        if failures:
            raise CharlstmError(
                f"no checkpoint of {path} can be read ({failures[0]})", "start a new run"
            )
    trainer.notices += tuple(f"passed over a checkpoint: {failure}" for failure in failures)
    if extended:
        _check_extension(trainer, run)
    if changes:
        write_run_file(path, run)
    return trainer


def _teacher(file: ModelFile, corpus: Corpus) -> LanguageModel:
    unlike = sorted(set(file.vocab.symbols) ^ set(corpus.vocab.symbols))
    shown = ", ".join(map(repr, unlike[:5])) + (" …" if len(unlike) > 5 else "")
    require(
        file.vocab == corpus.vocab,
        f"the teacher has other characters than the text ({shown or 'one of them has bytes'})",
        "let one learn the same text first",
    )
    teacher = LanguageModel(file.config)
    load_arrays(teacher, dict(file.weights))
    return teacher.eval().requires_grad_(False)


def _what_is_new(theirs: Vocabulary, vocab: Vocabulary) -> tuple[str, ...]:
    """Characters of the text that the weights it begins with know nothing of."""
    new = len(set(vocab.symbols) - set(theirs.symbols))
    if not new or vocab.kind != theirs.kind:
        return ()
    return (f"{new} of the text's {len(vocab)} characters are new to what it begins with",)


def _what_a_teacher_may_know(teacher: Path, run: RunFile) -> tuple[str, ...]:
    """What its own run says against it: it may have read what this one is validated on."""
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


def _check_extension(trainer: Trainer, run: RunFile) -> None:
    done = trainer.progress.step
    total = run.budget.total_steps
    if total is not None and total <= done:
        raise UsageError(
            f"the new budget is {total:,} steps, and the run has done {done:,}",
            "give a budget for the whole run, larger than what is done",
        )
    spent = trainer.progress.seconds / 60
    if run.train.minutes is not None and run.train.minutes <= spent:
        raise UsageError(
            f"the new budget is {run.train.minutes:g} minutes, and the run has taken {spent:.1f}",
            "give a budget for the whole run, larger than what is done",
        )


def _run_file(
    corpus: Corpus,
    model_config: ModelConfig,
    train_config: TrainConfig,
    init_from: Path | None = None,
    teacher: Path | None = None,
) -> RunFile:
    return RunFile(
        model=model_config,
        train=train_config,
        source=corpus.source,
        digest=corpus.digest,
        characters=len(corpus),
        created=now(),
        budget=_budget(train_config, corpus),
        init_from=None if init_from is None else str(init_from.absolute()),
        teacher=None if teacher is None else str(teacher.absolute()),
    )


def _budget(config: TrainConfig, corpus: Corpus) -> Budget:
    if config.steps is not None:
        return Budget(total_steps=config.steps)
    if config.epochs is not None:
        train_ids, _ = corpus.split(config.val_fraction)
        steps = config.epochs * len(train_ids) / (config.batch * config.bptt)
        return Budget(total_steps=max(1, math.ceil(steps)))
    return Budget()


def _trainer(
    path: Path,
    run: RunFile,
    corpus: Corpus,
    source: ModelFile | None,
    adjust: Callable[[LanguageModel], None] = lambda _: None,
) -> Trainer:
    if run.train.threads:  # rounding depends on it; a smaller machine takes what it has
        torch.set_num_threads(min(run.train.threads, os.cpu_count() or 1))
    device = choose_device(run.train.device)
    generator = torch.Generator().manual_seed(run.train.seed)
    model = LanguageModel(run.model)
    model.initialise(generator)
    if source is not None:
        load_arrays(model, transplant(source, corpus.vocab, to_arrays(model)))
    adjust(model)
    average = LanguageModel(run.model)
    average.load_state_dict(model.state_dict())
    teacher = None
    if run.teacher is not None:
        try:
            teacher = _teacher(read_model(path / TEACHER), corpus).to(device)
        except CharlstmError as error:
            raise CharlstmError(
                error.message, f"start a new run from this one's weights: --init-from {path}"
            ) from None
    return Trainer(
        path,
        run,
        corpus,
        model.to(device),
        average.to(device).requires_grad_(False),
        Precision(device, run.train.precision),
        teacher,
    )


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
        raise UsageError("the two texts have no character in common", "train without --init-from")
    new, old = map(list, zip(*shared, strict=True))
    for name in ("embedding", "output_weight", "output_bias"):
        weights[name] = fresh[name].copy()
        weights[name][new] = source.weights[name][old]
    return weights
