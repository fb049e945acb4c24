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
from charlstm.text.corpus import Corpus
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
FEW_CHARACTERS = 200
"""Held-out characters below which their mean loss is uncertain by about a tenth of a nat."""
MUCH_UNSEEN, UNSEEN_FACTOR = 0.01, 3
"""Fraction of the held-out characters that never occur in training, above which there is a note,
and how many times what a mixed text has. There it is the fraction of the characters of the training
part whose symbols occur once (Good, 1953): a text of many symbols always has new ones."""
FAR_NATS = 0.1
"""Relative entropy of the frequencies of characters, held-out from training: parts of one text have
mostly up to a few hundredths, English and German letters 0.1 and 0.14."""
PASSAGE, PASSAGES = 100, 9
"""Characters of the passages of the held-out part that are looked for in the rest, and how many."""
SEARCHED, BLOCK = 10_000_000, 1 << 22
"""Characters before the held-out part in which they are looked for; counted at a time."""


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
    docs/explanation/training.md gives the measured difference.
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
        self.vocab = vocab
        self.characters = len(val_ids)
        """All that is held out; of a long text a part of it is read."""
        source = val_ids if self else train_ids
        self._excerpt = np.asarray(source[:EXCERPT_CHARACTERS]).astype(np.int64)

    def __bool__(self) -> bool:
        return len(self.ids) > 1

    @property
    def excerpt(self) -> str:
        """The text that a checkpoint keeps, for `charlstm inspect`."""
        return self.vocab.decode(self._excerpt.tolist())

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
        symbols = tuple(self.vocab.symbols[i] for i in ids[lead:])
        return measure_gates(engine, ids[lead:], symbols, ids[:lead]).summary()


def held_out_notes(corpus: Corpus, val_fraction: float) -> list[str]:
    """What makes the held-out part a poor judge of what is learnt from the rest, if anything."""
    train_ids, val_ids = corpus.split(val_fraction)
    if val_fraction == 0:
        return []
    if len(val_ids) < FEW_CHARACTERS:
        return [
            f"{len(val_ids):,} held-out characters are too few to judge by: chance decides which "
            "checkpoint is the best; give more text or a larger `val_fraction`"
        ]
    notes, size = [], len(corpus.vocab)
    held_out = np.bincount(val_ids[:VAL_CHARACTERS], minlength=size)
    trained = np.array(corpus.counts, dtype=np.int64)
    for start in range(0, len(val_ids), BLOCK):
        trained -= np.bincount(val_ids[start : start + BLOCK], minlength=size)
    p = held_out / held_out.sum()
    unseen = float(p[trained == 0].sum())
    expected = float((trained == 1).sum()) / max(1, len(train_ids))
    if unseen > max(MUCH_UNSEEN, UNSEEN_FACTOR * expected):
        symbols = [corpus.vocab.symbols[i] for i in np.argsort(-p) if p[i] and not trained[i]]
        notes.append(
            f"{unseen:.0%} of the held-out characters never occur in the part that is trained on "
            f"({', '.join(map(repr, symbols[:5]))}{' …' if len(symbols) > 5 else ''}): its end is "
            "not like the rest; mix the texts, or change `val_fraction`"
        )
    else:
        q = (trained + 0.5) / (trained.sum() + 0.5 * size)
        seen = p > 0
        divergence = float((p[seen] * np.log(p[seen] / q[seen])).sum())
        if divergence > FAR_NATS + size / len(val_ids):
            notes.append(
                "the end of the text, which is held out, uses its characters unlike the rest, as a "
                "text of another language or kind would: mix the texts, or change `val_fraction`"
            )
    if _copied(train_ids[-SEARCHED:], val_ids[:VAL_CHARACTERS]):
        notes.append(
            "passages of the held-out part are in the part that is trained on, too, word for word: "
            "the validation says how well they are memorised"
        )
    return notes


def _copied(train_ids: NDArray[np.unsignedinteger], val_ids: NDArray[np.unsignedinteger]) -> bool:
    """Whether most of some passages of the held-out part are in the training part as well."""
    text, width = train_ids.tobytes(), train_ids.itemsize
    starts = np.linspace(0, len(val_ids) - PASSAGE, PASSAGES).astype(np.int64)
    found = 0
    for start in starts:
        position = text.find(val_ids[start : start + PASSAGE].tobytes())
        found += position >= 0 and position % width == 0
    return found > PASSAGES / 2
