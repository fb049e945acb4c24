"""The schedule of a run: steps, learning rate and validations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from charlstm.config import TrainConfig
from charlstm.runs.run import Budget, Revision

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
REVISED_SECONDS, REVISED_FRACTION = 1.0, 1 / 40
"""Then the speed is measured again after this many seconds and this fraction of the budget: a
machine that becomes busy after that long before the end makes the run overrun by as much."""
TOLERANCE = 0.01
"""A plan is kept while it meets the budget in minutes within this fraction."""
FLOAT32_COST = 2.0
"""Cost of the final validation, in float32, relative to one in training; at most about this."""


def budget_of(config: TrainConfig, steps_in: Callable[[float], int]) -> Budget:
    """The budget in steps; a budget in minutes is unknown until the speed is measured.

    ``steps_in`` gives the steps of a number of epochs.
    """
    if config.steps is not None:
        return Budget((Revision(0, config.steps),))
    if config.epochs is not None:
        return Budget((Revision(0, steps_in(config.epochs)),))
    return Budget()


@dataclass(frozen=True)
class Plan:
    """The budget of a run and its schedule of validations and learning rates.

    The schedule is that of the first plan, which has ``length`` steps. A revision stretches or
    shortens what is left of it, so that the learning rate never jumps: ``position`` says where a
    step stands in it.
    """

    config: TrainConfig
    budget: Budget
    val_characters: int
    """Characters read by a validation during training."""
    final_characters: int
    """Characters read by the final validation."""

    def total_steps(self, step: int) -> int | None:
        """The number of steps of the run as planned at ``step``, or None if it was unknown.

        A resumed run that repeats earlier steps repeats the plans that were made for them.
        """
        known = self._known(step)
        return known[-1].total_steps if known else None

    def steps_left(self, step: int) -> bool:
        """Whether the budget allows more than ``step`` steps."""
        total = self.total_steps(step)
        return total is None or step < total

    def rate_multiplier(self, step: int) -> float:
        """The learning rate at ``step``, as a fraction of its peak."""
        known = self._known(step)
        if not known:
            return rate_multiplier(step, None, self.config)
        return rate_multiplier(_position(known, step), known[0].total_steps, self.config)

    def evaluation_due(self, step: int) -> bool:
        """Whether a validation is due after ``step`` steps."""
        known = self._known(step)
        if not known:
            return False
        every = self._evaluate_every(known[0].total_steps)
        before = _position(self._known(step - 1) or known, step - 1)
        return step == known[-1].total_steps or _position(known, step) // every > before // every

    def revised(self, step: int, seconds: float, pace: "Pace") -> "Plan":
        """The plan that meets a budget in minutes, if ``step`` steps took ``seconds``.

        It is this one if that is good enough, or if the steps after ``step`` were planned before.
        """
        planned_until = max((revision.step for revision in self.budget.revisions), default=-1)
        if self.config.minutes is None or step <= planned_until or not self.steps_left(step):
            return self
        budget = 60 * self.config.minutes
        left = budget - seconds - self._final_seconds(pace)
        unchecked = max(1, int(left / pace.step_seconds))
        validating = self._evaluations_left(step, step + unchecked) * self._evaluation_seconds(pace)
        total = step + max(1, int((left - validating) / pace.step_seconds))
        planned = self.budget.total_steps
        if planned is not None and abs(total - planned) * pace.step_seconds < TOLERANCE * budget:
            return self
        return self._with(Revision(step, total))

    def concluded(self, step: int) -> "Plan":
        """The plan of a run that ended after ``step`` steps: repeating it, nothing is revised."""
        total = self.budget.total_steps
        if self.config.minutes is None or total is None or step <= self.budget.revisions[-1].step:
            return self
        return self._with(Revision(step, total))

    def _with(self, revision: Revision) -> "Plan":
        return replace(self, budget=Budget((*self.budget.revisions, revision)))

    def seconds(self, step: int, seconds: float, pace: "Pace") -> float:
        """Estimated seconds of the whole run, as of ``step``."""
        total = self.budget.total_steps
        assert total is not None
        validating = self._evaluations_left(step, total) * self._evaluation_seconds(pace)
        training = (total - step) * pace.step_seconds
        return seconds + training + validating + self._final_seconds(pace)

    def pace(self, now: float) -> "Pace":
        """A measurement of the speed that starts at time ``now``, in spans that suit the budget."""
        if self.config.minutes is None:
            return Pace(now, MEASURED_SECONDS, math.inf)
        budget = 60 * self.config.minutes
        first = max(MEASURED_SECONDS, MEASURED_FRACTION * budget)
        return Pace(now, first, max(REVISED_SECONDS, REVISED_FRACTION * budget))

    def _known(self, step: int) -> list[Revision]:
        """The plans made until ``step``."""
        return [revision for revision in self.budget.revisions if revision.step <= step]

    def _evaluate_every(self, total: int) -> int:
        """Steps between validations; not measured, so a resumed run has the same schedule."""
        affordable = math.ceil(self._steps_per_evaluation() / EVALUATION_FRACTION)
        return max(1, round(total / EVALUATIONS), min(affordable, total // FEWEST_EVALUATIONS))

    def _steps_per_evaluation(self) -> float:
        """Time of a validation, in training steps: a guess."""
        return FORWARD_FRACTION * self.val_characters / (self.config.batch * self.config.bptt)

    def _evaluations_left(self, step: int, total: int) -> float:
        """Number of validations after ``step``, of a run planned to have ``total`` steps."""
        known = self._known(step)
        length = known[0].total_steps if known else total
        left = length - (_position(known, step) if known else step)
        return left / self._evaluate_every(length)

    def _evaluation_seconds(self, pace: "Pace") -> float:
        if pace.evaluation_seconds is None:
            return self._steps_per_evaluation() * pace.step_seconds
        return pace.evaluation_seconds

    def _final_seconds(self, pace: "Pace") -> float:
        """Estimated seconds of the final validation."""
        cost = 1.0 if self.config.precision == "float32" else FLOAT32_COST
        characters = self.final_characters / max(1, self.val_characters)
        return cost * characters * self._evaluation_seconds(pace)


def _position(plans: Sequence[Revision], step: int) -> float:
    """Where ``step`` stands in the schedule of the first of ``plans``, in steps of that one.

    Each revision spreads what is left of the schedule over the steps that are left:

        p(s) = p(r) + (length - p(r)) (s - r) / (total - r)    from a revision at step r on
    """
    (_, length), *later = plans
    position, since, total = 0.0, 0, length
    for revision in later:
        position += (length - position) * (revision.step - since) / max(1, total - since)
        since, total = revision
    return position + (length - position) * (step - since) / max(1, total - since)


class Pace:
    """How long steps and validations take, measured in one span of a session after another."""

    def __init__(self, now: float, first: float, span: float, step_seconds: float = 0.0) -> None:
        """The first span takes ``first`` seconds or more, the others ``span``."""
        self.step_seconds = step_seconds
        """Seconds per step, without validations: in the later half of the latest span."""
        self.evaluation_seconds: float | None = None
        """Seconds of the latest validation with its checkpoint; None before the first."""
        self._taken: list[float] = []
        self._last = now
        self._first, self._span = first, span

    def step_done(self, now: float) -> bool:
        """Whether the step that ended ``now`` completes a span: ``step_seconds`` is then new."""
        self._taken.append(now - self._last)
        self._last = now
        if len(self._taken) < MEASURED_STEPS or sum(self._taken) < self._first:
            return False
        half = self._taken[len(self._taken) // 2 :]
        self.step_seconds = sum(half) / len(half)
        self._taken, self._first = [], self._span
        return True

    def evaluation_done(self, now: float) -> None:
        """What took the time since the last step was a validation, which ended ``now``."""
        self.evaluation_seconds = now - self._last
        self._last = now


def rate_multiplier(step: float, total_steps: int | None, config: TrainConfig) -> float:
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
