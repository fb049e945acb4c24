"""The events of a training run: frozen dataclasses of plain Python values.

``Trainer.run`` yields them in order. The live panel, the plain log and ``metrics.jsonl`` all
consume the same stream. Losses are in nats per character, times in seconds.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """First event. ``step`` is 0, or the step at which a run resumes."""

    name: str
    model: str
    parameters: int
    train_characters: int
    val_characters: int
    vocab_size: int
    batch: int
    bptt: int
    precision: str
    device: str
    threads: int
    step: int
    total_steps: int | None
    generation: int = 1
    generations: int = 1
    """Number of this run and of all runs in its chain of generations."""


@dataclass(frozen=True)
class BudgetFixed:
    """The number of steps is known: at the start, or once the speed is measured for minutes."""

    total_steps: int
    epochs: float
    seconds: float
    """Estimate of the whole training time."""


@dataclass(frozen=True)
class StepDone:
    """Progress report. ``loss`` is the mean training loss since the last report."""

    step: int
    total_steps: int | None
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    chars_per_second: float
    seconds: float
    """Training time so far, including validations, saving and earlier sessions."""


@dataclass(frozen=True)
class GateSaturation:
    """Fractions of (unit, step) pairs of one gate below 0.1 and above 0.9, and the mean value."""

    layer: int
    gate: str
    left: float
    right: float
    mean: float


@dataclass(frozen=True)
class Evaluated:
    """Validation of the averaged weights."""

    step: int
    epoch: float
    val_loss: float
    best_loss: float
    best_step: int
    improved: bool
    seconds: float
    gates: tuple[GateSaturation, ...]
    """Over the held-out excerpt, with the averaged weights."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    path: Path
    best: bool


@dataclass(frozen=True)
class SaveFailed:
    """A checkpoint could not be written; training continues and tries again later."""

    step: int
    reason: str


@dataclass(frozen=True)
class RolledBack:
    """Training diverged; the run went back to its last validation with a lower learning rate."""

    step: int
    to_step: int
    rate_scale: float
    reason: str


@dataclass(frozen=True)
class RunFinished:
    """Last event. ``reason`` is budget, patience (early stop), stopped or diverged."""

    reason: str
    step: int
    epoch: float
    seconds: float
    val_loss: float | None
    """Validation loss of the best checkpoint, in float32; None if the run was stopped or nothing is
    held out."""
    best_step: int
    path: Path
    unsaved: str | None = None
    """Why the last checkpoint could not be written; None if it was."""


Event = (
    RunStarted | BudgetFixed | StepDone | Evaluated | Saved | SaveFailed | RolledBack | RunFinished
)
