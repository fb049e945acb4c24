"""A run as TensorBoard's event files: losses and speed, gates, samples as text."""

from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError, UsageError
from charlstm.events import Evaluated, Event, StepDone
from charlstm.runs.metrics import event_from_dict, read_lines
from charlstm.runs.run import METRICS_FILE

EVENT_FILES = "events.out.tfevents.*"


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
        """What the folder has of ``step`` and later is superseded: a resumed run repeats it."""
        writer = writer_class()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} is no folder to write in", "name another") from error
        self._writer: Any = writer(str(folder), purge_step=step or None)

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

    def write_sample(self, step: int, text: str) -> None:
        """Write a sample; TensorBoard reads Markdown, in which indented lines are no markup."""
        lines = "\n".join(f"    {line}" for line in text.splitlines())
        self._writer.add_text("sample", lines, step)

    def close(self) -> None:
        """See everything onto the disk."""
        self._writer.close()

    def _scalar(self, name: str, value: float, event: StepDone | Evaluated) -> None:
        self._writer.add_scalar(name, value, event.step)


def write_run(run: Path, log: TensorBoardLog) -> None:
    """Write what the ``metrics.jsonl`` of a run has."""
    for line in read_lines(run / METRICS_FILE):
        event = event_from_dict(line)
        if event is not None:
            log.write(event)
