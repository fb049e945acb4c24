"""Open a new or stopped run for training: lock it, verify it, restore its state."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.errors import AccessError, CharlstmError, UsageError, plural
from charlstm.presets import require_memory
from charlstm.runs.checkpoint import read_model, read_resume_state
from charlstm.runs.lock import lock
from charlstm.runs.metrics import cut_metrics
from charlstm.runs.pointers import resume_order, sweep
from charlstm.runs.run import METRICS_FILE, RunFile, read_run_file, write_run_file
from charlstm.text.corpus import Corpus, find_encoded
from charlstm.text.items import open_batches
from charlstm.training.device import (
    Precision,
    Trial,
    choose_device,
    choose_precision,
    threads_restored,
    torch_errors_explained,
)
from charlstm.training.initial import initial_learner
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes, all_processes, check_list, started_by_torchrun
from charlstm.training.progress import Progress
from charlstm.training.schedule import budget_of
from charlstm.training.trainer import Resumption, Snapshot, Trainer
from charlstm.training.validation import HeldOut

BUDGETS = frozenset({"epochs", "steps", "minutes"})


@contextmanager
def open_run(
    path: Path,
    corpus: Corpus,
    changes: Mapping[str, Any] = MappingProxyType({}),
    *,
    step_seconds: float | None = None,
    notices: tuple[str, ...] = (),
) -> Iterator[Trainer]:
    """Lock the run at ``path`` and open it for training, from its last complete checkpoint.

    ``changes`` holds fields of ``TrainConfig`` to change: a larger budget, ``patience``, ``keep``
    or ``device``. If a checkpoint is damaged, the one before it is used, and ``Trainer.notices``
    reports it. A run without a checkpoint starts at step 0. Metrics logged after the checkpoint are
    dropped.

    Raises:
        CharlstmError: the corpus is not the run's, no checkpoint can be read, or memory runs out
            (also later, while the run is open).
        UsageError: another process is training the run, the run has already passed the end of the
            new budget, or it needs far more memory than there is.
    """
    processes = all_processes()
    with threads_restored(), ExitStack() as locked, torch_errors_explained():
        problem = processes.first(lambda: locked.enter_context(lock(path)))
        notices += (problem,) if problem else ()
        recorded = processes.first(lambda: _recorded(path, corpus))
        train_ids, val_ids = corpus.split(recorded.train.val_fraction)
        check_list(corpus.vocab.end, processes.size)
        run, found = processes.first(
            lambda: _with_changes(_at_new_path(recorded, corpus), changes, train_ids)
        )
        notices += found
        learner, found = initial_learner(path, run, train_ids, corpus.vocab, processes)
        notices += found + _environment_notices()
        resumption, found = _restore(path, learner, processes)
        notices += found
        processes.first(lambda: _begin_session(path, run, recorded, resumption, changes))
        held_out = HeldOut(train_ids, val_ids, corpus.vocab, processes)
        yield Trainer(
            path,
            run,
            held_out,
            learner,
            resumption,
            notices=notices,
            step_seconds=step_seconds,
            processes=processes,
        )


def _recorded(path: Path, corpus: Corpus) -> RunFile:
    """The run's settings, after a check that the corpus is the run's."""
    recorded = read_run_file(path)
    _check_corpus(path, recorded, corpus)
    sweep(path)
    return recorded


def _begin_session(
    path: Path,
    run: RunFile,
    recorded: RunFile,
    resumption: Resumption | None,
    changes: Mapping[str, Any],
) -> None:
    """Write changed settings, and drop the metrics of steps that will be repeated."""
    if resumption is not None and changes.keys() & BUDGETS:
        _check_extension(run, resumption.progress)
    if run != recorded:
        write_run_file(path, run)
    if resumption is None:
        (path / METRICS_FILE).unlink(missing_ok=True)
    else:
        done = resumption.progress
        cut_metrics(path / METRICS_FILE, done.step, done.rate_scale)


def _check_corpus(path: Path, run: RunFile, corpus: Corpus) -> None:
    if corpus.digest == run.digest:
        return
    before, command = find_encoded(run.digest, run.source), ""
    change = f"from {run.characters:,} to {len(corpus):,} characters"
    remedy = f"restore the old text, or start a new run with `init_from` {shlex.quote(str(path))}"
    if len(corpus) == run.characters:
        if before is None:
            change = f"{run.characters:,} characters as before, but not the same ones"
        elif (before.vocab, before.counts) == (corpus.vocab, corpus.counts):
            change = f"the same {run.characters:,} characters in another order"
            remedy = (
                "a folder's files are read in the order of their names: restore the names, or "
                "list the files in the old order"
            )
        else:
            change = f"{run.characters:,} characters as before, but different ones"
    if before is not None:
        remedy += "; to continue with the text as it was:"
        command = shlex.join(["charlstm", "train", "--resume", "-c", str(path)])
    raise CharlstmError(
        f"the text has changed since run {path.name} started ({change})", remedy, command
    )


def _at_new_path(run: RunFile, corpus: Corpus) -> RunFile:
    """The run with the current paths of its text; a pipe has none."""
    return run if corpus.source.not_there() else replace(run, source=corpus.source)


def _with_changes(
    run: RunFile, changes: Mapping[str, Any], train_ids: NDArray[np.unsignedinteger]
) -> tuple[RunFile, tuple[str, ...]]:
    """The run with changed settings, and notes about their effects."""
    changes, notices = dict(changes), tuple[str, ...]()
    extended = bool(changes.keys() & BUDGETS)
    if extended:
        changes = {**dict.fromkeys(BUDGETS), **changes}
    if "device" in changes:
        precision, notices = _precision_on(changes["device"], run)
        changes |= {"device": str(precision.device), "precision": precision.name}
    run = replace(run, train=replace(run.train, **changes))
    if run.generation is not None:
        run = replace(run, generation=run.generation.changed(changes))
    if extended:
        batches = open_batches(
            train_ids, run.train.batch, run.train.bptt, run.model.end, run.train.seed
        )
        run = replace(run, budget=budget_of(run.train, batches.steps))
    if run.train.device == "cpu":
        require_memory(run.model, run.train, "resume it on a machine with more memory")
    return run, notices


def _precision_on(name: str, run: RunFile) -> tuple[Precision, tuple[str, ...]]:
    """The device of that name, with the run's precision if supported, otherwise float32."""
    device, notices = choose_device(name)
    old, new = run.train, Precision(device, run.train.precision)
    if device.type == torch.device(old.device).type:
        return new, notices
    try:
        choose_precision(old.precision, Trial(run.model, device, old.batch, old.bptt))
    except UsageError:
        new = Precision(device, "float32")
    note = (
        f"started on {old.device} in {old.precision}, continuing on {device.type} in {new.name}; "
        "rounding may differ from an uninterrupted run"
    )
    return new, (*notices, note)


def _restore(
    path: Path, learner: Learner, processes: Processes
) -> tuple[Resumption | None, tuple[str, ...]]:
    """Restore a learner from the run's last readable checkpoint, with notes for the user."""
    latest, resumption, notices = processes.first(lambda: _find_restorable(path, learner))
    if processes.rank and latest is not None:
        latest.restore(learner)
    return resumption, notices


def _find_restorable(
    path: Path, learner: Learner
) -> tuple[Snapshot | None, Resumption | None, tuple[str, ...]]:
    """The last checkpoint that can be restored, after doing so, and where the run resumes.

    A run is also saved by the clock, between validations. A rollback always goes to the last
    validation, so that an interrupted run ends like an uninterrupted one.
    """
    failures: list[str] = []
    restored: tuple[Progress, Snapshot, str] | None = None
    latest: Snapshot | None = None
    for candidate in resume_order(path):
        try:
            snapshot = Snapshot(read_model(candidate), read_resume_state(candidate))
            if restored is None:
                restored = snapshot.restore(learner), snapshot, candidate.name
                latest = snapshot
        except AccessError:
            if restored is None:  # an older checkpoint would discard what this one holds
                raise
        except CharlstmError as error:
            if restored is None:
                failures.append(str(error))
            continue
        if snapshot.evaluated:
            restored = restored[0], snapshot, candidate.name
            break
    notices = tuple(f"skipped a checkpoint: {failure}" for failure in failures)
    if restored is None or latest is None:
        if failures:
            raise CharlstmError(
                f"no readable checkpoint in {path} ({failures[0]})", "start a new run"
            )
        return None, None, ()
    was, threads = latest.state.values.get("threads"), torch.get_num_threads()
    if threads != was:
        notices += (
            f"trained with {was} CPU threads so far, now with {threads}; rounding may differ from "
            "an uninterrupted run",
        )
    return latest, Resumption(*restored), notices


def _environment_notices() -> tuple[str, ...]:
    """Notes about environment variables that ask for something charlstm does not do."""
    count = os.environ.get("WORLD_SIZE", "1")
    if started_by_torchrun() or not count.isdecimal() or count.lstrip("0") in ("", "1"):
        return ()
    shown = count if len(count) < 10 else f"{count[:9]}…"
    return (
        f"WORLD_SIZE is {shown}, but torchrun has not started this process: it trains a run of its "
        "own",
    )


def _check_extension(run: RunFile, progress: Progress) -> None:
    remedy = "give a larger budget; it counts from the start of the run"
    total = run.budget.total_steps
    if total is not None and total <= progress.step:
        raise UsageError(
            f"the new budget is {plural(total, 'step')}, but the run has already done "
            f"{progress.step:,}",
            remedy,
        )
    minutes, spent = run.train.minutes, progress.seconds / 60
    if minutes is not None and minutes <= spent:
        raise UsageError(
            f"the new budget is {minutes:g} min, but the run has already taken {spent:.1f} min",
            remedy,
        )
