"""The runs of `charlstm study cells`: one per cell and seed, started or resumed."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlstm.errors import UsageError
from charlstm.events import RunFinished, StepDone
from charlstm.net.model_config import ModelConfig
from charlstm.presets import default_settings, require_memory
from charlstm.runs import metrics
from charlstm.runs.run import METRICS_FILE, RUN_FILE, read_run_file, safe_name
from charlstm.study.results import CellRun
from charlstm.text.corpus import Corpus
from charlstm.training.new_run import begin
from charlstm.training.resume import open_run
from charlstm.training.trainer import Trainer

PRESET, EMBEDDING = "quick", 32


@contextmanager
def open_cell_run(
    folder: Path, corpus: Corpus, model: ModelConfig, seed: int, characters: int
) -> Iterator[Trainer]:
    """Start or resume the run of a cell and seed in ``folder``, locked for training.

    The runs of a study differ only in cell, width and seed; none stops early.

    Raises:
        UsageError: the folder has a run of that name with another text or other settings.
    """
    path = folder / safe_name(f"{model.cell}-{seed}")
    changes = {
        "epochs": characters / len(corpus.split(0.1)[0]),
        "patience": 0,
        "seed": seed,
        "precision": "float32",
    }
    if (path / RUN_FILE).is_file():
        # The results file, which has the study's settings, comes with the first result only.
        begun = read_run_file(path)
        settings = {**begun.train.to_dict(), **changes}
        if (begun.digest, begun.model, begun.train.to_dict()) != (corpus.digest, model, settings):
            raise UsageError(
                f"{path} was begun with another text or other settings",
                "give this study another `name`",
            )
        opened = open_run(path, corpus)
    else:
        _, config = default_settings(len(corpus), len(corpus.vocab), preset=PRESET, train=changes)
        require_memory(model, config, "use fewer `parameters`")
        opened = begin(corpus, model, config, root=folder, name=path.name)
    with opened as trainer:
        yield trainer


def result(trainer: Trainer, finished: RunFinished) -> CellRun:
    """The result of a run that reached its budget; the speed is the median of those logged."""
    run = trainer.run_file
    lines = metrics.read_lines(trainer.path / METRICS_FILE)
    events = map(metrics.event_from_dict, lines)
    speeds = [event.chars_per_second for event in events if isinstance(event, StepDone)]
    read = finished.step * run.train.batch * run.train.bptt
    assert finished.val_loss is not None
    return CellRun(
        cell=run.model.cell,
        seed=run.train.seed,
        hidden_size=run.model.hidden_size,
        parameters=run.model.parameters,
        val_loss=finished.val_loss,
        chars_per_second=statistics.median(speeds or [read / finished.seconds]),
        seconds=finished.seconds,
        run=str(trainer.path),
    )
