"""The schedule of a run: steps, learning rate and validations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from charlstm.config import TrainConfig
from charlstm.runs.run import Budget

EVALUATIONS = 30
"""Maximum number of validations, spread evenly over the budget."""
EVALUATION_FRACTION, FEWEST_EVALUATIONS = 0.05, 3
"""Approximate limit of the validations' fraction of training time, but never fewer validations than
``FEWEST_EVALUATIONS``."""
FORWARD_FRACTION = 1 / 3
"""Cost of validating on a character, relative to training on it: there is no backward pass."""
MEASURED_STEPS, MEASURED_SECONDS, MEASURED_FRACTION = 5, 3.0, 0.08
"""The speed is known after this many steps and seconds, and this fraction of a budget in minutes.
The first half is not counted: a cold machine, or a first read of the text, is slow."""
GUESSED_FLOPS = 1e11
"""Assumed floating-point operations per second, for estimates without a measurement."""


def budget_of(config: TrainConfig, steps_in: Callable[[float], int]) -> Budget:
    """The budget in steps; a budget in minutes is unknown until the speed is measured.

    ``steps_in`` gives the steps of a number of epochs.
    """
    if config.steps is not None:
        return Budget(total_steps=config.steps)
    if config.epochs is not None:
        return Budget(total_steps=steps_in(config.epochs))
    return Budget()


@dataclass(frozen=True)
class Plan:
    """The budget of a run and its validation schedule."""

    config: TrainConfig
    budget: Budget
    parameters: int
    val_characters: int
    """Characters read by a validation during training."""
    final_characters: int
    """Characters read by the final validation."""

    def total_steps(self, step: int) -> int | None:
        """The number of steps of the run, or None if it is unknown at ``step``.

        A budget in steps or epochs is known from the start. A budget in minutes is known from the
        step at which the speed was measured, also when a resumed run repeats earlier steps.
        """
        if self.config.minutes is not None and step < self.budget.known_at:
            return None
        return self.budget.total_steps

    def steps_left(self, step: int) -> bool:
        """Whether the budget allows more than ``step`` steps."""
        return self.budget.total_steps is None or step < self.budget.total_steps

    def measured(self, step: int, seconds: float, step_seconds: float) -> "Plan":
        """The plan with minutes converted to steps, after ``step`` steps took ``seconds``."""
        assert self.config.minutes is not None
        left = self.config.minutes * 60 - seconds - self._final_seconds()
        total = step + max(1, int(left / (step_seconds * (1 + EVALUATION_FRACTION))))
        return replace(self, budget=Budget(total, step))

    def seconds(self, step: int, seconds: float, step_seconds: float) -> float:
        """Estimated seconds of the whole run, as of ``step``."""
        total = self.budget.total_steps
        assert total is not None
        remaining = total - step
        evaluation_steps = remaining / self._evaluate_every(total) * self._steps_per_evaluation()
        return seconds + (remaining + evaluation_steps) * step_seconds + self._final_seconds()

    def evaluation_due(self, step: int) -> bool:
        """Whether a validation is due after ``step`` steps."""
        total = self.total_steps(step)
        if total is None:
            return False
        return step == total or step % self._evaluate_every(total) == 0

    def speed_trial(self, start: float) -> "SpeedTrial":
        """A speed measurement that starts at time ``start`` and is long enough for this budget."""
        seconds = MEASURED_FRACTION * 60 * (self.config.minutes or 0.0)
        return SpeedTrial(start, max(MEASURED_SECONDS, seconds))

    def _evaluate_every(self, total: int) -> int:
        """Steps between validations; not measured, so a resumed run has the same schedule."""
        affordable = math.ceil(self._steps_per_evaluation() / EVALUATION_FRACTION)
        return max(1, round(total / EVALUATIONS), min(affordable, total // FEWEST_EVALUATIONS))

    def _steps_per_evaluation(self) -> float:
        """Time of a validation, in training steps."""
        return FORWARD_FRACTION * self.val_characters / (self.config.batch * self.config.bptt)

    def _final_seconds(self) -> float:
        """Estimated seconds of the final validation."""
        return 2 * self.parameters * self.final_characters / GUESSED_FLOPS


class SpeedTrial:
    """Measures the seconds per step once, from the first steps of a session."""

    def __init__(self, start: float, seconds: float) -> None:
        self._marks = [start]
        self._seconds = seconds

    def step_done(self, now: float) -> float | None:
        """The seconds per step, returned once, as soon as enough steps are measured; else None."""
        self._marks.append(now)
        steps = len(self._marks) - 1
        if steps < MEASURED_STEPS or now - self._marks[0] < self._seconds:
            return None
        self._seconds = math.inf
        half = steps // 2
        return (now - self._marks[half]) / (steps - half)


def rate_multiplier(step: int, total_steps: int | None, config: TrainConfig) -> float:
    """The learning rate at ``step``, as a fraction of its peak.

    Linear warmup over ``warmup_steps`` (at most a tenth of the budget), then the peak for the
    fraction ``hold`` of the remaining steps, then cosine decay from 1 to ``final_rate`` at the end
    of the budget. The rate stays at its peak while the budget is unknown.
    """
    warmup = config.warmup_steps
    if total_steps is not None:
        warmup = min(warmup, total_steps // 10)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if total_steps is None:
        return 1.0
    start = warmup + config.hold * (total_steps - warmup)
    progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_rate + (1 - config.final_rate) * cosine
