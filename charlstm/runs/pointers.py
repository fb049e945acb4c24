"""Which checkpoints a run has: the best, the last and those kept, in ``checkpoints.json``."""

import datetime
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.runs import checkpoint
from charlstm.runs.lock import check_lock
from charlstm.runs.run import RUN_FILE, RunFile, read_run_file

POINTER_FILE = "checkpoints.json"
YEAR_10000 = 253402300800.0
"""Seconds since the epoch; no run was saved later."""


@dataclass(frozen=True)
class Pointers:
    """Names of a run's checkpoints; ``kept`` is in the order of writing."""

    best: str | None = None
    last: str | None = None
    kept: tuple[str, ...] = ()
    saved: float | None = None
    """When the last one was saved, in seconds since 1970; None in runs of version 0.1."""


def read_pointers(run: Path) -> Pointers:
    """The run's checkpoints, from ``checkpoints.json`` or, if that is damaged, from its folder."""
    return _recorded(run) or _found(run)


def _recorded(run: Path) -> Pointers | None:
    """The content of ``checkpoints.json``, or None if it cannot be read."""
    try:
        value = files.read_json(run / POINTER_FILE, "")
        kept = tuple(name for name in value["kept"] if _is_checkpoint_name(name))
        best, last = value["best"], value["last"]
        if (best in kept or best is None) and (last in kept or last is None):
            return Pointers(best, last, kept, _time(value.get("saved")))
    except (CharlstmError, KeyError, TypeError):
        pass
    return None


def _later_than_all(run: Path) -> float:
    """The time, or a moment after the last save of any run next to this one.

    A clock that was set back would make a run older than those that were saved before it.
    """
    runs = (path.parent for path in run.parent.glob(f"*/{POINTER_FILE}"))
    saved = (pointers.saved or 0.0 for other in runs if (pointers := _recorded(other)))
    return max(time.time(), math.nextafter(max(saved, default=0.0), math.inf))


def _time(value: object) -> float | None:
    usable = type(value) in (int, float) and 0 <= value < YEAR_10000  # type: ignore[operator]
    return float(value) if usable else None  # type: ignore[arg-type]


def _found(run: Path) -> Pointers:
    """The complete checkpoints in the folder."""
    kept = tuple(p.name for p in named_as_checkpoints(run) if (p / checkpoint.MANIFEST).is_file())
    if not kept:
        return Pointers()
    try:
        content = read_run_file(run)
    except CharlstmError:
        content = None
    best_step = best_validation(content, checkpoint.read_training(run / kept[-1]))[0]
    best = [name for name in kept if _position(name)[0] == best_step]
    return Pointers((best or kept)[-1], kept[-1], kept)


def best_validation(
    run: RunFile | None, training: Mapping[str, Any]
) -> tuple[int | None, float | None]:
    """Step and loss (nats per character) of a run's best validation; None and None without one.

    ``training`` is what a checkpoint records. Step 0 counts only if the run started from trained
    weights.
    """
    step, loss = training.get("best_step"), training.get("best_loss")
    if not files.is_count(step):
        return None, None
    if type(loss) is not float or not 0 <= loss < math.inf:
        return step or None, None
    begun_trained = run is not None and run.init_from is not None
    return (step, loss) if step or begun_trained else (None, None)


def named_as_checkpoints(run: Path) -> list[Path]:
    """Folders named like checkpoints, by step."""
    found = [p for p in run.glob("step-*") if _is_checkpoint_name(p.name) and p.is_dir()]
    return sorted(found, key=lambda path: _position(path.name))


def _is_checkpoint_name(name: object) -> bool:
    return isinstance(name, str) and _CHECKPOINT_NAME.fullmatch(name) is not None


_CHECKPOINT_NAME = re.compile(r"step-([0-9]{1,18})(?:-([0-9]{1,18}))?")


def _position(name: str) -> tuple[int, int]:
    """Step and number in a checkpoint's name, which sort in the order of writing."""
    match = _CHECKPOINT_NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def _without(pointers: Pointers, name: str) -> Pointers:
    """``pointers`` without a checkpoint: those of ``_found`` include the one just written."""
    if name not in pointers.kept:
        return pointers
    kept = tuple(other for other in pointers.kept if other != name)
    last = kept[-1] if kept else None
    best = last if pointers.best == name else pointers.best
    return replace(pointers, best=best, last=last, kept=kept)


def add_checkpoint(
    run: Path, saved: Path, *, best: bool, keep: int, rollback: str | None = None
) -> Pointers:
    """Record a new checkpoint and delete those that are no longer needed.

    ``rollback`` names one to keep as well: a run that diverges goes back to it.

    Only checkpoints that the run has recorded are deleted. The user's copies and notes stay; if
    ``checkpoints.json`` could not be read, everything stays.

    Raises:
        CharlstmError: the run's lock was deleted, so another process may be training it.
    """
    check_lock(run)
    recorded = _recorded(run)
    old = _without(recorded or _found(run), saved.name)
    pointers = replace(old, last=saved.name, best=saved.name if best else old.best)
    latest = [*old.kept, saved.name][-keep:]
    kept = [n for n in (*old.kept, saved.name) if n in latest or n in (pointers.best, rollback)]
    pointers = replace(pointers, kept=tuple(kept), saved=_later_than_all(run))
    dropped = [run / n for n in recorded.kept if n not in pointers.kept] if recorded else []
    for path in dropped:
        with suppress(OSError):  # mark first: the process may be killed before they are deleted
            checkpoint.mark_unrecorded(path)
            files.sync_folder(path)
    files.replace_file(run / POINTER_FILE, files.to_json(asdict(pointers)))
    for path in dropped:
        checkpoint.delete_checkpoint(path)
    for name in pointers.kept:
        with suppress(OSError):
            (run / name / checkpoint.UNRECORDED).unlink()
    sweep(run)
    return pointers


def unfinished(run: Path) -> list[Path]:
    """Leftovers of a killed process: half-written files, and checkpoints it did not record."""
    kept = read_pointers(run).kept
    unrecorded = [
        path
        for path in named_as_checkpoints(run)
        if path.name not in kept and (path / checkpoint.UNRECORDED).is_file()
    ]
    return [*files.leftovers(run), *unrecorded]


def sweep(run: Path) -> None:
    """Delete what is ``unfinished``; the caller holds the run's lock."""
    for path in unfinished(run):
        delete_part(path)


def delete_part(path: Path) -> None:
    """Delete a checkpoint, or a file or folder with a name that only charlstm uses."""
    if _is_checkpoint_name(path.name):
        checkpoint.delete_checkpoint(path)
    else:
        files.remove(path)


def resume_order(run: Path) -> Iterator[Path]:
    """The checkpoints to resume from, last one first."""
    pointers = read_pointers(run)
    names = [*pointers.kept]
    if pointers.last in names:
        names.remove(pointers.last)
        names.append(pointers.last)
    for name in reversed(names):
        yield run / name


def last_written(run: Path) -> float:
    """When the run last saved a checkpoint, or was created; in seconds since 1970.

    The time that the run recorded comes first, because a copy of its folder keeps it; the
    modification times of its files are the fallback.
    """
    saved = read_pointers(run).saved
    if saved is not None:
        return saved
    with suppress(OSError):
        return (run / POINTER_FILE).stat().st_mtime
    with suppress(CharlstmError, ValueError, OverflowError, OSError):
        return datetime.datetime.fromisoformat(read_run_file(run).created).timestamp()
    with suppress(OSError):
        return (run / RUN_FILE).stat().st_mtime
    return 0.0
