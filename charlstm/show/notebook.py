"""A run in a notebook: one output with its numbers, losses, gates and sample, updated in place."""

import time
from collections.abc import Callable
from typing import Any

from charlstm.analysis.document import (
    Block,
    Column,
    Document,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plots,
    Table,
)
from charlstm.events import Event
from charlstm.net.spec import LEFT_SATURATED, RIGHT_SATURATED
from charlstm.show.curves import View, loss_plot
from charlstm.show.html import to_fragment
from charlstm.show.quantities import duration

UPDATE_SECONDS = 1.0


class NotebookOutput:
    """Shows a ``View`` as HTML, again and again in the place where it was first shown.

    ``sample`` gives the text being written and the step whose weights write it.
    """

    def __init__(
        self, sample: Callable[[], tuple[str, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.view = View()
        self._sample = sample
        self._clock = clock
        self._shown_at = 0.0
        self._handle: Any = None

    def show(self, event: Event) -> None:
        """Fold an event in, and update the output unless that was done a moment ago."""
        from IPython.display import HTML, display

        self.view.update(event)
        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        elif self.view.finished is not None or self._clock() - self._shown_at >= UPDATE_SECONDS:
            self._handle.update(HTML(self.html()))
        else:
            return
        self._shown_at = self._clock()

    def html(self) -> str:
        """The output as it is now."""
        view = self.view
        if view.started is None:
            return "starting …"
        plot = loss_plot(view)
        blocks: list[Block] = [Lines((self._numbers(),), quiet=True)]
        if plot is not None:
            blocks.append(Plots((plot,)))
        blocks += self._gates()
        text, step = self._sample()
        if text:
            blocks.append(Heading(f"It writes, as of step {step:,}"))
            blocks.append(Lines(tuple(text.expandtabs(4).split("\n"))))
        if view.notice:
            blocks.append(Lines((view.notice,)))
        return to_fragment(Document(f"{view.started.name}: {view.started.model}", tuple(blocks)))

    def _numbers(self) -> str:
        view = self.view
        total = view.total_steps
        parts = [f"step {view.step:,}" + (f" of {total:,}" if total else "")]
        if view.latest is not None:
            parts.append(f"training {view.latest.loss:z.4f} nats")
        if view.evaluated is not None:
            parts.append(f"validation {view.evaluated.val_loss:z.4f}")
            parts.append(f"best {view.evaluated.best_loss:z.4f}")
        if view.latest is not None:
            parts.append(f"{view.latest.chars_per_second:,.0f} characters per second")
        if view.finished is not None:
            parts.append(f"{view.finished.reason} after {duration(view.finished.seconds)}")
        elif view.seconds_left is not None:
            parts.append(f"{duration(view.seconds_left)} left")
        return " · ".join(parts)

    def _gates(self) -> list[Block]:
        evaluated = self.view.evaluated
        if evaluated is None or not evaluated.gates:
            return []
        names = tuple(dict.fromkeys(gate.gate for gate in evaluated.gates))
        bars = {(g.layer, g.gate): FractionBar(g.left, g.right) for g in evaluated.gates}
        layers = sorted({gate.layer for gate in evaluated.gates})
        return [
            Key(
                f"gates on unseen text, as of step {evaluated.step:,}",
                f"shut, below {LEFT_SATURATED:g}",
                f"open, above {RIGHT_SATURATED:g}",
            ),
            Table(
                (Column("layer", right=True), *(Column(name) for name in names)),
                tuple((str(layer + 1), *(bars[layer, name] for name in names)) for layer in layers),
            ),
        ]
