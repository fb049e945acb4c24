"""Dynamic evaluation: score a text while the weights adapt to what has been read so far."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.errors import check_integer, check_number, require
from charlstm.runs.checkpoint import ModelFile
from charlstm.scoring import Score, check_scorable, summarise
from charlstm.text.vocabulary import Ids
from charlstm.training.network import LanguageModel, stored_model

FLOOR = 0.1
"""epsilon as a fraction of the mean RMS: keeps weights with tiny gradients from jumping."""
TINY = 1e-30
STREAMS = 16
MAX_PIECE = 100_000
COLLECTED = 200
"""Pieces of the training text, of ``STREAMS`` streams each, used to estimate the mean squares."""


@dataclass(frozen=True)
class Adaptation:
    """Settings of dynamic evaluation; docs/explanation/scores.md has the equation."""

    piece: int = 20
    """Characters scored before each update; the gradient flows back through these alone."""
    rate: float = 0.05
    """eta times the square root of the number of parameters: the norm of a step when gradients have
    their usual size."""
    decay: float = 0.01
    """lambda: mean fraction of the distance to the trained weights that each step moves back."""

    def __post_init__(self) -> None:
        check_integer("`piece`", self.piece, 1, MAX_PIECE)
        check_number("`rate`", self.rate, 0)
        check_number("`decay`", self.decay, 0)


@dataclass
class _Weight:
    """A parameter, its trained value, and its step and decay scales."""

    value: Tensor
    trained: Tensor
    scale: Tensor
    """eta / (RMS + epsilon)"""
    pull: Tensor
    """lambda * RMS / mean RMS, at most 1"""


def score_adaptive(
    model: ModelFile,
    ids: Ids,
    training: NDArray[np.unsignedinteger],
    adaptation: Adaptation = Adaptation(),
    progress: Callable[[int], None] = lambda _: None,
) -> Score:
    """Score ``ids`` (N,) in one contiguous pass, with a gradient step after each piece.

        theta += pull * (theta_0 - theta) - eta * g / (RMS + epsilon)
        pull = min(1, lambda * RMS / mean(RMS)),  epsilon = 0.1 mean(RMS)

    (Krause, Kahembwe, Murray & Renals 2018, Dynamic Evaluation of Neural Sequence Models.) g is
    the gradient of a piece's mean -ln p in nats; RMS is the root mean square of each weight's
    gradients on ``training`` (M,). Every character is predicted before the weights adapt to it.
    ``model`` is not changed. ``progress`` receives the number of characters scored so far.

    Raises:
        CharlstmError: the text has no character to predict.
        UsageError: the model was trained on a list.
    """
    require(model.config.end is None, "`adapt`: a list is scored item by item", "score it without")
    check_scorable(ids)
    network = stored_model(model)
    squares = _mean_squares(network, training, adaptation.piece)
    roots = [square.sqrt() for square in squares]
    mean_root = sum(float(root.sum()) for root in roots) / model.config.parameters
    mean_root = max(mean_root, TINY)
    rate = adaptation.rate / model.config.parameters**0.5
    weights = [
        _Weight(
            value,
            value.detach().clone(),
            rate / (root + FLOOR * mean_root),
            (adaptation.decay * root / mean_root).clamp(max=1),
        )
        for value, root in zip(network.parameters(), roots, strict=True)
    ]
    text = torch.from_numpy(ids.astype(np.int64))[:, None]
    bits = np.full(len(ids), np.nan)
    state = network.initial_state(1)
    for start in range(0, len(ids) - 1, adaptation.piece):
        piece = text[start : start + adaptation.piece + 1]
        nats, state = _learn(network, piece, state)
        bits[start + 1 : start + len(piece)] = nats.double().numpy() / np.log(2)
        with torch.no_grad():
            for weight in weights:
                assert weight.value.grad is not None
                step = weight.pull * (weight.trained - weight.value)
                step.addcmul_(weight.value.grad, weight.scale, value=-1)
                weight.value += step
        progress(start + len(piece) - 1)
    return summarise(bits, adaptive=True)


def _learn(network: LanguageModel, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """-ln p of ids[1:], flattened, and the detached state; sets the gradients of the mean."""
    network.zero_grad()
    logits, state = network(ids[:-1], state)
    nats = nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), reduction="none")
    nats.mean().backward()  # type: ignore[no-untyped-call]
    return nats.detach(), state.detach()


def _mean_squares(
    network: LanguageModel, training: NDArray[np.unsignedinteger], piece: int
) -> list[Tensor]:
    """Mean squared gradients over pieces of streams spread evenly over the text."""
    pieces = max(1, min(COLLECTED, (len(training) // STREAMS - 1) // piece))
    starts = np.arange(STREAMS) * (len(training) // STREAMS)
    squares = [torch.zeros_like(value) for value in network.parameters()]
    state = network.initial_state(STREAMS)
    for number in range(pieces):
        positions = starts + np.arange(number * piece, (number + 1) * piece + 1)[:, None]
        positions %= len(training)
        _, state = _learn(network, torch.from_numpy(training[positions].astype(np.int64)), state)
        for square, value in zip(squares, network.parameters(), strict=True):
            assert value.grad is not None
            square += value.grad**2 / pieces
    return squares
