"""Create a new run: resolve its open settings and make its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlstm.config import TrainConfig
from charlstm.errors import plural, require
from charlstm.net.model_config import ModelConfig
from charlstm.presets import require_memory
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.runs.generation import Generation
from charlstm.runs.run import ROOT, RunFile, create_run, now
from charlstm.text.corpus import Corpus
from charlstm.text.items import open_batches
from charlstm.text.streams import fit_streams
from charlstm.training.device import (
    Trial,
    available_cores,
    choose_device,
    choose_precision,
    choose_threads,
    precision_note,
    reading_seconds,
    threads_restored,
    torch_errors_explained,
)
from charlstm.training.initial import teacher_model
from charlstm.training.processes import all_processes, check_batch, check_list, started_by_torchrun
from charlstm.training.resume import open_run
from charlstm.training.schedule import budget_of
from charlstm.training.trainer import Trainer

STEP_OVER_PASS = 1.25
"""Time of a training step, relative to a forward and backward pass."""


@contextmanager
def begin(
    corpus: Corpus,
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    root: Path = ROOT,
    name: str | None = None,
    init_from: Path | None = None,
    teacher: Path | None = None,
    generation: Generation | None = None,
) -> Iterator[Trainer]:
    """Create a new run below ``root`` and open it for training.

    With ``init_from``, the model takes the shape and the weights of that checkpoint. ``teacher`` is
    a checkpoint to distil from, see ``Learner``. ``generation`` is recorded.

    Raises:
        CharlstmError: the text is too short, ``init_from`` or ``teacher`` cannot be read, or there
            is not enough memory.
        UsageError: ``threads`` exceeds the available cores, the device is not available, or the
            teacher's vocabulary differs from the text's.
    """

    def create() -> tuple[Path, NewRun]:
        with torch_errors_explained():
            new = resolve(corpus, model_config, train_config, init_from=init_from, teacher=teacher)
        run = replace(new.run, generation=generation)
        path = create_run(root, name or corpus.name, run, new.teacher)
        return path, replace(new, teacher=None)  # the run has a copy

    with threads_restored():
        path, new = all_processes().first(create)
        opened = open_run(path, corpus, step_seconds=new.step_seconds, notices=new.notices)
        with opened as trainer:
            yield trainer


@dataclass(frozen=True)
class NewRun:
    """A new run with all settings resolved, before it has a folder."""

    run: RunFile
    teacher: ModelFile | None
    step_seconds: float
    """Seconds per training step, estimated by a trial."""
    notices: tuple[str, ...]


def resolve(
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    init_from: Path | None = None,
    teacher: Path | None = None,
) -> NewRun:
    """Resolve open settings: B and T that fit the text, device, precision and threads.

    Raises the errors of ``begin``.
    """
    train_ids, _ = corpus.split(config.val_fraction)
    require(
        len(train_ids) > 0 or corpus.vocab.end is None,
        "the list has no items",
        "use a list of at least a few hundred items",
    )
    batch, bptt = fit_streams(len(train_ids), config.batch, config.bptt)
    check_batch(batch, all_processes().size)
    check_list(corpus.vocab.end, all_processes().size)
    config = replace(config, batch=batch, bptt=bptt)
    if init_from is not None:
        model_config = replace(read_model(init_from).config, vocab_size=len(corpus.vocab))
    model_config = replace(model_config, end=corpus.vocab.end)
    teacher_file = None if teacher is None else read_model(teacher)
    require(
        (teacher is None) == (config.distillation == 0),
        f"`distillation` is {config.distillation:g} "
        + ("without a `teacher`" if teacher is None else "with a `teacher`"),
        "give a `teacher` or set it to 0" if teacher is None else "set it above 0",
    )
    reader = None if teacher_file is None else teacher_model(teacher_file, corpus.vocab)
    threads, cores = config.threads, available_cores()
    require(
        threads <= cores,
        f"`threads` is {threads}, but only {plural(cores, 'CPU core')} "
        f"{'is' if cores == 1 else 'are'} available",
        "leave it out to let a short trial choose",
    )
    device, notices = choose_device(config.device)
    if device.type == "cpu":
        require_memory(model_config, config)
    trial = Trial(model_config, device, batch // all_processes().size, bptt)
    precision, seconds = choose_precision(config.precision, trial)
    if config.precision == "auto":
        notices += precision_note(precision, trial)
    if threads == 0:
        threads, seconds = choose_threads(precision, trial, seconds)
    seconds *= STEP_OVER_PASS
    if reader is not None:
        seconds += reading_seconds(reader.to(device), precision, batch, bptt)
    config = replace(config, device=str(device), precision=precision.name, threads=threads)
    run = RunFile(
        model=model_config,
        train=config,
        source=corpus.source,
        digest=corpus.digest,
        characters=len(corpus),
        created=now(),
        budget=budget_of(
            config,
            open_batches(train_ids, batch, bptt, corpus.vocab.end, config.seed).steps,
        ),
        init_from=None if init_from is None else str(init_from.absolute()),
        teacher=None if teacher is None else str(teacher.absolute()),
    )
    return NewRun(run, teacher_file, seconds, notices + _idle_gpus(device.type))


def _idle_gpus(kind: str) -> tuple[str, ...]:
    """A note about how to use several GPUs."""
    count = torch.cuda.device_count() if kind == "cuda" and not started_by_torchrun() else 1
    if count == 1:
        return ()
    return (
        f"training on one of {count} GPUs; to use all of them, start with "
        f"torchrun --nproc-per-node {count} -m charlstm train …",
    )
