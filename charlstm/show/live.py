"""The live panel: the state of a run, drawn in place between training steps."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Self, cast

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from charlstm.events import Event
from charlstm.net.spec import LEFT_SATURATED, RIGHT_SATURATED
from charlstm.scoring import perplexity
from charlstm.show.ascii_signs import with_signs
from charlstm.show.background import BackgroundWriter
from charlstm.show.charts import chart, round_ticks
from charlstm.show.console import in_foreground, start_below
from charlstm.show.curves import View, loss_plot
from charlstm.show.printable import printable
from charlstm.show.quantities import count, duration
from charlstm.show.style import (
    EARLIER,
    OPEN,
    OPEN_CELL,
    SHUT,
    SHUT_CELL,
    TRAIN,
    VAL,
    saturation_bar,
)

MOST_DRAWINGS_PER_SECOND = 4
NUMBERS_WIDTH = 30
CHART_SECONDS = 1.0
RESULT_LINES = 7
"""Lines left below the final panel, for the result and the shell prompt."""
CLOSE_SECONDS = 1.0
"""How long to wait for the terminal to take the final panel."""
BITS_PER_NAT = 1.4426950408889634
EMOJI_STYLE, JOINER = chr(0xFE0F), chr(0x200D)
"""The selector that makes the character before it an emoji, a cell wider, and the joiner."""


class LivePanel:
    """Draws a ``View`` in place as it changes, and leaves the final state on the screen.

    ``sample`` returns the text being generated and the step whose weights generate it.
    """

    def __init__(
        self,
        console: Console,
        sample: Callable[[], tuple[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = View()
        self.console = console
        self._sample = sample
        self._chart: tuple[object, Text] | None = None
        self._clock = clock
        self._drawn_at = clock()
        self._below = False
        self._writer: BackgroundWriter | None = None
        self._live = Live(
            console=console,
            get_renderable=self.render,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, event: Event) -> None:
        """Fold in an event, and redraw unless the last drawing is too recent.

        Drawing happens between steps: a drawing thread would push one of torch's threads off its
        core, and the others would wait (docs/research/experiments/threads-and-memory.md). Only
        writing has a thread: while the terminal is blocked, nothing is drawn and training goes on.
        """
        self.view.update(event)
        if self._writer is not None and not in_foreground(self._writer.file):
            self._below = True  # another process has the terminal
            return
        due = self._below or self._clock() - self._drawn_at >= 1 / MOST_DRAWINGS_PER_SECOND
        if due and self._writer is not None and self._writer.idle:
            self._leave_what_is_there()
            self._live.refresh()
            self._drawn_at = self._clock()

    def _leave_what_is_there(self) -> None:
        if self._below and self._writer is not None:
            self._below = False
            start_below(self.console)

    def draw_below(self) -> None:
        """Keep the screen's content and continue below it; safe to call in a signal handler."""
        self._below = True

    def __enter__(self) -> Self:
        self._writer = BackgroundWriter(self.console.file)
        self.console.file = cast("IO[str]", self._writer)
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._writer is not None
        self._leave_what_is_there()
        self._live.stop()
        self._writer.close(CLOSE_SECONDS)
        self.console.file = self._writer.file

    def render(self) -> RenderableType:
        """The whole panel at the console's current size."""
        view = self.view
        below = 1 if view.finished is None else RESULT_LINES
        width, height = self.console.width, self.console.height - below
        if view.started is None:
            return Text("starting …")
        gates = self._gates(width) if height >= 14 else []
        numbers = self._numbers()
        wide = width >= 60
        fixed = 2 + len(gates) + 1
        sample_lines = max(2, (height - fixed) // 3)
        top = max(0, height - fixed - sample_lines - 1)
        top = min(top, 24)
        sample_lines = max(1, height - fixed - top - 1)
        parts: list[RenderableType] = [self._header(width), self._progress(width)]
        if top >= 5:
            if wide:
                grid = Table.grid(padding=(0, 1, 0, 0))
                grid.add_column(width=width - NUMBERS_WIDTH - 1)
                grid.add_column(width=NUMBERS_WIDTH)
                side = Group(*numbers[:top])
                grid.add_row(self._loss_chart(width - NUMBERS_WIDTH - 1, top), side)
                parts.append(grid)
            else:
                lines = numbers[: max(3, top // 3)]
                parts += lines
                if top - len(lines) >= 5:
                    parts.append(self._loss_chart(width, top - len(lines)))
        else:
            parts += numbers[:top]
        parts += gates
        parts += self._sample_lines(width, sample_lines)
        parts.append(self._footer(width))
        return Group(*parts)

    def _header(self, width: int) -> Text:
        started = self.view.started
        assert started is not None
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(" charlstm ", style="bold reverse")
        line.append(f" {self._printable(started.name)}", style="bold")
        if started.generations > 1:
            line.append(f"  generation {started.generation} of {started.generations}")
        line.append(
            f"  {started.model} · {count(started.parameters)} parameters · "
            f"{count(started.train_characters)} characters · {started.precision}",
            style="dim",
        )
        line.truncate(width, overflow="ellipsis")
        return line

    def _progress(self, width: int) -> Text:
        view = self.view
        total = view.total_steps
        if view.finished is not None:
            right = f" {_ENDINGS.get(view.finished.reason, view.finished.reason)} "
        elif total is None:
            right = " measuring speed … "
        elif view.step >= total:
            right = " final validation … "
        else:
            left = view.seconds_left
            when = "" if left is None else f" {duration(left)} left"
            right = f" {100 * view.step / total:3.0f}%{when} "
        room = max(5, width - len(right) - 2)
        fraction = 0.0 if not total else min(1.0, view.step / total)
        filled = round(fraction * room)
        line = Text(" ", no_wrap=True)
        line.append("━" * filled, style=VAL)
        line.append("─" * (room - filled), style="dim")
        line.append(right)
        line.truncate(width)
        return line

    def _numbers(self) -> list[Text]:
        view = self.view
        rows: list[tuple[str, str, str]] = []
        latest, evaluated, finished = view.latest, view.evaluated, view.finished
        rows.append(("training", f"{latest.loss:z.4f}" if latest else "–", TRAIN))
        if evaluated and evaluated.step == 0:
            rows.append(("untrained", f"{evaluated.val_loss:z.4f}", VAL))
        elif evaluated:
            # The final loss, over the whole held-out part, is printed below the panel too.
            final = None if finished is None else finished.val_loss
            if final is None:
                rows.append(("validation", f"{evaluated.val_loss:z.4f}", VAL))
            best = evaluated.best_loss if final is None else final
            rows.append(("best", f"{best:z.4f} nats", "bold"))
            rows.append(("", f"{best * BITS_PER_NAT:z.3f} bits/char", ""))
            digits = 2 if perplexity(best) < 100 else 0  # the column is narrow
            rows.append(("", f"perplexity {perplexity(best):.{digits}f}", ""))
        total = view.total_steps
        if latest:
            of = f"/{total:,}" if total else ""
            rows.append(("step", f"{view.step:,}{of}", ""))
            epoch = latest.epoch if finished is None else finished.epoch
            most = view.budget.epochs if view.budget else epoch
            decimals = 2 if most < 1000 else 0  # both numbers have to fit
            epochs = f" of {most:,.{decimals}f}" if view.budget else ""
            rows.append(("epoch", f"{epoch:,.{decimals}f}{epochs}", ""))
            rows.append(("speed", f"{latest.chars_per_second:,.0f} char/s", ""))
            rows.append(("elapsed", duration(latest.seconds), ""))
            rows.append(("learning rate", f"{latest.learning_rate:.4g}", ""))
            rows.append(("gradient norm", f"{latest.gradient_norm:.3f}", ""))
        lines = []
        for name, value, style in rows:
            line = Text(no_wrap=True)
            line.append(f"{name:<14}", style="dim")
            line.append(value, style=style)
            lines.append(line)
        return lines

    def _loss_chart(self, width: int, height: int) -> Text:
        """The chart, redrawn only on news: it costs as much as the rest of the panel."""
        view = self.view
        bucket = int((view.latest.seconds if view.latest else 0.0) / CHART_SECONDS)
        key = (width, height, bucket, len(view.val.x), view.total_steps, view.finished is None)
        if self._chart is None or self._chart[0] != key:
            self._chart = (key, self._draw_chart(width, height))
        return self._chart[1]

    def _draw_chart(self, width: int, height: int) -> Text:
        plot = loss_plot(self.view)
        if plot is None:
            return Text("\n" * (height - 1))
        title = Text(no_wrap=True)
        if width >= 38:
            title.append("loss, nats   ", style="dim")
        title.append("● training  ", style=TRAIN)
        title.append("● validation", style=VAL)
        if self.view.earlier:
            title.append("  ● earlier", style=EARLIER)
        title.truncate(width)
        drawn = chart(
            plot.series,
            width,
            height - 1,
            x_limits=plot.x_limits,
            y_limits=plot.y_limits,
            x_ticks=[
                tick
                for tick in round_ticks(*plot.x_limits, max(2, width // 14))
                if tick == int(tick)
            ],
            y_ticks=round_ticks(*plot.y_limits, max(2, height // 3)),
            color=self.console.color_system is not None,
        )
        title.append("\n")
        return title.append_text(drawn)

    def _gates(self, width: int) -> list[Text]:
        evaluated = self.view.evaluated
        if evaluated is None or not evaluated.gates:
            return []
        when = f"step {evaluated.step:,}" if evaluated.step else "before training"
        below, above = f", below {LEFT_SATURATED:g}", f", above {RIGHT_SATURATED:g}"
        # With little width the meanings of the signs are dropped last.
        words = f"gates on held-out text, {when}   " if width >= 80 else "gates   " * (width >= 30)
        title = Text(words, style="dim", no_wrap=True)
        title.append(f"{SHUT_CELL} shut{below if width >= 50 else ''}   ", style=SHUT)
        title.append(f"{OPEN_CELL} open{above if width >= 50 else ''}", style=OPEN)
        title.truncate(width)
        lines = [title]
        for layer in sorted({gate.layer for gate in evaluated.gates}):
            mine = [gate for gate in evaluated.gates if gate.layer == layer]
            names = max(len(gate.gate) for gate in mine) if width >= 60 else 1
            room = (width - 3) // len(mine) - names - 3
            line = Text(f"{layer + 1:>2} ", style="dim", no_wrap=True)
            for gate in mine:
                line.append(f"{gate.gate[:names]:<{names}} ", style="dim")
                line.append_text(saturation_bar(gate.left, gate.right, max(3, room)))
                line.append("  ")
            line.truncate(width)
            lines.append(line)
        return lines

    def _sample_lines(self, width: int, height: int) -> list[Text]:
        text, step = self._sample()
        title = Text(no_wrap=True)
        title.append("sample", style="bold")
        title.append(f"   weights of step {step:,}, temperature 0.8", style="dim")
        title.truncate(width, overflow="ellipsis")
        lines: list[str] = []
        for paragraph in self._printable(text, keep="\n\t").expandtabs(4).split("\n"):
            lines += wrapped(paragraph, max(1, width - 2))
        shown = lines[-height:]
        shown += [""] * (height - len(shown))
        return [title, *(Text(" " + line, no_wrap=True) for line in shown)]

    def _printable(self, text: str, keep: str = "") -> str:
        return with_signs(printable(text, keep), self.console.encoding)

    def _footer(self, width: int) -> Text:
        finished = self.view.finished
        if self.view.notice:
            line = Text(self._printable(self.view.notice), style="bold")
        elif finished is not None:
            line = Text("", style="dim")
        else:
            line = Text("Ctrl-C stops and saves", style="dim")
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
        return line


_ENDINGS = {
    "budget": "done",
    "patience": "early stop: no improvement",
    "stopped": "stopped",
    "diverged": "training diverged",
}


def wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a paragraph, wrapped at spaces if possible, that no terminal wraps again.

    Rich measures an emoji of several joined characters (a family, a flag) as one. Some terminals
    draw its characters separately; a line that is then too long shifts everything below it. So the
    width of a line here is the sum of the widths of its characters.
    """
    start, used, space = 0, 0, -1
    for end, character in enumerate(text):
        cells = _cells(character)
        while used + cells > width and end > start:
            cut = end if character == " " or space <= start else space
            joined = cut
            while joined > start and (text[joined - 1] == JOINER or not _cells(text[joined])):
                joined -= 1
            if joined > start and sum(map(_cells, text[joined:end])) + cells <= width:
                cut = joined  # keep together what a terminal may join
            yield text[start:cut]
            start = cut + (text[cut] == " ")
            used = sum(map(_cells, text[start:end]))
        if character == " ":
            space = end
        if end >= start:
            used += cells
    yield text[start:]


def _cells(character: str) -> int:
    return 1 if character == EMOJI_STYLE else cell_len(character)
