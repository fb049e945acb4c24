from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from charlstm.config import TrainConfig
from charlstm.errors import UsageError
from charlstm.events import RunFinished
from charlstm.runs import run as runs
from charlstm.runs.metrics import MetricsLog, read_lines
from charlstm.study.compare import EMBEDDING, open_cell_run, result
from charlstm.study.results import CellRun, matched_model
from charlstm.text.corpus import Corpus
from charlstm.training import initial, new_run
from charlstm.training import trainer as trainer_module
from charlstm.training.trainer import Trainer

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


def open_in(
    folder: Path, corpus: Corpus, cell: str = "lstm", seed: int = 1
) -> AbstractContextManager[Trainer]:
    model = matched_model(cell, 3000, len(corpus.vocab), EMBEDDING)
    return open_cell_run(folder, corpus, model, seed, CHARACTERS)


def test_a_stopped_run_is_gone_on_with_to_the_same_result(
    make_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    corpus = make_corpus()
    with open_in(tmp_path / "whole", corpus) as whole:
        undisturbed = result(whole, finish(whole))
    with open_in(tmp_path / "cut", corpus) as stopped:
        assert finish(stopped, stop_at=3).reason == "stopped"
    with open_in(tmp_path / "cut", corpus) as again:
        assert 0 < again.progress.step < whole.progress.step
        found = result(again, finish(again))
    assert found.val_loss == undisturbed.val_loss
    assert (found.key, found.parameters) == (undisturbed.key, undisturbed.parameters)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["lstm-1"]


def test_the_threads_of_one_run_are_not_those_of_the_next(
    make_corpus: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_run, "available_cores", lambda: 8)
    monkeypatch.setattr(initial, "available_cores", lambda: 8)
    monkeypatch.setattr(new_run, "choose_threads", half_of_the_threads)
    before, corpus = torch.get_num_threads(), make_corpus()
    torch.set_num_threads(8)
    try:
        for seed in (1, 1, 2):  # new, resumed, new
            with open_in(tmp_path, corpus, seed=seed) as trainer:
                assert (trainer.run_file.train.threads, torch.get_num_threads()) == (4, 4)
            assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)


def half_of_the_threads(*_: object) -> tuple[int, float]:
    torch.set_num_threads(torch.get_num_threads() // 2)
    return torch.get_num_threads(), 1.0


@pytest.mark.parametrize("change", ["parameters", "characters", "text"])
def test_a_begun_run_of_other_settings_is_not_gone_on_with(
    make_corpus: Callable[..., Corpus], tmp_path: Path, change: str
) -> None:
    corpus = make_corpus()
    with open_in(tmp_path, corpus) as stopped:
        assert finish(stopped, stop_at=3).reason == "stopped"
    if change == "text":
        corpus = make_corpus("Another text, of other characters; 0123456789.\n" * 60)
    size = 6000 if change == "parameters" else 3000
    model = matched_model("lstm", size, len(corpus.vocab), EMBEDDING)
    characters = CHARACTERS * 2 if change == "characters" else CHARACTERS
    with (
        pytest.raises(UsageError, match="begun with another text or other settings"),
        open_cell_run(tmp_path, corpus, model, 1, characters),
    ):
        pass


def test_a_run_is_held_against_other_processes(
    make_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    corpus = make_corpus()
    with (
        open_in(tmp_path, corpus),
        pytest.raises(UsageError, match="already training"),
        open_in(tmp_path, corpus),
    ):
        pass


def test_runs_differ_in_cell_width_and_seed_alone(
    make_corpus: Callable[..., Corpus], tmp_path: Path
) -> None:
    corpus = make_corpus()
    files = []
    for cell, seed in (("lstm", 1), ("lstm", 2), ("gru", 1)):
        with open_in(tmp_path, corpus, cell, seed) as trainer:
            files.append(trainer.run_file)
    settings = [{**file.train.to_dict(), "seed": 0} for file in files]
    assert settings[0] == settings[1] == settings[2]
    assert [file.train.seed for file in files] == [1, 2, 1]
    recipe = TrainConfig(batch=1, bptt=1, steps=1)
    for name in ("row_averaging", "reset_every", "learning_rate", "weight_decay"):
        assert settings[0][name] == getattr(recipe, name)
    assert settings[0]["patience"] == 0
    assert files[0].model.hidden_size < files[2].model.hidden_size
    for file in files:
        total = file.budget.total_steps
        assert total is not None
        read = total * file.train.batch * file.train.bptt
        assert abs(read - CHARACTERS) <= file.train.batch * file.train.bptt


def test_a_result_has_the_runs_loss_and_the_median_of_its_speeds(
    make_corpus: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr("charlstm.runs.metrics.STEP_SECONDS", 0.0)
    with open_in(tmp_path, make_corpus()) as trainer:
        finished = finish(trainer)
        with (trainer.path / "metrics.jsonl").open("a") as log:
            log.write('{"event": "step_done", "chars_per_second": null}\n')  # no number was there
        found = result(trainer, finished)
    lines = read_lines(trainer.path / "metrics.jsonl")[:-1]
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
