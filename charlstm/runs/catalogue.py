"""The runs there are: found by name, summed up, and what of them is superfluous."""

import difflib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from charlstm.errors import CharlstmError
from charlstm.runs import checkpoint
from charlstm.runs.checkpoint import read_training
from charlstm.runs.run import POINTER_FILE, ROOT, RUN_FILE, read_pointers, read_run_file, safe_name
from charlstm.text.sources import corpus_name


def list_runs(root: Path = ROOT) -> list[Path]:
    """All runs below ``root``, the most recently written first."""
    if not root.is_dir():
        return []
    runs = [p for p in root.iterdir() if (p / RUN_FILE).is_file() and not p.name.startswith(".")]
    return sorted(runs, key=last_written, reverse=True)


def last_written(run: Path) -> float:
    """When the run last saved a checkpoint, or was made; seconds since the epoch."""
    for name in (POINTER_FILE, RUN_FILE):
        try:
            return (run / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def find_run(name: str | None, root: Path = ROOT, *, inside: bool = False) -> Path:
    """The run called ``name``: a folder, a name below ``root``, or the newest run for None.

    A name is found as it was given, too: that of märchen.txt is marchen.

    With ``inside``, a checkpoint's folder means the run that it is in.
    """
    if name is None:
        runs = list_runs(root)
        if not runs:
            raise CharlstmError(
                f"there is no run under {root}/ yet", "make one: charlstm train YOUR.txt"
            )
        return runs[0]
    for path in (Path(name), root / name, root / _as_run(name)):
        if _has_file(path, RUN_FILE) or _has_file(path, POINTER_FILE):
            return path
        if inside and _has_file(path, checkpoint.MANIFEST) and _has_file(path.parent, RUN_FILE):
            return path.parent
    known = [run.name for run in list_runs(root)]
    if close := difflib.get_close_matches(name, known, 1):
        remedy = f"did you mean {close[0]}?"
    elif known:
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        remedy = f"runs under {root}/: {', '.join(known[:5])}{more}"
    else:
        remedy = "see charlstm runs"
    raise CharlstmError(f"there is no run {name!r}", remedy)


def is_run(name: str, root: Path = ROOT) -> bool:
    """Whether a run's folder is at ``name``, or below ``root`` by that name."""
    return any(_has_file(path, RUN_FILE) for path in (Path(name), root / name))


def _as_run(name: str) -> str:
    """What a run made for ``name`` is called, where that still says something."""
    safe = safe_name(name)
    return name if safe == safe_name("") else safe


def _has_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # a name too long for a file, or with a NUL in it
        return False


def find_checkpoint(name: str | None, root: Path = ROOT) -> Path:
    """The checkpoint that ``name`` means: a checkpoint's folder, or the best one of a run.

    Raises:
        CharlstmError: there is none; the message says what there is.
    """
    if name is not None:
        for path in (Path(name), root / name):
            if _has_file(path, checkpoint.MANIFEST):
                return path
    if name is None:
        for run in list_runs(root):
            if best := read_pointers(run).best:
                return run / best
    run = find_run(name, root)
    pointers = read_pointers(run)
    if pointers.best is None:
        raise CharlstmError(
            f"the run {run} has no checkpoint yet",
            f"wait for its first, or go on with it: charlstm train --resume -c {run}",
        )
    return run / pointers.best


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
        content = read_run_file(run)
    except CharlstmError as error:
        return RunSummary(run.name, str(run), disk_bytes=disk, problem=error.message)
    last = read_pointers(run).last
    training = {} if last is None else read_training(run / last)
    best_step = _number(training.get("best_step"), int)
    return RunSummary(
        name=run.name,
        path=str(run),
        model=content.model.describe(),
        parameters=content.model.parameters,
        corpus=corpus_name(content.source),
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
    pointers = read_pointers(run)
    needed = {pointers.best, pointers.last}
    return [
        path
        for path in sorted([*run.glob("step-*"), *run.glob(".writing-*")])
        if path.name not in needed
    ]
