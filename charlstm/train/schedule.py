"""The schedule of a run: its steps, its learning rate, its validations."""

import math
from dataclasses import dataclass, replace

from charlstm.config import TrainConfig
from charlstm.runs.run import Budget

EVALUATIONS = 30
"""How often a run is validated at most, spread evenly over its budget."""
EVALUATION_FRACTION, FEWEST_EVALUATIONS = 0.05, 3
"""Validations take about this fraction of the training time at most, unless there would be fewer
than ``FEWEST_EVALUATIONS``."""
FORWARD_FRACTION = 1 / 3
"""Validating a character takes about this fraction of training on it: it has no backward pass."""
MEASURED_STEPS, MEASURED_SECONDS, MEASURED_FRACTION = 5, 3.0, 0.08
"""After this many steps and seconds, and this fraction of a budget in minutes, the speed is known.
The first half is not counted: a machine that has just begun, or that reads the text for the first
time, is slow."""
GUESSED_FLOPS = 1e11
"""Floating-point operations per second, for a time that was never measured."""


def budget_of(config: TrainConfig, train_characters: int) -> Budget:
    """The number of steps; unknown for a budget in minutes, until the speed is measured."""
    if config.steps is not None:
        return Budget(total_steps=config.steps)
    if config.epochs is not None:
        steps = config.epochs * train_characters / (config.batch * config.bptt)
        return Budget(total_steps=max(1, math.ceil(steps)))
    return Budget()


@dataclass(frozen=True)
class Plan:
    """The budget of a run as its settings have it, and what follows from it."""

    config: TrainConfig
    budget: Budget
    parameters: int
    val_characters: int
    """What a validation reads."""
    final_characters: int
    """What the last one reads, for the figure at the end."""

    def total_steps(self, step: int) -> int | None:
        """The budget as step ``step`` knows it.

        One in steps or epochs is known from the start; one in minutes from the step at which it
        was measured, also when the run is repeated from its beginning.
        """
        if self.config.minutes is not None and step < self.budget.known_at:
            return None
        return self.budget.total_steps

    def steps_left(self, step: int) -> bool:
        """Whether the run goes on after ``step`` steps."""
        return self.budget.total_steps is None or step < self.budget.total_steps

    def measured(self, step: int, seconds: float, step_seconds: float) -> "Plan":
        """With minutes turned into steps, now that ``step`` steps took ``seconds`` seconds."""
        assert self.config.minutes is not None
        left = self.config.minutes * 60 - seconds - self._final_seconds()
        total = step + max(1, int(left / (step_seconds * (1 + EVALUATION_FRACTION))))
        return replace(self, budget=Budget(total, step))

    def seconds(self, step: int, seconds: float, step_seconds: float) -> float:
        """The time that the whole run takes, as far as can be said at ``step``."""
        total = self.budget.total_steps
        assert total is not None
        remaining = total - step
        evaluation_steps = remaining / self._evaluate_every(total) * self._steps_per_evaluation()
        return seconds + (remaining + evaluation_steps) * step_seconds + self._final_seconds()

    def evaluation_due(self, step: int) -> bool:
        """Whether the run is validated after ``step`` steps."""
        total = self.total_steps(step)
        if total is None:
            return False
        return step == total or step % self._evaluate_every(total) == 0

    def speed_trial(self, start: float) -> "SpeedTrial":
        """A trial long enough for this budget, from ``start`` on."""
        seconds = MEASURED_FRACTION * 60 * (self.config.minutes or 0.0)
        return SpeedTrial(start, max(MEASURED_SECONDS, seconds))

    def _evaluate_every(self, total: int) -> int:
        """Steps between validations. Nothing measured goes in: a resumed run does the same."""
        affordable = math.ceil(self._steps_per_evaluation() / EVALUATION_FRACTION)
        return max(1, round(total / EVALUATIONS), min(affordable, total // FEWEST_EVALUATIONS))

    def _steps_per_evaluation(self) -> float:
        """The time that a validation takes, in training steps."""
        return FORWARD_FRACTION * self.val_characters / (self.config.batch * self.config.bptt)

    def _final_seconds(self) -> float:
        """A guess of the time that the last validation takes."""
        return 2 * self.parameters * self.final_characters / GUESSED_FLOPS


class SpeedTrial:
    """Finds out how long a step takes, once, from the marks of the first steps."""

    def __init__(self, start: float, seconds: float) -> None:
        self._marks = [start]
        self._seconds = seconds

    def step_done(self, now: float) -> float | None:
        """The seconds of a step when enough is known, at this call alone; else None."""
        self._marks.append(now)
        steps = len(self._marks) - 1
        if steps < MEASURED_STEPS or now - self._marks[0] < self._seconds:
            return None
        self._seconds = math.inf
        half = steps // 2
        return (now - self._marks[half]) / (steps - half)


def rate_multiplier(step: int, total_steps: int | None, config: TrainConfig) -> float:
    """The learning rate of step ``step`` as a fraction of its peak.

    Linear warm-up over ``warmup_steps`` (at most a tenth of the budget), the peak for ``hold`` of
    the rest, then half a cosine from 1 to ``final_rate`` at the end of the budget. While the
    budget is not yet known, the peak is held, too.
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
