from collections.abc import Callable
from pathlib import Path

import pytest

from charlstm.events import RunFinished
from charlstm.runs import run as runs
from charlstm.runs.metrics import MetricsLog, read_lines
from charlstm.study.compare import EMBEDDING, open_run, result
from charlstm.study.results import CellRun, matched_model
from charlstm.text.corpus import Corpus
from charlstm.train.trainer import Trainer

CHARACTERS = 40_000


def finish(trainer: Trainer, stop_at: int | None = None) -> RunFinished:
    """Run to the end, or ask to stop at the first event from step ``stop_at`` on."""
    log = MetricsLog(trainer.path / runs.METRICS_FILE)
    for event in trainer.run():
        log.write(event)
        if stop_at is not None and trainer.progress.step >= stop_at:
            trainer.request_stop()
        if isinstance(event, RunFinished):
            log.close()
            return event
    raise AssertionError


def open_in(folder: Path, corpus: Corpus, cell: str = "lstm", seed: int = 1) -> Trainer:
    model = matched_model(cell, 3000, len(corpus.vocab), EMBEDDING)
    return open_run(folder, corpus, model, seed, CHARACTERS)


def test_a_stopped_run_is_gone_on_with_to_the_same_result(
    make_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    corpus = make_corpus()
    whole = open_in(tmp_path / "whole", corpus)
    undisturbed = result(whole, finish(whole))
    stopped = open_in(tmp_path / "cut", corpus)
    assert finish(stopped, stop_at=3).reason == "stopped"
    again = open_in(tmp_path / "cut", corpus)
    assert 0 < again.progress.step < undisturbed_steps(whole)
    found = result(again, finish(again))
    assert found.val_loss == undisturbed.val_loss
    assert (found.key, found.parameters) == (undisturbed.key, undisturbed.parameters)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["lstm-1"]


def undisturbed_steps(trainer: Trainer) -> int:
    return trainer.progress.step


def test_runs_differ_in_cell_width_and_seed_alone(
    make_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    corpus = make_corpus()
    files = [
        open_in(tmp_path, corpus, cell, seed).run_file
        for cell, seed in (("lstm", 1), ("lstm", 2), ("gru", 1))
    ]
    settings = [{**file.train.to_dict(), "seed": 0} for file in files]
    assert settings[0] == settings[1] == settings[2]
    assert [file.train.seed for file in files] == [1, 2, 1]
    assert (settings[0]["patience"], settings[0]["hold"]) == (0, 0.0)
    assert files[0].model.hidden_size < files[2].model.hidden_size
    for file in files:
        total = file.budget.total_steps
        assert total is not None
        read = total * file.train.batch * file.train.bptt
        assert abs(read - CHARACTERS) <= file.train.batch * file.train.bptt


def test_a_result_has_the_runs_loss_and_the_median_of_its_speeds(
    make_corpus: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlstm.train.trainer.REPORT_SECONDS", 0.0)
    monkeypatch.setattr("charlstm.runs.metrics.STEP_SECONDS", 0.0)
    trainer = open_in(tmp_path, make_corpus())
    finished = finish(trainer)
    found = result(trainer, finished)
    lines = read_lines(trainer.path / "metrics.jsonl")
    speeds = sorted(line["chars_per_second"] for line in lines if line["event"] == "step_done")
    assert len(speeds) > 3
    assert speeds[0] < found.chars_per_second < speeds[-1]
    assert finished.val_loss is not None
    assert found == CellRun(
        cell="lstm",
        seed=1,
        hidden_size=trainer.run_file.model.hidden_size,
        parameters=trainer.run_file.model.parameters,
        val_loss=finished.val_loss,
        chars_per_second=found.chars_per_second,
        seconds=finished.seconds,
        run=str(tmp_path / "lstm-1"),
    )
