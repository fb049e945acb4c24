"""Validation losses in torch, nats per character."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.train.device import Precision
from charlstm.train.network import LanguageModel

SEGMENTS = 32
WARMUP = 256
CHUNK = 256


@torch.inference_mode()
def stateful_loss(
    model: LanguageModel, ids: NDArray[np.unsignedinteger], precision: Precision
) -> float:
    """One contiguous pass over ``ids`` (N,), state carried from the first to the last."""
    total, _ = _sum_nats(model, _column(ids), model.initial_state(1), precision)
    return total / (len(ids) - 1)


@torch.inference_mode()
def quick_stateful_loss(
    model: LanguageModel, ids: NDArray[np.unsignedinteger], precision: Precision
) -> float:
    """As ``stateful_loss``, with the text cut into segments that are read side by side.

    Each segment but the first is warmed up over the 256 characters before it, so its state is
    nearly that of the contiguous pass; every character but the first is counted once.
    docs/training.md gives the measured difference.
    """
    predicted = len(ids) - 1
    length = predicted // SEGMENTS
    if length < WARMUP:
        return stateful_loss(model, ids, precision)
    first = ids[: length + 1]
    starts = np.arange(1, SEGMENTS) * length
    offsets = np.arange(-WARMUP, length + 1)
    windows = torch.from_numpy(ids[offsets[:, None] + starts].astype(np.int64))
    _, state = _sum_nats(model, windows[: WARMUP + 1], model.initial_state(SEGMENTS - 1), precision)
    total, state = _sum_nats(model, windows[WARMUP:], state, precision)
    total += _sum_nats(model, _column(first), model.initial_state(1), precision)[0]
    rest = ids[SEGMENTS * length :]
    if len(rest) > 1:
        total += _sum_nats(model, _column(rest), state[:, :, -1:], precision)[0]
    return total / predicted


@torch.inference_mode()
def windowed_loss(
    model: LanguageModel,
    ids: NDArray[np.unsignedinteger],
    precision: Precision,
    window: int = 256,
) -> float:
    """Windows of ``window`` characters, zero state at each start, every position counted."""
    predicted = len(ids) - 1
    whole = predicted // window
    total = 0.0
    places = np.arange(window + 1)[:, None] + np.arange(whole) * window
    for group in range(0, whole, SEGMENTS * 2):
        batch = torch.from_numpy(ids[places[:, group : group + SEGMENTS * 2]].astype(np.int64))
        state = model.initial_state(batch.shape[1])
        total += _sum_nats(model, batch, state, precision)[0]
    rest = ids[whole * window :]
    if len(rest) > 1:
        total += _sum_nats(model, _column(rest), model.initial_state(1), precision)[0]
    return total / predicted


def _column(ids: NDArray[np.unsignedinteger]) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64))[:, None]


def _sum_nats(
    model: LanguageModel, ids: Tensor, state: Tensor, precision: Precision
) -> tuple[float, Tensor]:
    """Sum of -ln p over ids[1:] (T, B), and the state after ids[:-1]."""
    was_training = model.training
    model.eval()
    total = 0.0
    for start in range(0, len(ids) - 1, CHUNK):
        piece = ids[start : start + CHUNK + 1].to(model.embedding.device)
        with precision.autocast():
            logits, state = model(piece[:-1], state)
        nats = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), piece[1:].flatten(), reduction="sum"
        )
        total += nats.item()
    model.train(was_training)
    return total, state
