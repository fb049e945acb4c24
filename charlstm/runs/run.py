"""Runs: folders below ``checkpoints/`` with their configuration, metrics and checkpoints.

checkpoints/NAME/
  run.json            settings, corpus, budget; written before the first step
  metrics.jsonl       one event a line
  checkpoints.json    which checkpoints are best, last and kept; replaced in one step
  step-00000200/ …    checkpoints, see ``checkpoint``
  teacher/            the model of another run that this one learns from, if there is one
  lock                held by the process that trains
"""

import datetime
import math
import os
import re
import shlex
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from charlstm import files
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.net.model_config import ModelConfig
from charlstm.runs import checkpoint
from charlstm.text.sources import TextSource

ROOT = files.RUNS_FOLDER
RUN_FILE, METRICS_FILE, POINTER_FILE = "run.json", "metrics.jsonl", "checkpoints.json"
TEACHER, LOCK_FILE = "teacher", "lock"
RUN_FORMAT = 1
YEAR_10000 = 253402300800.0
"""Seconds since the epoch; no run was saved later."""


@dataclass(frozen=True)
class Budget:
    """How many steps a run takes in all, and at which step that became known.

    A budget in minutes depends on the speed that was measured in the first seconds; a run that is
    repeated from its start repeats that too.
    """

    total_steps: int | None = None
    known_at: int = 0


@dataclass(frozen=True)
class RunFile:
    """``run.json``: everything needed to begin the run again from nothing."""

    model: ModelConfig
    train: TrainConfig
    source: TextSource
    digest: str
    """Of the corpus."""
    characters: int
    created: str
    budget: Budget = Budget()
    init_from: str | None = None
    """The checkpoint whose weights the run began with."""
    teacher: str | None = None
    """The checkpoint that the run learns from, too; the run has a copy of its model."""


@dataclass(frozen=True)
class Pointers:
    """Names of a run's checkpoints; ``kept`` in the order they were written."""

    best: str | None = None
    last: str | None = None
    kept: tuple[str, ...] = ()
    saved: float | None = None
    """When the last one was saved, in seconds since the epoch; None in runs of version 0.1."""


def safe_name(name: str) -> str:
    """A run's name from any text: ASCII letters without accents, digits, dot, dash, underscore."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    cleaned = re.sub(r"[^\w.-]+", "-", plain, flags=re.ASCII).strip(".-_")
    return cleaned[:60] or "run"


def create_run(
    root: Path, name: str, run: RunFile, teacher: checkpoint.ModelFile | None = None
) -> Path:
    """Make the folder of a new run, ``name`` or ``name-2`` …; nothing is ever overwritten.

    The run keeps ``teacher``: whatever becomes of the run that it is from, this one can go on.

    Raises:
        CharlstmError: there is no room or no permission for it.
    """
    try:
        return _create_run(root, name, run, teacher)
    except OSError as error:
        raise CharlstmError(
            f"no run can be made in {root}: {reason_of(error)}",
            "put that right, or work in another folder",
        ) from None


def _create_run(root: Path, name: str, run: RunFile, teacher: checkpoint.ModelFile | None) -> Path:
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        files.sync_folder(root.parent)
    name = safe_name(name)
    for left in files.abandoned(root):
        files.remove(left)
    work = files.make_work_folder(root)
    try:
        if teacher is not None:
            checkpoint.write_model(work / TEACHER, teacher)
        write_run_file(work, run)  # the folder is synced with it
        number = 1
        while True:
            target = root / (name if number == 1 else f"{name}-{number}")
            number += 1
            if os.path.lexists(target):  # a dangling link takes a name, too
                continue
            try:
                os.rename(work, target)
            except OSError:
                if os.path.lexists(target):  # another process took the name in between
                    continue
                raise
            files.sync_folder(root)
            return target
    except BaseException:
        files.remove(work)
        raise


def write_run_file(run: Path, content: RunFile) -> None:
    """Put ``run.json`` in place in one step.

    Raises:
        CharlstmError: the run's lock was deleted, so another process may have taken the run.
    """
    _check_lock(run)
    value = {
        "format": RUN_FORMAT,
        "created": content.created,
        "model": content.model.to_dict(),
        "train": content.train.to_dict(),
        "corpus": {
            "sources": list(content.source.paths),
            "encoding": content.source.encoding,
            "bytes": content.source.as_bytes,
            "digest": content.digest,
            "characters": content.characters,
        },
        "budget": {
            "total_steps": content.budget.total_steps,
            "known_at": content.budget.known_at,
        },
        "init_from": content.init_from,
        "teacher": content.teacher,
    }
    files.replace_file(run / RUN_FILE, files.to_json(value))


def read_run_file(run: Path) -> RunFile:
    """Read ``run.json``.

    Raises:
        CharlstmError: it is missing, damaged, or from a later version.
    """
    path, remedy = run / RUN_FILE, "no checkpoint is in that folder: start a new run"
    if any((saved / checkpoint.MANIFEST).is_file() for saved in named_as_checkpoints(run)):
        remedy = f"start a new run from its weights: `init_from` {shlex.quote(str(run))}"
    value = files.read_json(path, remedy)
    files.check_format(value.get("format"), RUN_FORMAT, path, remedy)
    try:
        corpus, budget = value["corpus"], value["budget"]
        sources, init_from = corpus["sources"], value["init_from"]
        teacher = value.get("teacher")  # the first runs have none
        texts = [corpus["encoding"], corpus["digest"], value["created"], *sources]
        if not isinstance(sources, list) or not isinstance(init_from, str | None):
            raise TypeError
        if not isinstance(teacher, str | None):
            raise TypeError
        if not sources or not all(isinstance(text, str) for text in texts):
            raise TypeError
        characters, total = corpus["characters"], budget["total_steps"]
        counts = [characters, budget["known_at"], *([] if total is None else [total])]
        if not all(map(files.is_count, counts)):
            raise TypeError
        return RunFile(
            model=ModelConfig.from_dict(value["model"], str(path)),
            train=TrainConfig.from_dict(value["train"], str(path)),
            source=TextSource(tuple(sources), corpus["encoding"], bool(corpus["bytes"])),
            digest=corpus["digest"],
            characters=characters,
            created=value["created"],
            budget=Budget(total, budget["known_at"]),
            init_from=init_from,
            teacher=teacher,
        )
    except (KeyError, TypeError, ValueError):
        raise CharlstmError(f"{path} is damaged", remedy) from None


def now() -> str:
    """The time for ``created``: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def last_written(run: Path) -> float:
    """When the run last saved a checkpoint, or was made; seconds since the epoch.

    The time is one that the run recorded, which a copy of its folder keeps. Where it recorded
    none, the file of the pointers or of the settings has one.
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


# -- checkpoints of a run ----------------------------------------------------------------------


def read_pointers(run: Path) -> Pointers:
    """The run's checkpoints; found by looking if ``checkpoints.json`` cannot be read."""
    return _recorded(run) or _found(run)


def _recorded(run: Path) -> Pointers | None:
    """What ``checkpoints.json`` says, if it can be read."""
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
    """The complete checkpoints that are in the folder."""
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

    ``training`` is what a checkpoint records. An untrained model, of step 0, is the best of
    nothing; a run may begin with trained weights, and then step 0 counts.
    """
    step, loss = training.get("best_step"), training.get("best_loss")
    if not files.is_count(step):
        return None, None
    if type(loss) is not float or not 0 <= loss < math.inf:
        return step or None, None
    begun_trained = run is not None and run.init_from is not None
    return (step, loss) if step or begun_trained else (None, None)


def named_as_checkpoints(run: Path) -> list[Path]:
    """Folders with names as charlstm gives them to checkpoints, by step."""
    found = [p for p in run.glob("step-*") if _is_checkpoint_name(p.name) and p.is_dir()]
    return sorted(found, key=lambda path: _position(path.name))


def _is_checkpoint_name(name: object) -> bool:
    return isinstance(name, str) and _CHECKPOINT_NAME.fullmatch(name) is not None


_CHECKPOINT_NAME = re.compile(r"step-([0-9]{1,18})(?:-([0-9]{1,18}))?")


def _position(name: str) -> tuple[int, int]:
    """Step and number of a checkpoint's name, in the order in which they were written."""
    match = _CHECKPOINT_NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)


def _without(pointers: Pointers, name: str) -> Pointers:
    """Where the pointers were found by looking, the checkpoint just written is among them."""
    if name not in pointers.kept:
        return pointers
    kept = tuple(other for other in pointers.kept if other != name)
    last = kept[-1] if kept else None
    best = last if pointers.best == name else pointers.best
    return replace(pointers, best=best, last=last, kept=kept)


def add_checkpoint(
    run: Path, saved: Path, *, best: bool, keep: int, rollback: str | None = None
) -> Pointers:
    """Point to a new checkpoint and delete those that nothing points to any more.

    ``rollback`` names one that stays too: a run that diverges after this one goes back to it.

    Only what the run itself has recorded is deleted: copies and notes of the user stay, and where
    ``checkpoints.json`` could not be read, all that is there.

    Raises:
        CharlstmError: the run's lock was deleted, so another process may have taken the run.
    """
    _check_lock(run)
    recorded = _recorded(run)
    old = _without(recorded or _found(run), saved.name)
    pointers = replace(old, last=saved.name, best=saved.name if best else old.best)
    latest = [*old.kept, saved.name][-keep:]
    kept = [n for n in (*old.kept, saved.name) if n in latest or n in (pointers.best, rollback)]
    pointers = replace(pointers, kept=tuple(kept), saved=_later_than_all(run))
    dropped = [run / n for n in recorded.kept if n not in pointers.kept] if recorded else []
    for path in dropped:
        with suppress(OSError):  # marked first: a kill may come right after the pointers
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
    """What a killed process left: half-written files, and checkpoints it did not record."""
    kept = read_pointers(run).kept
    unrecorded = [
        path
        for path in named_as_checkpoints(run)
        if path.name not in kept and (path / checkpoint.UNRECORDED).is_file()
    ]
    return [*files.leftovers(run), *unrecorded]


def sweep(run: Path) -> None:
    """Delete what is ``unfinished``; for whoever holds the run's lock."""
    for path in unfinished(run):
        delete_part(path)


def delete_part(path: Path) -> None:
    """Delete a checkpoint, or a file or folder that only charlstm can have named."""
    if _is_checkpoint_name(path.name):
        checkpoint.delete_checkpoint(path)
    else:
        files.remove(path)


def resume_order(run: Path) -> Iterator[Path]:
    """The checkpoints to resume from, the last one first, then the ones before it."""
    pointers = read_pointers(run)
    names = [*pointers.kept]
    if pointers.last in names:
        names.remove(pointers.last)
        names.append(pointers.last)
    for name in reversed(names):
        yield run / name


_held: dict[str, files.Lock] = {}
"""The locks of this process, by the real path of their runs."""


@contextmanager
def lock(run: Path) -> Iterator[str]:
    """Hold a run for training. The system lets go of the lock when the process ends.

    Yields why there is no lock, on a file system that has none; else an empty string.

    Raises:
        UsageError: another process trains into the run.
        CharlstmError: its lock file cannot be opened.
    """
    key = os.path.realpath(run)
    try:
        if key in _held:
            raise files.Locked
        held = _held[key] = files.Lock(run / LOCK_FILE)
    except files.Locked:
        raise UsageError(
            f"another process is training into {run}", "wait for it, or start a new run"
        ) from None
    except OSError as error:
        raise CharlstmError(
            f"{run / LOCK_FILE} cannot be opened: {reason_of(error)}",
            "put that right, or copy the folder without that file and use the copy",
        ) from None
    try:
        yield (
            f"the file system of {run} has no locks ({held.problem}): nothing keeps a second "
            "process from training into the run"
            if held.problem
            else ""
        )
    finally:
        del _held[key]
        held.release()


def _check_lock(run: Path) -> None:
    held = _held.get(os.path.realpath(run))
    if held is not None and held.is_lost():
        raise CharlstmError(
            f"{held.path} was deleted or replaced: another process may be training into the run",
            "make sure that none does, then resume the run from its last checkpoint",
        )
