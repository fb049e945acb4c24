"""The view model of the live panel: curves and latest numbers, folded from a run's events."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from charlstm.analysis.document import Plot, Series
from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    RolledBack,
    RunFinished,
    RunStarted,
    SaveFailed,
    StepDone,
)
from charlstm.runs.metrics import event_from_dict
from charlstm.show.plain import rolled_back
from charlstm.show.style import EARLIER, TRAIN, VAL

MOST_POINTS = 400


@dataclass
class Curve:
    """Points of a curve; when there are too many, neighbours are averaged."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    _weight: int = 1
    _pending: list[tuple[float, float]] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        """Append a point."""
        self._pending.append((x, y))
        if len(self._pending) < self._weight:
            return
        self._append()
        if len(self.x) >= MOST_POINTS:
            pairs = range(0, len(self.x) - 1, 2)
            self.x = [(self.x[i] + self.x[i + 1]) / 2 for i in pairs]
            self.y = [(self.y[i] + self.y[i + 1]) / 2 for i in pairs]
            self._weight *= 2

    def _append(self) -> None:
        size = len(self._pending)
        self.x.append(sum(x for x, _ in self._pending) / size)
        self.y.append(sum(y for _, y in self._pending) / size)
        self._pending = []


@dataclass
class View:
    """The state of the panel, folded from events."""

    started: RunStarted | None = None
    budget: BudgetFixed | None = None
    latest: StepDone | None = None
    evaluated: Evaluated | None = None
    finished: RunFinished | None = None
    notice: str = ""
    train: Curve = field(default_factory=Curve)
    val: Curve = field(default_factory=Curve)
    earlier: list[Curve] = field(default_factory=list)
    """Validation losses of the earlier generations."""

    def update(self, event: Event) -> None:
        """Fold in one more event."""
        match event:
            case RunStarted():
                self.started = event
                if self.budget and event.total_steps not in (None, self.budget.total_steps):
                    self.budget = None  # resumed with a different budget
            case BudgetFixed():
                self.budget = event
            case StepDone():
                self.latest = event
                self.train.add(event.step, event.loss)
            case Evaluated():
                self.evaluated = event
                if event.step:  # the untrained loss would dominate the chart
                    self.val.add(event.step, event.val_loss)
            case SaveFailed():
                self.notice = f"could not save at step {event.step:,}: {event.reason}"
            case RolledBack():
                self.notice = rolled_back(event)
            case RunFinished():
                self.finished = event

    def add_earlier(self, lines: Iterable[dict[str, Any]]) -> None:
        """Fold in the ``metrics.jsonl`` of an earlier generation."""
        view = View()
        replay(view, lines)
        self.earlier.append(view.val)

    @property
    def step(self) -> int:
        """The latest step reported by any event."""
        for event in (self.finished, self.latest, self.evaluated, self.started):
            if event is not None:
                return event.step
        return 0

    @property
    def total_steps(self) -> int | None:
        """The budget in steps, once known."""
        if self.budget is not None:
            return self.budget.total_steps
        return self.started.total_steps if self.started is not None else None

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds left, corrected by the time the steps so far took."""
        if self.budget is None or self.latest is None or not self.latest.step:
            return None
        done = self.latest.step / self.budget.total_steps
        guess = max(0.0, self.budget.seconds - self.latest.seconds)
        measured = self.latest.seconds * (1 - done) / done
        return (1 - done) * guess + done * measured


def loss_plot(view: View) -> Plot | None:
    """Both losses over the steps; None before there is one."""
    x, y, val_x, val_y = view.train.x, view.train.y, view.val.x, view.val.y
    if not x and not val_x:
        return None
    # The first steps fall from ln V; cut them off once there is more to see.
    earlier = [curve for curve in view.earlier if curve.x]
    falling = sorted([*y, *val_y, *(loss for curve in earlier for loss in curve.y)], reverse=True)
    high = falling[min(len(falling) - 1, len(falling) // 12)] if len(falling) > 12 else falling[0]
    low = falling[-1]
    margin = 0.05 * (high - low) or 0.1
    first, last = min([*x, *val_x]), max([*x, *val_x, *(curve.x[-1] for curve in earlier), 1.0])
    return Plot(
        "loss",
        (
            *(Series("earlier generation", curve.x, curve.y, EARLIER) for curve in earlier),
            Series("training", x, y, TRAIN),
            Series("validation", val_x, val_y, VAL),
        ),
        x_limits=(first, max(last, first + 1)),
        y_limits=(low - margin, high + margin),
        x_label="steps",
        y_label="nats",
    )


def replay(view: View, lines: Iterable[dict[str, Any]]) -> None:
    """Fold in the lines of ``metrics.jsonl``, so that a resumed run shows its history."""
    for line in lines:
        event = event_from_dict(line)
        if event is not None:
            view.update(event)
