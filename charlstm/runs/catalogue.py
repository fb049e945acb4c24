"""The runs there are: found by name and summed up, and the texts that they learn from."""

import difflib
import os
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from charlstm.errors import CharlstmError
from charlstm.files import disk_bytes
from charlstm.runs import checkpoint
from charlstm.runs.checkpoint import read_training
from charlstm.runs.run import (
    POINTER_FILE,
    ROOT,
    RUN_FILE,
    RunFile,
    read_pointers,
    read_run_file,
    safe_name,
)
from charlstm.text.corpus import Corpus, find_encoded, reopen_corpus


def list_runs(root: Path = ROOT) -> list[Path]:
    """All runs below ``root``, the most recently written first."""
    if not root.is_dir():
        return []
    runs = [p for p in root.iterdir() if _has_file(p, RUN_FILE) and not p.name.startswith(".")]
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
    """The run called ``name``: a name below ``root``, a folder, or the newest run for None.

    A name is found as it was given, too: that of märchen.txt is marchen. What has a separator in
    it, or is a dot, is a path first.

    With ``inside``, a checkpoint's folder means the run that it is in.
    """
    if name is None:
        runs = list_runs(root)
        if not runs:
            raise CharlstmError(
                f"there is no run under {root}/ yet", "make one: charlstm train YOUR.txt"
            )
        return runs[0]
    for path in _candidates(name, root):
        if _may_be_run(path):
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
    return any(_reads_as_run(path) for path in (root / name, Path(name)))


def _reads_as_run(path: Path) -> bool:
    try:
        return _has_file(path, RUN_FILE) and bool(read_run_file(path))
    except CharlstmError:
        return False


def _may_be_run(path: Path) -> bool:
    """A run one of whose files is lost or damaged is found, too, so that it can be told."""
    return _has_file(path, RUN_FILE) or _has_file(path, POINTER_FILE)


def _candidates(name: str, root: Path) -> tuple[Path, ...]:
    """Where the run or checkpoint called ``name`` may be, the first choice first."""
    below = root / name, root / _as_run(name)
    is_path = name in (os.curdir, os.pardir) or os.sep in name or (os.altsep or os.sep) in name
    return (Path(name), *below) if is_path else (*below, Path(name))


def _as_run(name: str) -> str:
    """What a run made for ``name`` is called, where that still says something."""
    safe = safe_name(name)
    return name if safe == safe_name("") else safe


def _has_file(folder: Path, name: str) -> bool:
    """Whether the file is there; in a folder that may not be searched it is taken to be."""
    try:
        return stat.S_ISREG((folder / name).stat().st_mode)
    except PermissionError:  # whoever reads it says so
        return True
    except (OSError, ValueError):  # a name too long for a file, or with a NUL in it
        return False


def find_checkpoint(name: str | None, root: Path = ROOT) -> Path:
    """The checkpoint that ``name`` means: a checkpoint's folder, or the best one of a run.

    Raises:
        CharlstmError: there is none; the message says what there is.
    """
    if name is not None:
        for path in _candidates(name, root):
            if _may_be_run(path):
                break
            if _has_file(path, checkpoint.MANIFEST):
                return path
    if name is None:
        for run in list_runs(root):
            if best := read_pointers(run).best:
                return run / best
    run = find_run(name, root)
    pointers = read_pointers(run)
    if pointers.best is None:
        read_run_file(run)  # which may be what is wrong
        raise CharlstmError(
            f"the run {run} has no checkpoint yet",
            f"wait for its first, or go on with it: charlstm train --resume -c {run}",
        )
    return run / pointers.best


def training_corpus(path: Path, *, read_again: bool = True) -> tuple[RunFile, Corpus]:
    """The run of the checkpoint at ``path``, and the text that it was trained on.

    The text is the one with the run's digest in the cache, whatever became of its files; if it is
    not there, and ``read_again``, what the files hold now, provided that it is the same.

    Raises:
        CharlstmError: the run or its text is gone, or the text has changed since.
    """
    run = read_run_file(path.parent)
    corpus = find_encoded(run.digest, run.source)
    if corpus is None and read_again:
        corpus = reopen_corpus(run.source, run.digest)
    if corpus is None or corpus.digest != run.digest:
        gone = "is no longer in the cache" if corpus is None else "has changed since"
        raise CharlstmError(f"the text that the model was trained on {gone}", "bring it back")
    return run, corpus


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
        corpus=content.source.name,
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
