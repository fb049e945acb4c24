"""Show a run while it trains: a panel in a terminal, an output in a notebook, lines elsewhere."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from charlstm.events import Event
    from charlstm.training.trainer import Trainer


AroundPanel = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""A context for the time that a panel is shown, from the panel's ``draw_below``."""


def _nothing(draw_below: Callable[[], None]) -> AbstractContextManager[None]:
    return nullcontext()


class RunDisplay:
    """Shows a run's events: on a panel, in a notebook's output, or as lines on stderr."""

    def __init__(
        self, trainer: "Trainer", *, plain: bool = False, around_panel: AroundPanel = _nothing
    ) -> None:
        """``plain`` shows lines everywhere. Each generation may have a panel, or none."""
        self._plain, self._around_panel = plain, around_panel
        self._shown = ExitStack()
        self.follow(trainer)

    def follow(self, trainer: "Trainer") -> None:
        """Show this run from now on: the next generation, below the one before."""
        from charlstm.generate.live_sample import LiveSample
        from charlstm.runs.catalogue import generations
        from charlstm.runs.metrics import read_lines
        from charlstm.runs.run import METRICS_FILE
        from charlstm.show.console import can_animate, in_kernel, stderr_console
        from charlstm.show.curves import replay
        from charlstm.show.live import LivePanel
        from charlstm.show.notebook import NotebookOutput
        from charlstm.show.plain import PlainLog
        from charlstm.training.processes import started_by_torchrun

        self._panel: LivePanel | None = None
        self._sample = LiveSample(trainer.model_file, trainer.run_file.train.seed)
        self._show: Callable[[Event], None]
        console = stderr_console()
        # A process of torchrun has a session of its own: Ctrl-Z and keys pass it by.
        plain = self._plain or started_by_torchrun()
        if plain or not (in_kernel() or can_animate(console)):
            self._show = PlainLog(sys.stderr).write
            self._follow: Callable[[Event], None] = lambda event: None
            return
        self._follow = self._grow
        shown: LivePanel | NotebookOutput
        if in_kernel():
            shown = NotebookOutput(self._written)
        else:
            shown = self._panel = LivePanel(console, self._written)
        self._show = shown.show
        *earlier, own = generations(trainer.folder)
        for run in earlier:
            shown.view.add_earlier(read_lines(run / METRICS_FILE))
        replay(shown.view, read_lines(own / METRICS_FILE))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._panel is not None:
                stack.enter_context(self._around_panel(self._panel.draw_below))
                stack.enter_context(self._panel)
            self._shown = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._shown.__exit__(*error)

    def show(self, event: "Event") -> None:
        """Show an event; neither a closed terminal nor a bug in drawing ends the run."""
        try:
            self._follow(event)
            self._show(event)
        except (OSError, ValueError):
            pass
        except Exception as error:
            print_note(f"the display is incomplete: {error!r}")

    def _written(self) -> tuple[str, int]:
        return self._sample.text, self._sample.step

    def _grow(self, event: "Event") -> None:
        from charlstm.events import RunFinished, StepDone

        if isinstance(event, StepDone):
            self._sample.grow(event.step)
        if isinstance(event, RunFinished):
            self._sample.finish(event.step)


def print_note(message: str) -> None:
    """Print a note to stderr, or in a notebook to the cell's output."""
    from charlstm.show.console import in_kernel
    from charlstm.show.printable import printable

    with suppress(OSError, ValueError):  # the terminal was closed; the work continues
        stream = sys.stdout if in_kernel() else sys.stderr  # a notebook shows stderr as an error
        stream.write(printable(message, keep="") + "\n")
        stream.flush()
