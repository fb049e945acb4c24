"""Runs: folders in ``checkpoints/`` with their settings, metrics and checkpoints.

checkpoints/NAME/
  run.json            settings, corpus, budget; written before the first step
  metrics.jsonl       one event per line
  checkpoints.json    the best, last and kept checkpoints; replaced atomically
  step-00000200/ …    checkpoints, see ``checkpoint``
  teacher/            the model that this run distils from, if there is one
  lock                held by the training process
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
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from charlstm import files
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.net.model_config import ModelConfig
from charlstm.runs import checkpoint
from charlstm.runs.generation import Generation
from charlstm.text.sources import TextSource

ROOT = files.RUNS_FOLDER
RUN_FILE, METRICS_FILE, POINTER_FILE = "run.json", "metrics.jsonl", "checkpoints.json"
TEACHER, LOCK_FILE = "teacher", "lock"
RUN_FORMAT = 1
YEAR_10000 = 253402300800.0
"""Seconds since the epoch; no run was saved later."""


class Revision(NamedTuple):
    """From ``step`` on, the run is planned to end after ``total_steps``."""

    step: int
    total_steps: int


@dataclass(frozen=True)
class Budget:
    """The total steps of a run: the plans made so far, each with the step at which it was made.

    A budget in steps or epochs has one, made at step 0. A budget in minutes has the first when the
    speed has been measured, and another whenever the speed has changed. All are kept, because the
    learning rate of a step depends on the plans before it.
    """

    revisions: tuple[Revision, ...] = ()

    @property
    def total_steps(self) -> int | None:
        """The total steps of the latest plan; None before the first."""
        return self.revisions[-1].total_steps if self.revisions else None


@dataclass(frozen=True)
class RunFile:
    """``run.json``: everything needed to start the run from scratch."""

    model: ModelConfig
    train: TrainConfig
    source: TextSource
    digest: str
    """Digest of the corpus."""
    characters: int
    created: str
    budget: Budget = Budget()
    init_from: str | None = None
    """The checkpoint whose weights the run started from."""
    teacher: str | None = None
    """The checkpoint that the run distils from; the run has a copy of its model."""
    generation: Generation | None = None
    """Which generation of a chain of runs it is."""


@dataclass(frozen=True)
class Pointers:
    """Names of a run's checkpoints; ``kept`` is in the order of writing."""

    best: str | None = None
    last: str | None = None
    kept: tuple[str, ...] = ()
    saved: float | None = None
    """When the last one was saved, in seconds since 1970; None in runs of version 0.1."""


def safe_name(name: str) -> str:
    """A run's name from any text: ASCII letters, digits, dot, dash and underscore."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    cleaned = re.sub(r"[^\w.-]+", "-", plain, flags=re.ASCII).strip(".-_")
    return cleaned[:60] or "run"


def create_run(
    root: Path, name: str, run: RunFile, teacher: checkpoint.ModelFile | None = None
) -> Path:
    """Create the folder of a new run, ``name`` or ``name-2`` …; nothing is ever overwritten.

    The run keeps a copy of ``teacher``, so it does not depend on the teacher's run.

    Raises:
        CharlstmError: the folder cannot be created.
    """
    try:
        return _create_run(root, name, run, teacher)
    except OSError as error:
        taken = "a file or a broken link has that name"
        reason = taken if isinstance(error, FileExistsError) else reason_of(error)
        raise CharlstmError(
            f"cannot create a run in {root}: {reason}",
            "fix that, or work in another folder",
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
        run.source.withhold(work)  # a run has parts of the text
        if teacher is not None:
            checkpoint.write_model(work / TEACHER, teacher)
        write_run_file(work, run)  # this also syncs the folder
        number = 1
        while True:
            target = root / (name if number == 1 else f"{name}-{number}")
            number += 1
            if os.path.lexists(target):  # a dangling link also takes a name
                continue
            try:
                os.rename(work, target)
            except OSError:
                if os.path.lexists(target):  # another process just took the name
                    continue
                raise
            files.sync_folder(root)
            return target
    except BaseException:
        files.remove(work)
        raise


def write_run_file(run: Path, content: RunFile) -> None:
    """Write ``run.json`` atomically.

    Raises:
        CharlstmError: the run's lock was deleted, so another process may have taken the run.
    """
    check_lock(run)
    value = {
        "format": RUN_FORMAT,
        "created": content.created,
        "model": content.model.to_dict(),
        "train": content.train.to_dict(),
        "corpus": {
            "sources": list(content.source.paths),
            "encoding": content.source.encoding,
            "bytes": content.source.as_bytes,
            "separator": content.source.separator,
            "digest": content.digest,
            "characters": content.characters,
        },
        "budget": {
            "total_steps": content.budget.total_steps,
            "revisions": [list(revision) for revision in content.budget.revisions],
        },
        "init_from": content.init_from,
        "teacher": content.teacher,
        "generation": None if content.generation is None else content.generation.to_dict(),
    }
    files.replace_file(run / RUN_FILE, files.to_json(value))


def read_run_file(run: Path) -> RunFile:
    """Read ``run.json``.

    Raises:
        CharlstmError: it is missing, damaged, or from a newer version.
    """
    path, remedy = run / RUN_FILE, "no checkpoint is in that folder: start a new run"
    if any((saved / checkpoint.MANIFEST).is_file() for saved in named_as_checkpoints(run)):
        remedy = f"start a new run from its weights: `init_from` {shlex.quote(str(run))}"
    value = files.read_json(path, remedy)
    files.check_format(value.get("format"), RUN_FORMAT, path, remedy)
    try:
        corpus = value["corpus"]
        sources, init_from = corpus["sources"], value["init_from"]
        teacher = value.get("teacher")  # the first runs have none
        generation = value.get("generation")
        separator = corpus.get("separator")  # before lists, runs had none
        texts = [corpus["encoding"], corpus["digest"], value["created"], *sources]
        if not isinstance(sources, list) or not isinstance(init_from, str | None):
            raise TypeError
        if not isinstance(teacher, str | None) or not isinstance(separator, str | None):
            raise TypeError
        if not sources or not all(isinstance(text, str) for text in texts):
            raise TypeError
        characters = corpus["characters"]
        if not files.is_count(characters):
            raise TypeError
        return RunFile(
            model=ModelConfig.from_dict(value["model"], str(path)),
            train=TrainConfig.from_dict(value["train"], str(path)),
            source=TextSource(tuple(sources), corpus["encoding"], bool(corpus["bytes"]), separator),
            digest=corpus["digest"],
            characters=characters,
            created=value["created"],
            budget=_budget(value["budget"]),
            init_from=init_from,
            teacher=teacher,
            generation=None if generation is None else Generation.from_dict(generation),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CharlstmError(f"{path} is damaged", remedy) from None


def _budget(value: Mapping[str, Any]) -> Budget:
    """The budget in ``run.json``; earlier versions planned once, at the step ``known_at``."""
    if "revisions" not in value:
        known = value["total_steps"] is not None
        value = {"revisions": [[value["known_at"], value["total_steps"]]] if known else []}
    revisions = tuple(Revision(*revision) for revision in value["revisions"])
    if not all(files.is_count(number) for revision in revisions for number in revision):
        raise TypeError
    if any(later.step <= earlier.step for earlier, later in pairwise(revisions)):
        raise ValueError
    return Budget(revisions)


def now() -> str:
    """The time for ``created``: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


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


# -- checkpoints of a run ----------------------------------------------------------------------


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


_held: dict[str, files.Lock] = {}
"""The locks held by this process, by the real path of their run."""


@contextmanager
def lock(run: Path) -> Iterator[str]:
    """Lock a run for training. The system releases the lock when the process ends.

    Yields an empty string, or a warning on a file system without locks.

    Raises:
        UsageError: another process, or this one, is training the run.
        CharlstmError: the lock file cannot be opened.
    """
    key = os.path.realpath(run)
    if key in _held:
        raise UsageError(f"this process is already training {run}", "stop that first")
    try:
        held = _held[key] = files.Lock(run.absolute() / LOCK_FILE)
    except files.Locked:
        raise UsageError(
            f"another process is training {run}", "wait for it to finish, or start a new run"
        ) from None
    except OSError as error:
        raise CharlstmError(
            f"{run / LOCK_FILE} cannot be opened: {reason_of(error)}",
            "fix that, or use a copy of the run's folder without that file",
        ) from None
    try:
        yield (
            f"the file system of {run} does not support locks ({held.problem}); make sure that no "
            "other process trains this run"
            if held.problem
            else ""
        )
    finally:
        del _held[key]
        held.release()


def check_lock(run: Path) -> None:
    """Check before a change that a run which this process has locked has not lost its lock.

    The path decides, not where it leads: a link in it may lead to another run by now.

    A folder that is gone, as when a disk is taken away, has nothing that could be harmed.

    Raises:
        CharlstmError: the run's lock was deleted or replaced.
        OSError: the folder cannot be looked at.
    """
    path = run.absolute() / LOCK_FILE
    if run.is_dir() and any(held.path == path and held.is_lost() for held in _held.values()):
        raise CharlstmError(
            f"{path} was deleted or replaced: another process may be training this run",
            "make sure that none is, then resume the run",
        )
