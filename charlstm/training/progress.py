"""The counters of a run: everything that changes during training, besides the tensors."""

import math
from dataclasses import dataclass

from charlstm.errors import CharlstmError


@dataclass
class Progress:
    """The scalars that change during training; ``train.json`` stores all of them."""

    step: int = 0
    position: int = 0
    """Characters read by each stream; see ``charlstm.text.streams``."""
    best_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    rate_scale: float = 1.0
    rollbacks: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kinds = (float, int) if name in _MEASURED else (int,)
            if name == "best_loss" and value is None:
                continue
            if type(value) not in kinds or not 0 <= value < 1 << 63:
                raise ValueError(f"{name} is {value!r:.40}")

    def judge(self, val_loss: float, *, untrained_counts: bool) -> bool:
        """Record a validation loss in nats; return whether it is the best so far.

        The first loss after step 0 always counts as the best, because step 0 is an untrained model.
        With ``untrained_counts`` it must beat step 0: a run may start from trained weights.

        Raises:
            CharlstmError: the loss is not finite.
        """
        if not math.isfinite(val_loss):
            raise CharlstmError(
                f"the validation loss at step {self.step:,} is not finite",
                "start from other weights, or use a lower `learning_rate`",
            )
        best = self.best_loss if self.best_step or untrained_counts else None
        improved = best is None or val_loss < best
        if improved:
            self.best_loss, self.best_step = val_loss, self.step
            self.evaluations_since_best = 0
        else:
            self.evaluations_since_best += 1
        return improved


_MEASURED = ("best_loss", "rate_scale", "seconds")
