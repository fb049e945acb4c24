"""What a run is validated on: the held-out text, its loss in torch, and the gates there."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.analysis.saturation import RECORDED, measure_gates
from charlstm.events import GateSaturation
from charlstm.net.engine import Engine
from charlstm.runs.checkpoint import read_model
from charlstm.text.vocabulary import Vocabulary
from charlstm.train.device import Precision
from charlstm.train.network import LanguageModel, stored_model, to_arrays

SEGMENTS = 32
"""Parts of the held-out text that are read side by side."""
WARMUP = 256
"""Characters read before a part, so that its state is nearly that of a contiguous pass."""
CHUNK = 256
"""Characters of each part that are read at a time, to limit memory."""
VAL_CHARACTERS, QUICK_CHARACTERS = 200_000, 50_000
"""Characters that are read at most, from the held-out part's start, for the figure at the end of a
run and in a validation on the way: many short ones show its course better than few long ones."""
EXCERPT_CHARACTERS = 1_500


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
    positions = np.arange(window + 1)[:, None] + np.arange(whole) * window
    for group in range(0, whole, SEGMENTS * 2):
        batch = torch.from_numpy(ids[positions[:, group : group + SEGMENTS * 2]].astype(np.int64))
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


class HeldOut:
    """What a run is validated on; false where the text leaves nothing for it.

    The excerpt is then from the beginning of what is trained on.
    """

    def __init__(
        self,
        train_ids: NDArray[np.unsignedinteger],
        val_ids: NDArray[np.unsignedinteger],
        vocab: Vocabulary,
    ) -> None:
        self.ids = val_ids[:VAL_CHARACTERS]
        """What the loss at the end is of."""
        self.quick_ids = val_ids[:QUICK_CHARACTERS]
        """What a validation on the way reads."""
        self._vocab = vocab
        source = val_ids if self else train_ids
        self._excerpt = np.asarray(source[:EXCERPT_CHARACTERS]).astype(np.int64)

    def __bool__(self) -> bool:
        return len(self.ids) > 1

    @property
    def excerpt(self) -> str:
        """The text that a checkpoint keeps, for `charlstm inspect`."""
        return self._vocab.decode(self._excerpt.tolist())

    def loss(self, model: LanguageModel, precision: Precision) -> float:
        """Nats per character, in a validation on the way."""
        return quick_stateful_loss(model, self.quick_ids, precision)

    def final_loss(self, checkpoint: Path, device: torch.device) -> float:
        """Nats per character of a checkpoint on disk, in float32."""
        model = stored_model(read_model(checkpoint)).to(device)
        return quick_stateful_loss(model, self.ids, Precision(device, "float32"))

    def gates(self, model: LanguageModel) -> tuple[GateSaturation, ...]:
        """How often each layer's gates, if any, are saturated over the excerpt's beginning."""
        engine = Engine(model.config, dict(to_arrays(model)))
        if not engine.spec.gates:
            return ()
        ids = self._excerpt[:RECORDED]
        lead = len(ids) // 5
        symbols = tuple(self._vocab.symbols[i] for i in ids[lead:])
        return measure_gates(engine, ids[lead:], symbols, ids[:lead]).summary()
