"""A run as plain lines, for pipes, logs and --plain."""

import time
from collections.abc import Callable
from typing import TextIO

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


class PlainLog:
    """Writes a line for what matters, and for the steps one every few seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._next_line_at = 0.0

    def write(self, event: Event) -> None:
        """Print the event's line, if it has one."""
        line = self._line(event)
        if line:
            print(printable(line, keep=""), file=self._stream, flush=True)

    def _line(self, event: Event) -> str:
        match event:
            case RunStarted():
                symbols = "1 symbol" if event.vocab_size == 1 else f"{event.vocab_size:,} symbols"
                return (
                    f"{event.name}: {event.model}, {event.parameters:,} parameters, "
                    f"{event.train_characters:,} characters to train on and "
                    f"{event.val_characters:,} to validate, {symbols}; "
                    f"B {event.batch}, T {event.bptt}, {event.precision} on "
                    f"{event.device}"
                )
            case BudgetFixed():
                steps = "step" if event.total_steps == 1 else "steps"
                return (
                    f"budget: {event.total_steps:,} {steps}, {event.epochs:.2f} epochs, about "
                    f"{duration(event.seconds)} in all"
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
                mark = "  best so far" if event.improved else ""
                return f"step {event.step:,}  validation {event.val_loss:z.4f} nats{mark}"
            case SaveFailed():
                return f"could not save at step {event.step:,}: {event.reason}; will try again"
            case RolledBack():
                return (
                    f"{event.reason} at step {event.step:,}: back to step {event.to_step:,} with "
                    f"{event.rate_scale:g} of the rate"
                )
            case _:
                return ""
