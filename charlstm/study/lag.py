"""One trial of `charlstm study lag`: train a cell on a task until it is solved."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.config import TrainConfig
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.study.results import LagTrial
from charlstm.study.tasks import (
    Examples,
    Task,
    examples,
    is_right,
    numbered_examples,
    training_text,
)
from charlstm.training.cells import CellLayer
from charlstm.training.device import Precision
from charlstm.training.learner import Learner
from charlstm.training.network import LanguageModel, untrained_model
from charlstm.training.schedule import rate_multiplier

EMBEDDING, STREAM_STEPS = 16, 64
TEXT_CHARACTERS = 300_000
"""Approximate length of the training text, which is repeated."""
ROWS, STREAMS, STREAM_CHARACTERS = 256, 10, 2_000
"""Test set: ``ROWS`` rows, or ``STREAMS`` streams of ``STREAM_CHARACTERS`` each."""
CHECK_EVERY = 800
"""Rows, or pieces of streams, between two tests."""
RATE, STREAM_RATE = 0.0025, 0.02
"""Peak learning rates: of Adam, before scaling by the square root of the batch size, and of Muon
with rows; of Muon with streams."""
REACH = 20
"""Multiple of the lag up to which numbered strings are tested at the end."""


@dataclass(frozen=True)
class LagSettings:
    """Settings common to all trials of a study."""

    task: Task
    hidden_size: int
    characters: int
    """Budget of a trial, in characters."""
    forget_bias: float | None
    """Initial bias of the memory gate; None for ``memory_bias``."""


@dataclass(frozen=True)
class LagProgress:
    """The progress of a trial."""

    characters: int
    right: float
    """Fraction of the scored predictions that are correct."""


def run_trial(
    settings: LagSettings, cell: str, lag: int, trial: int, clock: Callable[[], float] = time.time
) -> Iterator[LagProgress | LagTrial]:
    """Train until the task is solved or the budget is spent; the last item yielded is the result.

    The steps are those of `charlstm train`. If the task has rows, each step reads one row of each
    stream from zero state. The averaged weights are tested.
    """
    begun = clock()
    task = settings.task
    learner = make_learner(settings, cell, lag, trial)
    config, total = learner.config, learner.config.steps
    assert total is not None
    check_every = CHECK_EVERY // task.batch
    if task.numbered is None:
        test = examples(
            task, lag, trial, STREAMS if task.width is None else ROWS, STREAM_CHARACTERS
        )
    else:
        test = numbered_examples(task, lag, 2 * lag)
    for step in range(1, total + 1):
        if task.width is not None:
            learner.reset_state()
        learner.step(step - 1, rate_multiplier(step - 1, total, config))
        if step % check_every == 0 or step == total:
            right, state = judge(learner.average, test, task.threshold)
            fraction = float(right[test.legal.any(axis=-1)].mean())
            characters = step * config.bptt * task.batch
            yield LagProgress(characters, fraction)
            if fraction == 1:
                break
    reach = None
    if task.numbered is not None:
        longer, _ = judge(
            learner.average, numbered_examples(task, lag, REACH * lag), task.threshold
        )
        wrong = np.flatnonzero(~longer.all(axis=0))  # (B,), text n - 1 being that of n
        reach = int(wrong[0]) if len(wrong) else longer.shape[1]
    has_c = "c" in CELLS[cell].states
    mean_cell = float(np.abs(state[:, 1]).mean()) if has_c else math.nan
    yield LagTrial(
        cell=cell,
        lag=lag,
        trial=trial,
        solved=fraction == 1,
        characters=characters,
        right=fraction,
        reach=reach,
        cell_state=mean_cell if math.isfinite(mean_cell) else None,
        seconds=clock() - begun,
    )


def make_learner(settings: LagSettings, cell: str, lag: int, trial: int) -> Learner:
    """A learner with a trial's untrained model and its text."""
    task = settings.task
    vocab = task.vocabulary(lag)
    bptt = STREAM_STEPS if task.width is None else task.width(lag)
    rows = max(2, TEXT_CHARACTERS // (task.batch * bptt)) * task.batch
    ids = vocab.encode(training_text(task, lag, trial, rows * bptt))
    rate = RATE * task.batch**0.5
    config = TrainConfig(
        batch=task.batch,
        bptt=bptt,
        steps=math.ceil(settings.characters / (task.batch * bptt)),
        learning_rate=STREAM_RATE if task.width is None else rate,
        adam_rate=rate,
        val_fraction=0.0,
        reset_every=0,  # a task resets the state at each string, or never
        seed=trial,
    )
    model = ModelConfig(cell, len(vocab), EMBEDDING, settings.hidden_size, 1)
    bias = memory_bias(task, lag) if settings.forget_bias is None else settings.forget_bias
    untrained = untrained_model(model, trial)
    remember(untrained, bias)
    precision = Precision(torch.device("cpu"), "float32")
    return Learner(config, ids.astype(np.uint32), untrained, precision)


def memory_bias(task: Task, lag: int) -> float:
    """The initial bias of the memory gate.

    ln(lag) for streams: the gate starts at lag / (lag + 1), so the state decays with a time
    constant of the lag. 2 ln(lag) if the state is reset anyway: only 1/lag of it decays over a lag,
    but on a stream such a gate does not learn to forget. The usual bias of 1 gives 0.73, of which
    50 steps leave 0.0000002. docs/research/studies.md has the measurements. Tallec & Ollivier 2018
    sample ln(1 … lag) for each unit.
    """
    return (1 if task.width is None else 2) * math.log(lag)


@torch.no_grad()
def remember(model: LanguageModel, bias: float) -> None:
    """Set the bias of the memory gate, in cells that have one."""
    for layer in model.layers:
        assert isinstance(layer, CellLayer)
        if layer.spec.memory is not None:
            layer.bias[layer.spec.block(layer.spec.memory, layer.hidden_size)] = bias


@torch.inference_mode()
def judge(
    model: LanguageModel, test: Examples, threshold: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which predictions are correct (T, B), and the state after the last character (L, S, B, H)."""
    ids = torch.from_numpy(test.ids[:-1])
    logits, state = model(ids, model.initial_state(ids.shape[1]))
    return is_right(logits.numpy(), test.legal, threshold), state.numpy()
