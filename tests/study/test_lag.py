import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS
from charlstm.study.lag import (
    CHECK_EVERY,
    LagProgress,
    LagSettings,
    judge,
    make_learner,
    run_trial,
)
from charlstm.study.results import LagTrial
from charlstm.study.tasks import TASKS, WARMUP, examples, is_right
from charlstm.training.network import to_arrays


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(
    task: str, characters: int, hidden: int = 32, forget_bias: float | None = None
) -> LagSettings:
    return LagSettings(TASKS[task], hidden, characters, forget_bias)


def result(study: LagSettings, cell: str, lag: int, trial: int = 1) -> LagTrial:
    *_, last = run_trial(study, cell, lag, trial)
    assert isinstance(last, LagTrial)
    return last


# -- what the study is there to show -----------------------------------------------------------


def test_embedded_reber_is_solved_by_lstm_and_not_by_rnn() -> None:
    study = settings("reber", 240_000)
    lstm = result(study, "lstm", 16)
    assert (lstm.solved, lstm.right) == (True, 1)
    assert lstm.characters < 240_000
    rnn = result(settings("reber", lstm.characters), "rnn", 16)
    assert not rnn.solved
    assert rnn.right < 0.99
    assert rnn.characters >= lstm.characters


def test_without_a_forget_gate_the_cell_state_grows_on_a_continual_stream() -> None:
    study = settings("continual-reber", 100_000)
    old, new = result(study, "lstm-1997", 8), result(study, "lstm", 8)
    assert old.cell_state is not None
    assert new.cell_state is not None
    assert old.cell_state > 5 * new.cell_state
    assert old.right < new.right


def test_lstm_counts_beyond_what_it_was_trained_on() -> None:
    trial = result(settings("anbn", 160_000, hidden=8), "lstm-1997", 10, trial=2)  # 9 of 10 do
    assert trial.solved
    assert trial.reach is not None
    assert trial.reach >= 20


# -- a trial -----------------------------------------------------------------------------------


def test_a_trial_tells_how_it_goes_and_ends_when_the_task_is_solved() -> None:
    study = settings("long-lag", 50_000)
    *steps, last = run_trial(study, "rnn", 3, 1)
    assert isinstance(last, LagTrial)
    assert all(isinstance(step, LagProgress) for step in steps)
    assert last.solved
    assert last.characters == steps[-1].characters < 50_000
    assert [step.right for step in steps[:-1]] < [1.0] * len(steps)
    assert [s.characters for s in steps] == [5 * CHECK_EVERY * (i + 1) for i in range(len(steps))]
    assert (last.cell_state, last.reach) == (None, None)


def test_a_trial_is_reproducible_and_another_one_differs() -> None:
    study = settings("reber", 5_000, hidden=8)
    first, again = (list(run_trial(study, "lstm", 6, 1, clock=lambda: 0.0)) for _ in range(2))
    assert first == again
    assert first != list(run_trial(study, "lstm", 6, 2, clock=lambda: 0.0))


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.width], ids=lambda t: t.name)
def test_each_step_reads_one_whole_row_of_every_stream(task: object) -> None:
    study = LagSettings(task, 4, 1000, None)  # type: ignore[arg-type]
    lag = study.task.lags[0]
    learner = make_learner(study, "rnn", lag, 1)
    vocab = study.task.vocabulary(lag)
    assert study.task.width is not None
    width = study.task.width(lag)
    starts = {"reber": "B", "long-lag": "xy", "temporal-order": "E", "anbn": "a"}[study.task.name]
    for step in (0, 1, 5, 100_000):  # the last one after the text began again many times
        batch = learner.streams.batch_at(step * width)
        assert batch.inputs.shape == (width, study.task.batch)
        assert {vocab.symbols[i] for i in batch.inputs[0]} <= set(starts)
        assert {vocab.symbols[i] for i in batch.inputs[-1]} == {"\n"}


def test_rows_are_read_from_zero_state_and_streams_are_not() -> None:
    for task, carried in (("reber", False), ("continual-reber", True)):
        states = []
        study = settings(task, 64 * 16 * 4, hidden=4)
        learner = make_learner(study, "lstm", 8, 1)
        original = learner.model.forward

        def watch(ids: torch.Tensor, state: torch.Tensor, masks: object = None) -> object:
            states.append(state.abs().max().item())  # noqa: B023
            return original(ids, state, None)  # noqa: B023

        learner.model.forward = watch  # type: ignore[method-assign, assignment]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("charlstm.study.lag.make_learner", lambda *_: learner)  # noqa: B023
            list(run_trial(study, "lstm", 8, 1))
        assert len(states) >= 4
        assert states[0] == 0
        assert all((state > 0) == carried for state in states[1:])


@pytest.mark.parametrize("cell", CELLS)
def test_the_memory_gate_begins_open_enough_for_the_lag(cell: str) -> None:
    for task, forget_bias, expected in (
        ("reber", None, 2 * math.log(8)),
        ("continual-reber", None, math.log(8)),
        ("reber", 1.5, 1.5),
    ):
        learner = make_learner(settings(task, 1000, 4, forget_bias), cell, 8, 1)
        for model in (learner.model, learner.average):
            bias = model.layers[0].bias.detach().numpy()
            spec = CELLS[cell]
            for block in spec.blocks:
                begins = expected if block == spec.memory else 0
                assert np.allclose(bias[spec.block(block, 4)], begins)


def test_judging_agrees_with_the_engine_text_by_text() -> None:
    task = TASKS["continual-reber"]
    learner = make_learner(settings("continual-reber", 1000, 6), "lstm", 8, 1)
    for step in range(3):
        learner.step(step, 1.0)
    test = examples(task, 8, 1, 3, 40)
    right, state = judge(learner.average, test, None)
    engine = Engine(learner.model.config, dict(to_arrays(learner.average)))
    for b in range(3):
        logits, last = engine.forward(test.ids[:-1, b], engine.initial_state())
        expected = is_right(logits[:, None], test.legal[:, b : b + 1], None)
        assert (right[:, b] == expected[:, 0]).all()
        assert np.allclose(state[:, :, b], last[:, :, 0], atol=1e-5)
    assert right[:WARMUP].all()
    assert not right[WARMUP:].all()
