"""What a training run tells those who watch it: frozen events with Python values.

``Trainer.run`` yields them in order; the live panel, the plain log and ``metrics.jsonl`` are
three readers of the same stream. Losses are nats per character.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStarted:
    """First event. ``step`` is 0, or where a resumed run goes on."""

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


@dataclass(frozen=True)
class BudgetFixed:
    """The number of steps is known: at the start, or once a budget in minutes was measured."""

    total_steps: int
    epochs: float
    seconds: float
    """Estimate of the whole training time."""


@dataclass(frozen=True)
class StepDone:
    """Some steps were taken. ``loss`` is the mean over the steps since the last such event."""

    step: int
    total_steps: int | None
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    chars_per_second: float
    seconds: float
    """Training time so far, evaluations and saving included, earlier sessions too."""


@dataclass(frozen=True)
class GateSaturation:
    """Share of (unit, step) pairs of one gate below 0.1 and above 0.9, and the mean."""

    layer: int
    gate: str
    left: float
    right: float
    mean: float


@dataclass(frozen=True)
class Evaluated:
    """The averaged weights were validated."""

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
    """A checkpoint could not be written; training goes on and will try again."""

    step: int
    reason: str


@dataclass(frozen=True)
class RolledBack:
    """The loss was not finite; the run went back and goes on with a lower rate."""

    step: int
    to_step: int
    rate_scale: float
    reason: str


@dataclass(frozen=True)
class RunFinished:
    """Last event. ``reason`` is one of budget, patience, stopped, diverged."""

    reason: str
    step: int
    epoch: float
    seconds: float
    val_loss: float | None
    """Of the best checkpoint, in float32; None if the run was stopped or nothing is held out."""
    best_step: int
    path: Path
    unsaved: str | None = None
    """Why the last checkpoint could not be written; None if it was."""


Event = (
    RunStarted | BudgetFixed | StepDone | Evaluated | Saved | SaveFailed | RolledBack | RunFinished
)
