"""A run as plain lines, for pipes, logs and ``--plain``."""

import time
from collections.abc import Callable
from typing import TextIO

from charlstm.errors import plural
from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    RolledBack,
    RunStarted,
    SaveFailed,
    StepDone,
)
from charlstm.show.printable import printable
from charlstm.show.quantities import duration

LINE_SECONDS = 5.0
REVISED = 0.1
"""A smaller change of the budget is not printed: every step line shows the total."""


def rolled_back(event: RolledBack) -> str:
    """The notice of a rollback."""
    return (
        f"{event.reason} at step {event.step:,}: back to step {event.to_step:,}, learning rate × "
        f"{event.rate_scale:g}"
    )


class PlainLog:
    """Writes a line for each important event, and one every few seconds for steps."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._next_line_at = 0.0
        self._printed_steps = 0
        """The total of the latest budget that was printed."""

    def write(self, event: Event) -> None:
        """Print the event's line, if it has one."""
        line = self._line(event)
        if line:
            print(printable(line, keep=""), file=self._stream, flush=True)

    def _line(self, event: Event) -> str:
        match event:
            case RunStarted():
                name, self._printed_steps = event.name, 0
                if event.generations > 1:
                    name += f" (generation {event.generation} of {event.generations})"
                return (
                    f"{name}: {event.model}, {event.parameters:,} parameters, "
                    f"{event.train_characters:,} training and {event.val_characters:,} validation "
                    f"characters, vocabulary of {event.vocab_size:,}, batch size {event.batch}, "
                    f"bptt {event.bptt}, {event.precision} on {event.device}"
                )
            case BudgetFixed():
                if abs(event.total_steps - self._printed_steps) < REVISED * self._printed_steps:
                    return ""
                self._printed_steps = event.total_steps
                return (
                    f"budget: {plural(event.total_steps, 'step')}, {event.epochs:.2f} epochs, "
                    f"about {duration(event.seconds)} in total"
                )
            case StepDone():
                if self._clock() < self._next_line_at:
                    return ""
                self._next_line_at = self._clock() + LINE_SECONDS
                total = f"/{event.total_steps:,}" if event.total_steps else ""
                return (
                    f"step {event.step:,}{total}  epoch {event.epoch:.2f}  loss {event.loss:z.4f}  "
                    f"{event.chars_per_second:,.0f} char/s  {duration(event.seconds)}"
                )
            case Evaluated():
                mark = "  (best so far)" if event.improved else ""
                return f"step {event.step:,}  validation loss {event.val_loss:z.4f} nats{mark}"
            case SaveFailed():
                return f"could not save at step {event.step:,}: {event.reason}; will retry"
            case RolledBack():
                return rolled_back(event)
            case _:
                return ""
