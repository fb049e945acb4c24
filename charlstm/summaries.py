"""What ``charlstm runs`` tells of a run, and what it can free."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from charlstm import runs
from charlstm.checkpoint import read_training
from charlstm.errors import CharlstmError
from charlstm.lookup import last_written
from charlstm.texts import corpus_name

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class RunSummary:
    """One row of the table; ``problem`` says why the rest could not be read."""

    name: str
    path: str
    model: str = ""
    parameters: int = 0
    corpus: str = ""
    characters: int = 0
    step: int = 0
    total_steps: int | None = None
    best_loss: float | None = None
    """Nats per character, averaged weights, stateful, as measured during training; None if only
    the untrained net was validated."""
    best_step: int | None = None
    age_seconds: float = 0.0
    """Since the last checkpoint, or since the run was made."""
    disk_bytes: int = 0
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm runs --json``."""
        return asdict(self)


def summarise(run: Path) -> RunSummary:
    """Read a run's small files; a run that cannot be read gets a ``problem``, not an error."""
    disk = disk_bytes(run)
    try:
        content = runs.read_run_file(run)
    except CharlstmError as error:
        return RunSummary(run.name, str(run), disk_bytes=disk, problem=error.message)
    last = runs.read_pointers(run).last
    training = {} if last is None else read_training(run / last)
    best_step = _number(training.get("best_step"), int)
    return RunSummary(
        name=run.name,
        path=str(run),
        model=content.model.describe(),
        parameters=content.model.parameters,
        corpus=corpus_name(content.reading),
        characters=content.characters,
        step=_number(training.get("step"), int) or 0,
        total_steps=content.budget.total_steps,
        best_loss=_number(training.get("best_loss"), float) if best_step else None,
        best_step=best_step or None,
        age_seconds=time.time() - last_written(run),
        disk_bytes=disk,
    )


def _number(value: object, kind: type[Number]) -> Number | None:
    return value if type(value) is kind and 0 <= value < 1 << 63 else None


def disk_bytes(folder: Path) -> int:
    """What the files below ``folder`` take."""
    return sum(size for _, size in _files(folder))


def _files(folder: Path) -> list[tuple[Path, int]]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                found.append((path, path.stat().st_size))
        except OSError:
            continue
    return found


def superfluous(run: Path) -> list[Path]:
    """Checkpoints that are neither the best nor the last, and what a killed save left."""
    pointers = runs.read_pointers(run)
    needed = {pointers.best, pointers.last}
    return [
        path
        for path in sorted([*run.glob("step-*"), *run.glob(".writing-*")])
        if path.name not in needed
    ]
