"""The held-out part of a text: what it costs a model, and what the model's gates do there."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.checkpoint import read_model
from charlstm.engine import Engine
from charlstm.events import GateSaturation
from charlstm.gates import RECORDED, measure_gates
from charlstm.train.device import Precision
from charlstm.train.network import LanguageModel, load_arrays, to_arrays
from charlstm.train.validate import quick_stateful_loss
from charlstm.vocab import Vocabulary

VAL_CHARACTERS, QUICK_CHARACTERS = 200_000, 50_000
"""At most so much is read, from the held-out part's start, for the figure at the end of a run and
in a validation on the way: many short ones show better how it goes than few long ones."""
EXCERPT_CHARACTERS = 1_500


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
        """Nats per character of a checkpoint as it stands on disk, in float32."""
        file = read_model(checkpoint)
        model = LanguageModel(file.config).to(device)
        load_arrays(model, dict(file.weights))
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
