"""A line for each thing that matters, and one every few seconds for the steps."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    RolledBack,
    RunFinished,
    RunStarted,
    Saved,
    SaveFailed,
    StepDone,
)
from charlstm.show.plain import LINE_SECONDS, PlainLog

STARTED = RunStarted(
    name="tales",
    model="lstm 1×16",
    parameters=2500,
    train_characters=20_700,
    val_characters=2_300,
    vocab_size=36,
    batch=4,
    bptt=16,
    precision="float32",
    device="cpu",
    threads=2,
    step=0,
    total_steps=1200,
)
STEP = StepDone(
    step=1000,
    total_steps=1200,
    epoch=2.5,
    loss=1.23456,
    learning_rate=0.01,
    gradient_norm=0.5,
    chars_per_second=17_806.6,
    seconds=187.0,
)
EVALUATED = Evaluated(
    step=1000,
    epoch=2.5,
    val_loss=1.5,
    best_loss=1.5,
    best_step=1000,
    improved=True,
    seconds=190.0,
    gates=(),
)


def log(*events: Event, times: Iterator[float] | None = None) -> list[str]:
    stream = io.StringIO()
    lines = PlainLog(stream, clock=lambda: next(times) if times else 0.0)
    for event in events:
        lines.write(event)
    return stream.getvalue().splitlines()


def test_start_tells_model_text_and_streams() -> None:
    (line,) = log(STARTED)
    for fact in ("tales", "lstm 1×16", "2,500", "20,700", "2,300", "36", "4", "16", "cpu"):
        assert fact in line


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (BudgetFixed(1, 0.17, 0.1), "budget: 1 step, 0.17 epochs, about 0 s in total"),
        (BudgetFixed(1200, 3.14, 187.0), "budget: 1,200 steps, 3.14 epochs, about 3:07 in total"),
        (STEP, "step 1,000/1,200  epoch 2.50  loss 1.2346  17,807 char/s  3:07"),
        (
            replace(STEP, total_steps=None),
            "step 1,000  epoch 2.50  loss 1.2346  17,807 char/s  3:07",
        ),
        (EVALUATED, "step 1,000  validation loss 1.5000 nats  (best so far)"),
        (replace(EVALUATED, improved=False), "step 1,000  validation loss 1.5000 nats"),
        (
            SaveFailed(7, "no space left on device"),
            "could not save at step 7: no space left on device; will retry",
        ),
        (
            RolledBack(70, 50, 0.5, "the loss is not finite"),
            "the loss is not finite at step 70: back to step 50, learning rate × 0.5",
        ),
    ],
)
def test_lines(event: Event, line: str) -> None:
    assert log(event) == [line]


def test_a_budget_is_printed_again_when_it_has_changed_much() -> None:
    totals = (1_000, 1_050, 960, 1_200, 1_150)
    budgets = [BudgetFixed(total, 1.0, 60.0) for total in totals]
    shown = log(*budgets)
    assert [line.split(" steps")[0] for line in shown] == ["budget: 1,000", "budget: 1,200"]
    assert len(log(budgets[0], STARTED, budgets[1])) == 3  # of the next generation


def test_saving_and_the_end_have_no_line() -> None:
    finished = RunFinished("budget", 9, 1.0, 2.0, 1.5, 9, Path("run"))
    assert log(Saved(9, Path("run/step-00000009"), True), finished) == []


def test_steps_get_a_line_every_few_seconds_and_the_rest_always() -> None:
    steps = [replace(STEP, step=step) for step in range(1, 7)]
    now = 0.0

    def clock() -> float:
        return now

    stream = io.StringIO()
    lines = PlainLog(stream, clock)
    for event in steps:
        lines.write(event)
        lines.write(EVALUATED)
        now += LINE_SECONDS / 2
    shown = stream.getvalue().splitlines()
    steps_shown = [line.split("/")[0] for line in shown if "char/s" in line]
    assert steps_shown == ["step 1", "step 3", "step 5"]
    assert sum("validation" in line for line in shown) == len(steps)


def test_control_characters_are_made_visible_on_one_line() -> None:
    (line,) = log(replace(STARTED, name="a\x1b[2Jb\nc"))
    assert line.startswith("a␛[2Jb␊c:")
