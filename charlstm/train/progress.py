"""The numbers that change as a run goes on, besides the tensors."""

import math
from dataclasses import dataclass

from charlstm.errors import CharlstmError


@dataclass
class Progress:
    """The scalars that change as a run goes on; all of them are in ``train.json``."""

    step: int = 0
    position: int = 0
    """Characters that each stream has read; see ``streams``."""
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
        """Whether the loss of a validation at this step is the best so far; it is remembered.

        The first one of a trained model is, whatever the untrained model of step 0 had, unless
        ``untrained_counts``: a run may begin with trained weights.

        Raises:
            CharlstmError: the loss is not finite.
        """
        if not math.isfinite(val_loss):
            raise CharlstmError(
                f"the validation loss at step {self.step:,} is not finite",
                "begin from other weights, or with a lower `learning_rate`",
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
