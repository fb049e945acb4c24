"""Runs: folders in ``checkpoints/`` with their settings, metrics and checkpoints.

checkpoints/NAME/
  run.json            settings, corpus, budget; written before the first step
  metrics.jsonl       one event per line, see ``metrics``
  checkpoints.json    the best, last and kept checkpoints, see ``pointers``
  step-00000200/ …    checkpoints, see ``checkpoint``
  teacher/            the model that this run distils from, if there is one
  lock                held by the training process, see ``lock``
"""

import datetime
import os
import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from charlstm import files
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, reason_of
from charlstm.net.model_config import ModelConfig
from charlstm.runs import checkpoint
from charlstm.runs.generation import Generation
from charlstm.runs.lock import check_lock
from charlstm.text.sources import TextSource

ROOT = files.RUNS_FOLDER
RUN_FILE, METRICS_FILE, TEACHER = "run.json", "metrics.jsonl", "teacher"
RUN_FORMAT = 1


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
    if any((saved / checkpoint.MANIFEST).is_file() for saved in run.glob("step-*")):
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
