"""Validation on the held-out text: its loss in torch, and the saturation of the gates."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.analysis.saturation import RECORDED, measure_gates
from charlstm.errors import plural
from charlstm.events import GateSaturation
from charlstm.net.engine import Engine
from charlstm.runs.checkpoint import read_model
from charlstm.text.copies import is_copied
from charlstm.text.corpus import Corpus
from charlstm.text.items import ItemBatches
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.device import Precision
from charlstm.training.network import LanguageModel, stored_model, to_arrays
from charlstm.training.processes import Processes

SEGMENTS = 32
"""Segments of the held-out text that are read in parallel."""
WARMUP = 256
"""Characters read before a segment, to bring its state close to that of a contiguous pass."""
CHUNK = 256
"""Characters of each segment that are read at a time, to limit memory."""
VAL_CHARACTERS, QUICK_CHARACTERS = 200_000, 50_000
"""Maximum characters, from the start of the held-out part, for the final loss and for a validation
during training: many short validations show the trend better than a few long ones."""
EXCERPT_CHARACTERS = 1_500
FEW_CHARACTERS = 200
"""Below this many held-out characters, their mean loss is uncertain by about 0.1 nats."""
MUCH_UNSEEN, UNSEEN_FACTOR = 0.01, 3
"""A note appears if the fraction of held-out characters that never occur in training exceeds both
``MUCH_UNSEEN`` and ``UNSEEN_FACTOR`` times the fraction expected for a mixed text. That is the
fraction of training characters whose symbols occur once (Good 1953): a text of many symbols always
has new ones."""
FAR_NATS = 0.1
"""Relative entropy in nats, D(held-out || training), of the character frequencies. Parts of one
text mostly have up to a few hundredths; English and German letters have 0.1 and 0.14."""
BLOCK = 1 << 22
"""Characters that are counted at a time."""


@torch.inference_mode()
def stateful_loss(
    model: LanguageModel, ids: NDArray[np.unsignedinteger], precision: Precision
) -> float:
    """Mean nats per character in one contiguous pass over ``ids`` (N,), from zero state."""
    total, _ = _sum_nats(model, _column(ids), model.initial_state(1), precision)
    return total / (len(ids) - 1)


@torch.inference_mode()
def quick_stateful_loss(
    model: LanguageModel,
    ids: NDArray[np.unsignedinteger],
    precision: Precision,
    processes: Processes | None = None,
) -> float:
    """``stateful_loss`` approximated by 32 segments that are read in parallel.

    Each segment but the first is warmed up on the 256 characters before it, so its state is close
    to that of the contiguous pass. Every character but the first is counted once.
    docs/explanation/training.md gives the measured difference. Several processes divide the
    segments among them, and all return the same loss.
    """
    processes = processes or Processes()
    predicted = len(ids) - 1
    length = predicted // SEGMENTS
    if length < WARMUP:
        return stateful_loss(model, ids, precision)
    segments = np.array_split(np.arange(SEGMENTS), processes.size)[processes.rank]
    total = 0.0
    if len(later := segments[segments > 0]):
        offsets = np.arange(-WARMUP, length + 1)
        windows = torch.from_numpy(ids[offsets[:, None] + later * length].astype(np.int64))
        state = model.initial_state(len(later))
        _, state = _sum_nats(model, windows[: WARMUP + 1], state, precision)
        total, state = _sum_nats(model, windows[WARMUP:], state, precision)
    if 0 in segments:
        first = ids[: length + 1]
        total += _sum_nats(model, _column(first), model.initial_state(1), precision)[0]
    rest = ids[SEGMENTS * length :]
    if SEGMENTS - 1 in segments and len(rest) > 1:
        total += _sum_nats(model, _column(rest), state[:, :, -1:], precision)[0]
    return processes.sum(total) / predicted


@torch.inference_mode()
def windowed_loss(
    model: LanguageModel,
    ids: NDArray[np.unsignedinteger],
    precision: Precision,
    window: int = 256,
) -> float:
    """Mean nats per character in windows, each from zero state, with all positions counted."""
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


@torch.inference_mode()
def item_loss(
    model: LanguageModel, ids: NDArray[np.unsignedinteger], end: int, precision: Precision
) -> float:
    """Mean nats per character of the items in ``ids`` (N,), each from zero state, ends counted."""
    batches = ItemBatches(ids, end, SEGMENTS, CHUNK)
    total, state = 0.0, model.initial_state(SEGMENTS)
    for step in range(batches.steps_per_epoch):
        batch = batches.batch_at(step * CHUNK)
        rows = batch.inputs.shape[1]
        state = state[:, :, :rows] if batch.is_carried else model.initial_state(rows)
        nats, state = _nats_of(
            model, torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets), state, precision
        )
        total += nats
    return total / (batches.characters_per_step * batches.steps_per_epoch)


def _column(ids: NDArray[np.unsignedinteger]) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64))[:, None]


def _sum_nats(
    model: LanguageModel, ids: Tensor, state: Tensor, precision: Precision
) -> tuple[float, Tensor]:
    """Sum of -ln p in nats over ids[1:] of ``ids`` (T, B), and the state after ids[:-1]."""
    total = 0.0
    for start in range(0, len(ids) - 1, CHUNK):
        piece = ids[start : start + CHUNK + 1]
        nats, state = _nats_of(model, piece[:-1], piece[1:], state, precision)
        total += nats
    return total, state


def _nats_of(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: Tensor, precision: Precision
) -> tuple[float, Tensor]:
    """Sum of -ln p in nats over ``targets`` (T, B), and the state after ``inputs`` (T, B)."""
    device, was_training = model.embedding.device, model.training
    model.eval()
    with precision.autocast():
        logits, state = model(inputs.to(device), state)
    nats = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.to(device).flatten(), reduction="sum"
    )
    model.train(was_training)
    return nats.item(), state


class HeldOut:
    """The held-out text of a run; false if nothing is held out.

    The excerpt then comes from the beginning of the training part.
    """

    def __init__(
        self,
        train_ids: NDArray[np.unsignedinteger],
        val_ids: NDArray[np.unsignedinteger],
        vocab: Vocabulary,
        processes: Processes | None = None,
    ) -> None:
        self._processes = processes or Processes()
        self.ids = _start(val_ids, VAL_CHARACTERS, vocab.end)
        """Ids that the final loss is computed on; (N,)."""
        self.quick_ids = _start(val_ids, QUICK_CHARACTERS, vocab.end)
        """Ids that a validation during training reads; (N,)."""
        self.vocab = vocab
        self.characters = len(val_ids)
        """Number of held-out characters; of a long text only a part is read."""
        source = val_ids if self else train_ids
        excerpt = _start(source, EXCERPT_CHARACTERS, vocab.end)
        self._excerpt = np.asarray(excerpt).astype(np.int64)

    def __bool__(self) -> bool:
        return len(self.ids) > 1

    @property
    def excerpt(self) -> str:
        """The excerpt that a checkpoint stores for `charlstm inspect`."""
        return self.vocab.decode(self._excerpt.tolist())

    def loss(self, model: LanguageModel, precision: Precision) -> float:
        """Nats per character of a validation during training."""
        return self._loss(model, self.quick_ids, precision)

    def final_loss(self, checkpoint: Path, device: torch.device) -> float:
        """Nats per character of a checkpoint on disk, in float32."""
        model = stored_model(self._processes.first(lambda: read_model(checkpoint))).to(device)
        return self._loss(model, self.ids, Precision(device, "float32"))

    def _loss(
        self, model: LanguageModel, ids: NDArray[np.unsignedinteger], precision: Precision
    ) -> float:
        if self.vocab.end is not None:
            return item_loss(model, ids, self.vocab.end, precision)
        return quick_stateful_loss(model, ids, precision, self._processes)

    def gates(self, model: LanguageModel) -> tuple[GateSaturation, ...]:
        """Saturation of each layer's gates at the start of the excerpt; empty without gates."""
        engine = Engine(model.config, dict(to_arrays(model)))
        if not engine.spec.gates:
            return ()
        ids = self._excerpt[:RECORDED]
        lead = len(ids) // 5
        symbols = tuple(self.vocab.symbols[i] for i in ids[lead:])
        return measure_gates(engine, ids[lead:], symbols, ids[:lead]).summary()


def _start(
    ids: NDArray[np.unsignedinteger], length: int, end: int | None
) -> NDArray[np.unsignedinteger]:
    """The first ``length`` ids, of a list without a last item that is cut, if there are others."""
    start = ids[:length]
    if end is None or end not in start:
        return start
    return start[: np.flatnonzero(np.asarray(start) == end)[-1] + 1]


def held_out_notes(corpus: Corpus, val_fraction: float) -> list[str]:
    """Notes about a held-out part that cannot judge what the model learns from the rest."""
    train_ids, val_ids = corpus.split(val_fraction)
    if val_fraction == 0:
        return []
    if len(val_ids) < FEW_CHARACTERS:
        return [
            f"the held-out part has only {plural(len(val_ids), 'character')}, too few for a "
            "reliable validation loss; use more text or a larger `val_fraction`"
        ]
    notes, size = [], len(corpus.vocab)
    held_out = np.bincount(val_ids[:VAL_CHARACTERS], minlength=size)
    trained = np.array(corpus.counts, dtype=np.int64)
    for start in range(0, len(val_ids), BLOCK):
        trained -= np.bincount(val_ids[start : start + BLOCK], minlength=size)
    p = held_out / held_out.sum()
    unseen = float(p[trained == 0].sum())
    expected = float((trained == 1).sum()) / max(1, len(train_ids))
    is_list = corpus.vocab.end is not None  # of which the held-out items are random
    if unseen > max(MUCH_UNSEEN, UNSEEN_FACTOR * expected):
        symbols = [corpus.vocab.symbols[i] for i in np.argsort(-p) if p[i] and not trained[i]]
        notes.append(
            f"{unseen:.0%} of the held-out characters never occur in the training part "
            f"({', '.join(map(repr, symbols[:5]))}{' …' if len(symbols) > 5 else ''}): "
            + (
                "the list has too few items with them"
                if is_list
                else "the end of the text differs from the rest; mix the texts, or change "
                "`val_fraction`"
            )
        )
    elif not is_list:
        q = (trained + 0.5) / (trained.sum() + 0.5 * size)
        seen = p > 0
        divergence = float((p[seen] * np.log(p[seen] / q[seen])).sum())
        if divergence > FAR_NATS + size / len(val_ids):
            notes.append(
                "the held-out end of the text has other character frequencies than the rest, like "
                "a text of another language or kind; mix the texts, or change `val_fraction`"
            )
    if is_copied(val_ids[:VAL_CHARACTERS], train_ids):
        notes.append(
            "passages of the held-out part also occur word for word in the training part; the "
            "validation loss partly measures how well they are memorised"
        )
    return notes
