"""A run as TensorBoard's event files: losses and speed, gates, samples as text.

A run may take steps twice: after a kill, from an older checkpoint, after it diverged. TensorBoard
then shows the last of them only, because each new file begins by purging what it repeats.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError, UsageError
from charlstm.events import Evaluated, Event, RolledBack, StepDone
from charlstm.runs.metrics import event_from_dict, read_lines
from charlstm.runs.run import METRICS_FILE

EVENT_FILES = "events.out.tfevents.*"
_OWN = re.compile(r".*\.[0-9]{19}")


def is_own(path: Path) -> bool:
    """Whether an event file is one of charlstm's: its name ends with a time in nanoseconds."""
    return _OWN.fullmatch(path.name) is not None and path.is_file()


def writer_class() -> Any:
    """tensorboardX's ``SummaryWriter``; raises ``CharlstmError`` if the package is missing."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise CharlstmError(
            "TensorBoard's files are written by the package tensorboardX, which is missing",
            "install it: pip install 'charlstm[tensorboard]'",
        ) from None
    return SummaryWriter


class TensorBoardLog:
    """Writes a run's events to a folder that ``tensorboard --logdir`` reads.

    Raises:
        CharlstmError: the package tensorboardX is missing.
        UsageError: nothing can be written there.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        """``step`` is where the run stands: what the folder has of later steps is superseded."""
        self._class = writer_class()
        # After --tensorboard=, shells leave a ~ as it is; a folder of that name is dangerous.
        self._folder = folder = Path(os.path.expanduser(folder))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} is not a folder to write to", "choose another") from error
        self._writer: Any = self._opened(step)

    def drop_after(self, step: int) -> None:
        """Supersede what was written after ``step``."""
        self._writer.close()
        self._writer = self._opened(step)

    def _opened(self, step: int) -> Any:
        """A writer that purges what follows ``step``, and everything at 0."""
        # TensorBoard reads files in the order of their names, which otherwise end with the second.
        suffix = f".{time.time_ns()}"
        purged = step + 1 if step else 0
        return self._class(str(self._folder), purge_step=purged, filename_suffix=suffix)

    def write(self, event: Event) -> None:
        """Write the numbers of an event at its step."""
        if isinstance(event, StepDone):
            self._scalar("loss/training", event.loss, event)
            self._scalar("learning_rate", event.learning_rate, event)
            self._scalar("gradient_norm", event.gradient_norm, event)
            self._scalar("characters_per_second", event.chars_per_second, event)
        elif isinstance(event, Evaluated):
            self._scalar("loss/validation", event.val_loss, event)
            for gate in event.gates:
                name = f"layer_{gate.layer + 1}_{gate.gate}"
                self._scalar(f"gates_shut/{name}", gate.left, event)
                self._scalar(f"gates_open/{name}", gate.right, event)
                self._scalar(f"gates_mean/{name}", gate.mean, event)
        elif isinstance(event, RolledBack):
            self.drop_after(event.to_step)

    def write_sample(self, step: int, text: str) -> None:
        """Write a sample; TensorBoard reads Markdown, in which indented lines are no markup."""
        lines = "\n".join(f"    {line}" for line in text.splitlines())
        self._writer.add_text("sample", lines, step)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()

    def _scalar(self, name: str, value: float, event: StepDone | Evaluated) -> None:
        self._writer.add_scalar(name, value, event.step)


def write_run(run: Path, log: TensorBoardLog) -> None:
    """Write the content of a run's ``metrics.jsonl``."""
    for line in read_lines(run / METRICS_FILE):
        if line.get("event") == "rolled_back" and isinstance(line.get("to_step"), int):
            log.drop_after(line["to_step"])
        event = event_from_dict(line)
        if event is not None:
            log.write(event)
