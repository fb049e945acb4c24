import errno
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from helpers import TEXT, model_config, random_weights, train_config
from torch import Tensor

from charlstm.errors import AccessError, CharlstmError, UsageError
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
from charlstm.model import load
from charlstm.net.engine import Engine
from charlstm.runs import metrics, pointers
from charlstm.runs import run as runs
from charlstm.runs.catalogue import summarise
from charlstm.runs.checkpoint import ModelFile, ResumeState, read_model, read_resume_state
from charlstm.scoring import score
from charlstm.text.corpus import Corpus, open_corpus
from charlstm.text.streams import fit_streams
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary
from charlstm.training import initial, learner, new_run, schedule, validation
from charlstm.training import resume as resuming
from charlstm.training import trainer as training
from charlstm.training.cells import LSTMLayer
from charlstm.training.network import to_arrays
from charlstm.training.trainer import Trainer

Begin = Callable[..., Trainer]
E = TypeVar("E")


# -- helpers -----------------------------------------------------------------------------------


class Clock:
    """A clock that only training steps advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step_seconds = 0.5  # over REPORT_SECONDS, so each step is reported

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Every trainer of the session reads this clock; the disk is not waited for."""
    clock = Clock()
    before_steps(monkeypatch, lambda _: setattr(clock, "now", clock.now + clock.step_seconds))
    monkeypatch.setattr(resuming, "Trainer", functools.partial(Trainer, clock=clock))
    monkeypatch.setattr(schedule, "EVALUATIONS", 5)
    monkeypatch.setattr(schedule, "FORWARD_FRACTION", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return clock


def before_steps(monkeypatch: pytest.MonkeyPatch, action: Callable[[Trainer], object]) -> None:
    take_step = Trainer.take_step

    def acted(trainer: Trainer) -> Tensor:
        action(trainer)
        return take_step(trainer)

    monkeypatch.setattr(Trainer, "take_step", acted)


_OPEN: dict[Path, ExitStack] = {}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close all runs that a test has opened."""
    yield
    while _OPEN:
        _OPEN.popitem()[1].close()


def opened(run: AbstractContextManager[Trainer]) -> Trainer:
    """Open a run until the test ends or opens it again."""
    stack = ExitStack()
    trainer = stack.enter_context(run)
    _OPEN[trainer.path] = stack
    return trainer


@pytest.fixture
def begin(make_corpus: Callable[..., Corpus], tmp_path: Path) -> Begin:
    """A trainer of a new run of a small model; ``changes`` are settings."""

    def make(
        text: str = TEXT * 20,
        hidden: int = 8,
        cell: str = "lstm",
        init_from: Path | None = None,
        teacher: Path | None = None,
        **changes: object,
    ) -> Trainer:
        corpus = make_corpus(text)
        return opened(
            new_run.begin(
                corpus,
                model_config(len(corpus.vocab), hidden, layers=2, cell=cell),
                train_config(**changes),
                root=tmp_path / "checkpoints",
                init_from=init_from,
                teacher=teacher,
            )
        )

    return make


def corpus_of(path: Path) -> Corpus:
    return open_corpus(runs.read_run_file(path).source.paths)


def resume(path: Path, **changes: object) -> Trainer:
    if path in _OPEN:
        _OPEN.pop(path).close()
    return opened(resuming.open_run(path, corpus_of(path), changes))


def of_type(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def finish(trainer: Trainer) -> RunFinished:
    *_, finished = trainer.run()
    assert isinstance(finished, RunFinished)
    return finished


def run_and_stop(trainer: Trainer, step: int) -> None:
    """Stop the run after ``step``, as by Ctrl-C."""
    for event in trainer.run():
        if isinstance(event, StepDone) and event.step == step:
            trainer.request_stop()


def run_and_kill(trainer: Trainer, step: int) -> list[Event]:
    """Kill the run after ``step``, as by SIGKILL: unsaved progress is lost."""
    events = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, StepDone) and event.step == step:
            break
    return events


def last_checkpoint(path: Path) -> Path:
    last = pointers.read_pointers(path).last
    assert last is not None
    return path / last


def everything(path: Path, *more: str) -> tuple[dict[str, bytes], dict[str, object]]:
    """All that a run's last checkpoint holds, the arrays bit by bit."""
    state = read_resume_state(last_checkpoint(path))
    averaged = read_model(last_checkpoint(path)).weights
    arrays = state.tensors | {f"average/{name}": array for name, array in averaged.items()}
    groups = {name.partition("/")[0] for name in arrays}
    assert groups == {"average", "weights", "optimiser", "state", "dropout", *more}
    assert state.tensors["state"].any()
    return {name: array.tobytes() for name, array in arrays.items()}, state.values


def is_finite(path: Path) -> bool:
    """Whether the last checkpoint's numbers are all finite; the model's are when it is read."""
    state: ResumeState = read_resume_state(last_checkpoint(path))
    read_model(last_checkpoint(path))
    return all(np.isfinite(array).all() for array in state.tensors.values())


# -- what a run tells --------------------------------------------------------------------------


def test_events_come_in_their_order(begin: Begin) -> None:
    events = list(begin(steps=30).run())
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert len(of_type(events, RunStarted)) == len(of_type(events, RunFinished)) == 1
    steps = [event.step for event in events if not isinstance(event, BudgetFixed)]
    assert steps == sorted(steps)
    assert [event.step for event in of_type(events, StepDone)] == list(range(1, 31))
    validated = [0, 6, 12, 18, 24, 30]
    assert [event.step for event in of_type(events, Evaluated)] == validated
    assert [event.step for event in of_type(events, Saved)] == validated
    for event, after in pairwise(events):
        if isinstance(event, Evaluated):
            assert isinstance(after, Saved)
            assert (after.step, after.best) == (event.step, event.improved)


def test_finished_run_reports_its_best_checkpoint_by_the_contiguous_pass(begin: Begin) -> None:
    trainer = begin(steps=30)
    finished = finish(trainer)
    assert (finished.reason, finished.step, finished.unsaved) == ("budget", 30, None)
    model = load(finished.path)
    _, held_out = corpus_of(finished.path).split(0.1)
    assert model.file.training["step"] == finished.best_step
    assert finished.val_loss == pytest.approx(score(model.engine, held_out).nats, abs=1e-4)


def test_run_without_a_held_out_part_trains_and_saves_its_last_step_as_best(begin: Begin) -> None:
    events = list(begin(steps=10, val_fraction=0).run())
    finished = of_type(events, RunFinished)[0]
    assert not of_type(events, Evaluated)
    assert (finished.reason, finished.val_loss) == ("budget", None)
    assert load(finished.path).file.training["step"] == 10


@pytest.mark.parametrize("length", [30, 100, 300])
@pytest.mark.parametrize("val_fraction", [0, 0.1])
def test_tiny_text_trains(begin: Begin, length: int, val_fraction: float) -> None:
    trainer = begin((TEXT * 3)[:length], steps=6, val_fraction=val_fraction, batch=16, bptt=64)
    losses = [event.loss for event in trainer.run() if isinstance(event, StepDone)]
    train_ids, _ = corpus_of(trainer.path).split(val_fraction)
    settings = trainer.run_file.train
    assert (settings.batch, settings.bptt) == fit_streams(len(train_ids), 16, 64)
    assert len(losses) == 6
    assert all(math.isfinite(loss) for loss in losses)
    assert is_finite(trainer.path)


def test_twenty_characters_are_memorised(begin: Begin) -> None:
    rates = {"learning_rate": 0.05, "adam_rate": 0.03}
    trainer = begin(
        "abcdefghij jihgfeabc", hidden=24, steps=200, val_fraction=0, dropout=0, **rates
    )
    losses = [event.loss for event in trainer.run() if isinstance(event, StepDone)]
    assert losses[0] > 2
    assert losses[-1] < 0.01


# -- carried state -----------------------------------------------------------------------------


def loss_of_second_batch(trainer: Trainer, *, reset: bool = False) -> float:
    losses: list[float] = []
    for event in trainer.run():
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if reset:
                trainer.learner.state.zero_()
    return losses[1]


def test_state_is_carried_into_the_next_batch(begin: Begin) -> None:
    frozen = {"steps": 2, "dropout": 0, "learning_rate": 1e-9, "adam_rate": 1e-9}
    trainer = begin(**frozen)
    engine = Engine(trainer.run_file.model, dict(to_arrays(trainer.learner.average)), np.float64)
    text = corpus_of(trainer.path).split(0.1)[0].astype(np.int64)
    starts = [b * len(text) // 4 for b in range(4)]
    # In each stream the second batch is characters 16 to 32, read after characters 0 to 16.
    bits = [score(engine, text[start : start + 33]).surprise_bits[17:] for start in starts]
    carried = np.mean(bits) * math.log(2)
    assert loss_of_second_batch(trainer) == pytest.approx(carried, abs=1e-5)
    assert abs(loss_of_second_batch(begin(**frozen), reset=True) - carried) > 1e-4


@pytest.mark.parametrize("every", [1, 3, 6, 10**12])
def test_streams_are_reset_in_turn(begin: Begin, every: int) -> None:
    trainer = begin(steps=8, reset_every=every)
    model, streams = trainer.learner.model, trainer.learner.streams
    for step in range(8):
        state = trainer.learner.state.clone()
        for b in range(4):
            if b % every == step % every:
                state[:, :, b] = 0
        inputs = torch.from_numpy(streams.batch_at(trainer.progress.position).inputs)
        with torch.no_grad():
            expected = model(inputs, state)[1]
        trainer.take_step()
        torch.testing.assert_close(trainer.learner.state, expected)


def test_loss_is_the_mean_over_the_dropout_masks(begin: Begin) -> None:
    trainer = begin(steps=1, dropout=0.5, dropout_masks=3)
    learned, config = trainer.learner, trainer.run_file.train
    batch = learned.streams.batch_at(0)
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    generator = torch.Generator().manual_seed(config.seed)
    masks = learned.model.dropout_masks(3, config.batch, 0.5, generator)
    assert masks is not None
    with torch.no_grad():
        expected = [
            torch.nn.functional.cross_entropy(
                learned.model(inputs, learned.state, masks[m : m + 1])[0].flatten(0, -2),
                targets.flatten(),
            ).item()
            for m in range(3)
        ]
    assert max(expected) - min(expected) > 1e-4
    loss, _ = learned.step(0, 1.0)
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-6)


# -- resume ------------------------------------------------------------------------------------

STOP, KILL = run_and_stop, run_and_kill
Interruptions = list[tuple[Callable[[Trainer, int], object], int]]


@pytest.mark.parametrize("budget", [{"steps": 30}, {"epochs": 0.9}, {"minutes": 0.25}], ids=str)
@pytest.mark.parametrize(
    "interruptions",
    [
        [(STOP, 7)],  # between two validations
        [(KILL, 17)],  # some steps after the last checkpoint
        [(KILL, 2)],  # with only the untrained checkpoint
        [(KILL, 6)],  # likewise, when the minutes have become steps
        [(STOP, 12), (STOP, 13)],
        [(KILL, 14), (STOP, 19), (KILL, 27)],
    ],
    ids=[
        "stopped",
        "killed",
        "killed early",
        "killed at 6",
        "stopped twice",
        "killed, stopped, killed",
    ],
)
def test_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(
    begin: Begin, budget: dict[str, float], interruptions: Interruptions
) -> None:
    settings = {"steps": None, "dropout": 0.3, "dropout_masks": 2, "weight_decay": 0.1, **budget}
    settings |= {"row_averaging": 0.95, "reset_every": 3}
    whole = finish(begin(**settings))
    trainer = begin(**settings)
    for interrupt, step in interruptions:
        interrupt(trainer, step)
        trainer = resume(trainer.path)
        assert trainer.progress.step <= step
    finished = finish(trainer)
    assert whole.step == finished.step >= 28
    assert everything(finished.path) == everything(whole.path)
    assert finished.val_loss == whole.val_loss


def test_run_killed_before_its_first_checkpoint_begins_again(begin: Begin) -> None:
    whole, killed = finish(begin(steps=8)), begin(steps=8)
    next(killed.run())
    finished = finish(resume(killed.path))
    assert everything(finished.path) == everything(whole.path)


def test_stopped_run_saves_the_step_it_finished_and_says_so(begin: Begin) -> None:
    trainer = begin(steps=30)
    run_and_stop(trainer, 7)
    assert read_model(last_checkpoint(trainer.path)).training["step"] == 7
    trainer = resume(trainer.path)
    trainer.request_stop()
    finished = finish(trainer)
    assert (finished.reason, finished.step, finished.val_loss) == ("stopped", 7, None)


def test_metrics_logged_after_the_checkpoint_are_dropped_on_resuming(begin: Begin) -> None:
    def logged(path: Path, events: Iterator[Event] | list[Event]) -> list[tuple[str, int]]:
        log = metrics.MetricsLog(path / runs.METRICS_FILE)
        for event in events:
            if not isinstance(event, (RunStarted, BudgetFixed)):
                log.write(event)
        log.close()
        lines = metrics.read_lines(path / runs.METRICS_FILE)
        return [(line["event"], line["step"]) for line in lines if line["event"] != "step_done"]

    whole, killed = begin(steps=30), begin(steps=30)
    expected = logged(whole.path, whole.run())
    before = logged(killed.path, run_and_kill(killed, 17))
    assert before[-1] == ("saved", 12)
    trainer = resume(killed.path)
    assert logged(killed.path, trainer.run()) == expected
    steps = [line["step"] for line in metrics.read_lines(killed.path / runs.METRICS_FILE)]
    assert steps == sorted(steps)


def test_run_goes_on_on_another_device_and_says_so(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    run_and_stop(trainer, 7)
    content = runs.read_run_file(trainer.path)
    elsewhere = replace(content.train, device="cuda", precision="float16")
    runs.write_run_file(trainer.path, replace(content, train=elsewhere))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if not torch.cuda.device_count():
        with pytest.raises(UsageError, match="not available") as refused:
            resume(trainer.path)
        assert "`device`" in refused.value.hint
    resumed = resume(trainer.path, device="cpu")
    (note,) = resumed.notices
    assert note.startswith("started on cuda in float16, continuing on cpu in ")
    assert runs.read_run_file(trainer.path).train.device == "cpu"
    assert finish(resumed).step == 12


def test_run_in_float16_goes_on_in_float32_where_there_is_no_float16(begin: Begin) -> None:
    trainer = begin(steps=12, cell="rnn", precision="float16")
    run_and_stop(trainer, 7)
    content = runs.read_run_file(trainer.path)
    full = replace(content.train, precision="float32")
    runs.write_run_file(trainer.path, replace(content, train=full))
    assert finish(resume(trainer.path)).step == 12


def test_processes_of_which_each_trains_a_run_of_its_own_are_noted(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    (note,) = begin(steps=2).notices
    assert "WORLD_SIZE is 4" in note
    monkeypatch.setenv("WORLD_SIZE", "9" * 6000)
    (note,) = begin(steps=2).notices
    assert len(note) < 200
    for harmless in ("1", "0", "many", ""):
        monkeypatch.setenv("WORLD_SIZE", harmless)
        assert begin(steps=2).notices == ()


def test_model_far_too_large_for_the_memory_is_refused_before_there_is_a_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlstm.files.memory_present", lambda: 1 << 30)
    with pytest.raises(UsageError, match="GiB of memory"):
        begin(hidden=4096)
    assert not (tmp_path / "checkpoints").exists()


def test_memory_that_ends_in_training_is_explained(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, make_corpus: Callable[..., Corpus]
) -> None:
    def full(_: Trainer) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    path = begin(steps=3).path
    _OPEN.pop(path).close()
    before_steps(monkeypatch, full)
    with (
        pytest.raises(CharlstmError, match="not enough memory"),
        resuming.open_run(path, corpus_of(path)) as trainer,
    ):
        finish(trainer)


def test_open_run_is_held_against_other_processes(begin: Begin) -> None:
    trainer = begin(steps=3)
    with (
        pytest.raises(UsageError, match="already training"),
        resuming.open_run(trainer.path, corpus_of(trainer.path)),
    ):
        pass


def test_damaged_checkpoint_is_passed_over_for_the_one_before(begin: Begin) -> None:
    trainer = begin(steps=30, keep=3)
    run_and_stop(trainer, 14)
    (last_checkpoint(trainer.path) / "train.safetensors").write_bytes(b"cut")
    resumed = resume(trainer.path)
    assert resumed.progress.step == 12
    assert "is damaged" in resumed.notices[0]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_checkpoint_that_cannot_be_opened_now_is_not_given_up(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trainer = begin(steps=30, keep=3)
    run_and_stop(trainer, 14)
    newest, read = last_checkpoint(trainer.path), Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.parent == newest:
            raise OSError(number, os.strerror(number))
        return read(path)

    with monkeypatch.context() as context:
        context.setattr(Path, "read_bytes", read_bytes)
        with pytest.raises(AccessError, match="cannot be read"):
            resume(trainer.path)
    assert resume(trainer.path).progress.step == 14


def test_run_goes_on_with_the_threads_it_began_with(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        trainer = begin(steps=4)
        run_and_stop(trainer, 2)
        torch.set_num_threads(2)
        assert resume(trainer.path).notices == ()
        assert torch.get_num_threads() == 1
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(initial, "available_cores", lambda: 2)
            begin(threads=2)
            with pytest.raises(
                UsageError, match="`threads` is 3, but only 2 CPU cores are available"
            ):
                begin(threads=3)
    finally:
        torch.set_num_threads(before)


def test_finished_run_resumed_with_its_budget_ends_at_once(begin: Begin) -> None:
    first = finish(begin(steps=8))
    events = list(resume(first.path).run())
    assert not of_type(events, StepDone)
    assert of_type(events, RunFinished)[0].val_loss == first.val_loss


# -- budget ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "extended", "steps"),
    [
        ({"steps": 8}, {"steps": 20}, 20),
        ({"epochs": 0.5}, {"epochs": 1.0}, 33),  # 2,070 characters, 64 a step
        ({"minutes": 0.1}, {"minutes": 0.2}, 24),  # half a second a step
        ({"steps": 8}, {"minutes": 0.2}, 24),
    ],
    ids=str,
)
def test_budget_is_extended_on_resuming(
    begin: Begin, budget: dict[str, float], extended: dict[str, float], steps: int
) -> None:
    trainer = begin(**{"steps": None, **budget})
    first = finish(trainer)
    finished = finish(resume(first.path, **extended))
    assert first.step < finished.step == steps
    none = {"steps": None, "epochs": None, "minutes": None}
    longer = replace(trainer.run_file.train, **{**none, **extended})  # type: ignore[arg-type]
    assert runs.read_run_file(first.path).train == longer


@pytest.mark.parametrize("budget", [{"steps": 30}, {"minutes": 0.25}], ids=str)
def test_extended_run_that_is_killed_ends_as_one_that_is_not(
    begin: Begin, budget: dict[str, float]
) -> None:
    ends = []
    for kills in ([], [10, 16]):
        trainer = begin(steps=8)
        finish(trainer)
        trainer = resume(trainer.path, **budget)
        for step in kills:
            run_and_kill(trainer, step)
            trainer = resume(trainer.path)
        finish(trainer)
        ends.append(everything(trainer.path))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("budget", [{"steps": 8}, {"minutes": 0.05}], ids=str)
def test_budget_that_is_already_spent_is_refused(begin: Begin, budget: dict[str, float]) -> None:
    trainer = begin(steps=8)
    finish(trainer)
    with pytest.raises(UsageError, match="the new budget"):
        resume(trainer.path, **budget)
    assert runs.read_run_file(trainer.path).train == trainer.run_file.train


def test_budget_in_minutes_becomes_steps_once_and_is_kept(begin: Begin) -> None:
    trainer = begin(steps=None, minutes=0.25)
    events = list(trainer.run())
    totals = {event.total_steps for event in of_type(events, BudgetFixed)}
    budget = runs.read_run_file(trainer.path).budget
    assert totals == {budget.total_steps} == {of_type(events, RunFinished)[0].step}
    assert budget.revisions == ((6, 30), (30, 30))  # the first after three seconds, and the end
    assert 13 <= of_type(events, RunFinished)[0].seconds <= 15


def busy_from(monkeypatch: pytest.MonkeyPatch, clock: Clock, step: int) -> None:
    """The machine becomes half as fast at ``step``."""
    slow = lambda t: setattr(clock, "step_seconds", 0.1 if t.progress.step >= step else 0.05)  # noqa: E731
    before_steps(monkeypatch, slow)


@pytest.mark.parametrize("busy_at", [60, 150, 270])
def test_budget_in_minutes_is_kept_when_the_machine_becomes_busy(
    begin: Begin, clock: Clock, monkeypatch: pytest.MonkeyPatch, busy_at: int
) -> None:
    busy_from(monkeypatch, clock, busy_at)
    finished = finish(begin(steps=None, minutes=0.25, hold=0.5))
    assert finished.seconds == pytest.approx(15, rel=0.05)
    assert finished.step == pytest.approx(busy_at + (300 - busy_at) / 2, abs=20)


def test_a_run_with_revised_plans_is_resumed_and_repeated_from_its_record_bit_for_bit(
    begin: Begin, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy_from(monkeypatch, clock, 100)
    settings = {"steps": None, "minutes": 0.25, "dropout": 0.3, "hold": 0.5}
    trainer = begin(**settings)
    for event in trainer.run():
        if isinstance(event, StepDone) and event.step > 120:
            break
    planned = trainer.run_file.budget.revisions
    assert planned[-1].step > 100
    finish(resume(trainer.path))
    budget = runs.read_run_file(trainer.path).budget
    assert budget.revisions[: len(planned)] == planned

    again = begin(**settings)
    runs.write_run_file(again.path, replace(again.run_file, budget=budget))
    monkeypatch.setattr(Clock, "__call__", lambda clock: 3 * clock.now)  # a slower machine
    finish(resume(again.path))
    assert runs.read_run_file(again.path).budget == budget
    assert everything(again.path)[0] == everything(trainer.path)[0]


def test_another_patience_leaves_the_budget_as_it_was_measured(begin: Begin) -> None:
    trainer = begin(steps=None, minutes=0.25)
    run_and_stop(trainer, 10)
    measured = runs.read_run_file(trainer.path).budget
    resumed = resume(trainer.path, patience=5)
    changed = runs.read_run_file(trainer.path)
    assert (changed.train.patience, changed.budget) == (5, measured)
    assert finish(resumed).step == measured.total_steps


@pytest.mark.parametrize("patience", [1, 3])
def test_run_ends_after_patience_validations_without_a_better_one(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    losses = chain([3.0, 2.0, 2.5, 2.0, 2.2, 2.1], repeat(2.3))  # the last is the final figure
    monkeypatch.setattr(validation, "quick_stateful_loss", lambda *_: next(losses))
    finished = finish(begin(steps=30, patience=patience))
    assert (finished.reason, finished.best_step) == ("patience", 6)
    assert finished.step == 6 + 6 * patience
    assert load(finished.path).file.training["step"] == 6


def test_patience_is_not_renewed_by_an_interruption(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = chain([3.0, 2.0, 2.5, 2.1], repeat(2.3))
    monkeypatch.setattr(validation, "quick_stateful_loss", lambda *_: next(losses))
    trainer = begin(steps=30, patience=2)
    run_and_stop(trainer, 14)
    finished = finish(resume(trainer.path))
    assert (finished.reason, finished.step) == ("patience", 18)


def test_run_killed_after_its_last_validation_trains_no_further(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = chain([3.0, 2.0, 2.5, 2.1], repeat(2.3))
    monkeypatch.setattr(validation, "quick_stateful_loss", lambda *_: next(losses))
    trainer = begin(steps=30, patience=2)
    for event in trainer.run():
        if isinstance(event, Saved) and event.step == 18:
            break
    finished = finish(resume(trainer.path))
    assert (finished.reason, finished.step) == ("patience", 18)
    assert finish(resume(trainer.path, patience=3)).step == 24


# -- trouble -----------------------------------------------------------------------------------


def poison(monkeypatch: pytest.MonkeyPatch, step: int, *, times: int = 100) -> None:
    """The weights are not finite when ``step`` is taken, the first ``times`` times."""
    left = iter(range(times))

    def spoil(trainer: Trainer) -> None:
        if trainer.progress.step == step - 1 and next(left, None) is not None:
            trainer.learner.model.output_bias.data.fill_(math.nan)

    before_steps(monkeypatch, spoil)


def test_loss_that_is_not_finite_rolls_back_and_goes_on_at_half_the_rate(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 9, times=1)
    events = list(begin(steps=30).run())
    (rolled_back,) = of_type(events, RolledBack)
    assert (rolled_back.step, rolled_back.to_step, rolled_back.rate_scale) == (9, 6, 0.5)
    rates = {event.step: event.learning_rate for event in of_type(events, StepDone)}
    share = schedule.rate_multiplier(9, 30, train_config())
    assert rates[10] == pytest.approx(0.5 * 0.02 * share)
    finished = of_type(events, RunFinished)[0]
    assert (finished.reason, finished.step) == ("budget", 30)
    assert is_finite(finished.path)


@pytest.mark.parametrize("step_seconds", [0.5, 0.15], ids=["at once", "two steps later"])
def test_run_that_diverges_again_and_again_ends_with_a_finite_checkpoint(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, clock: Clock, step_seconds: float
) -> None:
    clock.step_seconds = step_seconds
    poison(monkeypatch, 9)
    events = list(begin(steps=30).run())
    scales = [event.rate_scale for event in of_type(events, RolledBack)]
    assert scales == [0.5, 0.25, 0.125]
    finished = of_type(events, RunFinished)[0]
    assert (finished.reason, finished.unsaved) == ("diverged", None)
    assert finished.val_loss is not None
    assert is_finite(finished.path)
    assert resume(finished.path).progress.step == finished.step


@pytest.mark.parametrize("interrupt", [STOP, KILL], ids=["stopped", "killed"])
@pytest.mark.parametrize("keep", [1, 3])
def test_resumed_run_that_diverges_later_ends_as_one_that_was_not_interrupted(
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[Trainer, int], object],
    keep: int,
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.9)  # every second step
    monkeypatch.setattr(validation.HeldOut, "loss", lambda *_: 3.0)  # the best is of step 6
    settings = {"steps": 30, "dropout": 0.3, "reset_every": 3, "keep": keep}
    whole, cut = begin(**settings), begin(**settings)
    with monkeypatch.context() as once:
        poison(once, 17, times=1)
        events = list(whole.run())
    assert [event.to_step for event in of_type(events, RolledBack)] == [12]
    interrupt(cut, 15)
    resumed = resume(cut.path)
    assert resumed.progress.step > 12
    poison(monkeypatch, 17, times=1)
    events = list(resumed.run())
    assert [event.to_step for event in of_type(events, RolledBack)] == [12]
    assert everything(cut.path) == everything(whole.path)


def test_a_loss_that_exploded_in_one_step_rolls_back_whenever_it_is_reported(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    step = learner.Learner.step
    stops = iter([])

    def explode(own: learner.Learner, number: int, multiplier: float) -> tuple[Tensor, Tensor]:
        loss, norm = step(own, number, multiplier)
        return (loss + 100 if number == 8 and multiplier > 0.3 else loss), norm

    def stop(trainer: Trainer) -> None:
        if trainer.progress.step == 9 and next(stops, None):
            trainer.request_stop()

    monkeypatch.setattr(learner.Learner, "step", explode)
    before_steps(monkeypatch, stop)
    ends = []
    # Each step is reported; none before the next validation; none before a stop.
    for clock.step_seconds, stopped in ((0.5, False), (0.01, False), (0.01, True)):
        stops = iter([stopped])
        trainer = begin(steps=30, final_rate=1.0)
        events = list(trainer.run())
        if stopped:
            assert of_type(events, RunFinished)[0].reason == "stopped"
            events += resume(trainer.path).run()
        assert [event.to_step for event in of_type(events, RolledBack)] == [6, 6]
        assert of_type(events, RunFinished)[-1].step == 30
        ends.append(everything(trainer.path)[0])
    assert ends[0] == ends[1] == ends[2]


def test_a_run_whose_first_saves_failed_is_logged_from_its_beginning(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    with monkeypatch.context() as full:
        full.setattr(training, "write_checkpoint", disk_full)
        log = metrics.MetricsLog(trainer.path / runs.METRICS_FILE)
        for event in run_and_kill(trainer, 5):
            log.write(event)
        log.close()
    assert metrics.read_lines(trainer.path / runs.METRICS_FILE)
    assert resume(trainer.path).progress.step == 0
    assert metrics.read_lines(trainer.path / runs.METRICS_FILE) == []


def disk_full(*_: object, **__: object) -> Path:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_is_reported_and_training_goes_on(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "write_checkpoint", disk_full)
    events = list(begin(steps=12).run())
    assert [event.step for event in of_type(events, SaveFailed)][:2] == [0, 2]
    assert {event.reason for event in of_type(events, SaveFailed)} == {"no space left on device"}
    assert not of_type(events, Saved)
    finished = of_type(events, RunFinished)[0]
    assert (finished.reason, finished.step) == ("budget", 12)
    assert finished.unsaved == "no space left on device"


@pytest.mark.skipif(os.name == "nt", reason="an open folder stays in its place on Windows")
def test_a_run_whose_folder_comes_back_is_saved_there(begin: Begin) -> None:
    trainer = begin(steps=12)
    away = trainer.path.with_name("away")
    events = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, StepDone) and event.step == 1:
            trainer.path.rename(away)  # as a disk that is unplugged
        if isinstance(event, SaveFailed):
            away.rename(trainer.path)
    assert [event.step for event in of_type(events, SaveFailed)] == [2]
    assert of_type(events, RunFinished)[0].unsaved is None
    assert last_checkpoint(trainer.path).name == "step-00000012"


def test_what_cannot_be_replaced_is_named(begin: Begin) -> None:
    trainer = begin(steps=3)
    (trainer.path / pointers.POINTER_FILE).mkdir()
    finished = of_type(list(trainer.run()), RunFinished)[0]
    assert finished.unsaved == f"{pointers.POINTER_FILE}: is a directory"


def test_saving_is_tried_again_when_the_disk_has_room(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    with monkeypatch.context() as full:
        events = []
        full.setattr(training, "write_checkpoint", disk_full)
        for event in trainer.run():
            events.append(event)
            if isinstance(event, SaveFailed):
                full.undo()
    assert [event.step for event in of_type(events, SaveFailed)] == [0]
    assert of_type(events, RunFinished)[0].unsaved is None
    assert load(trainer.path).file.training["step"] == 12


def test_gradient_that_is_not_finite_under_a_finite_loss_is_never_saved(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = learner.nn.utils.clip_grad_norm_
    trainer = begin(steps=12, val_fraction=0)

    def spoiled(parameters: Iterator[Tensor], most: float) -> Tensor:
        parameters = list(parameters)
        if trainer.progress.step == 11:
            parameters[0].grad.fill_(math.nan)
        return clip(parameters, most)

    monkeypatch.setattr(learner.nn.utils, "clip_grad_norm_", spoiled)
    assert finish(trainer).reason == "diverged"
    assert is_finite(trainer.path)


def test_run_stopped_before_a_loss_that_is_not_finite_is_reported_saves_a_finite_checkpoint(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    clock.step_seconds = 0.01  # steps are reported by the twenty
    poison(monkeypatch, 8)
    trainer = begin(steps=30, val_fraction=0)
    before_steps(monkeypatch, lambda t: t.progress.step == 9 and t.request_stop())
    assert finish(trainer).reason == "stopped"
    assert is_finite(trainer.path)


def test_disk_that_is_full_when_the_budget_is_fixed_does_not_end_the_run(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    monkeypatch.setattr(training, "write_run_file", disk_full)
    assert finish(trainer).step == 12


def test_a_folder_that_can_be_neither_written_nor_listed_does_not_end_the_run(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    monkeypatch.setattr(training, "write_checkpoint", disk_full)
    monkeypatch.setattr(training, "sweep", disk_full)
    finished = list(trainer.run())[-1]
    assert isinstance(finished, RunFinished)
    assert finished.unsaved is not None


def test_a_run_that_is_stopped_before_it_is_validated_is_sampled_as_it_stands(
    begin: Begin, clock: Clock
) -> None:
    clock.step_seconds = 1.0
    trainer = begin(steps=3000, keep=2)
    run_and_stop(trainer, 4)
    assert trainer.progress.best_step == 0
    assert summarise(trainer.path).best_loss is None
    assert load(trainer.path).file.training["step"] == 4
    (trainer.path / pointers.POINTER_FILE).unlink()  # then it is found by looking
    assert load(trainer.path).file.training["step"] == 4
    trainer = resume(trainer.path)
    run_and_stop(trainer, 6)
    assert load(trainer.path).file.training["step"] == 6


def test_first_validation_of_a_trained_net_is_the_best_so_far_whatever_it_says(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 3.5, 3.4, 3.45, 3.3])
    monkeypatch.setattr(validation.HeldOut, "loss", lambda *_: next(losses, 4.0))
    trainer = begin(steps=40)
    found = of_type(list(trainer.run()), Evaluated)[:5]
    assert [event.improved for event in found] == [True, True, True, False, True]
    assert [event.best_loss for event in found] == [3.0, 3.5, 3.4, 3.4, 3.3]


@pytest.mark.parametrize("interrupted", [False, True])
def test_trained_weights_that_a_run_begins_with_count_as_the_best_until_it_has_better_ones(
    begin: Begin, trained_run: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    losses = iter([3.0, 3.5, 3.4, 2.9, 3.3])
    monkeypatch.setattr(validation.HeldOut, "loss", lambda *_: next(losses, 4.0))
    trainer = begin(steps=40, init_from=load(trained_run).path)
    if interrupted:
        run_and_stop(trainer, 9)
        assert load(trainer.path).file.training["step"] == 0
        trainer = resume(trainer.path)
    found = of_type(list(trainer.run()), Evaluated)[-5:]
    assert [(event.best_loss, event.best_step) for event in found][-1] == (2.9, 24)
    assert not found[0].improved or found[0].step == 0
    assert load(trainer.path).file.training["step"] == 24


def test_best_weights_that_are_saved_only_at_the_second_attempt_remain_the_best(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=12)
    with monkeypatch.context() as full:
        for event in trainer.run():
            if isinstance(event, Saved) and event.step == 0:
                full.setattr(training, "write_checkpoint", disk_full)
            if isinstance(event, SaveFailed) and event.step == 12:
                full.undo()
    assert load(trainer.path).file.training["step"] == trainer.progress.best_step == 12


def test_rolling_back_does_not_make_steps_look_slower(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 4, times=1)
    finished = finish(begin(steps=None, minutes=0.5))
    assert 28 <= finished.seconds <= 30


# -- a teacher ---------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [{"dropout": 0}, {"dropout": 0.5, "dropout_masks": 3}], ids=str)
def test_gradient_is_of_the_text_and_of_what_the_teacher_predicts(
    begin: Begin, masks: dict[str, float]
) -> None:
    teacher = load(finish(begin(steps=20, hidden=12)).path)
    frozen = {"learning_rate": 1e-9, "adam_rate": 1e-9, "clip": 1e9}
    trainer = begin(teacher=teacher.path, distillation=0.3, steps=2, **frozen, **masks)
    learner, config = trainer.learner, trainer.run_file.train
    trainer.take_step()
    read, _ = corpus_of(trainer.path).split(0.1)
    streams = np.stack([read[b * len(read) // 4 :][:33] for b in range(4)], axis=1).astype(np.int64)
    exact = Engine(teacher.file.config, dict(teacher.file.weights), np.float64)
    logits, _ = exact.forward(streams[:-1], exact.initial_state(4))
    taught = torch.from_numpy(logits[16:]).softmax(-1)  # its memory is of all 32 characters
    own = torch.nn.functional.one_hot(torch.from_numpy(streams[17:]), taught.shape[-1])
    wanted = (0.7 * own + 0.3 * taught).unsqueeze(1)
    drawn = torch.Generator()
    drawn.set_state(learner.tensors()["dropout"])
    chosen = learner.model.dropout_masks(config.dropout_masks, 4, config.dropout, drawn)
    mine, _ = learner.model(torch.from_numpy(streams[16:-1]), learner.state, chosen)
    each = mine.double().log_softmax(-1).reshape(16, config.dropout_masks, 4, -1)
    (-(wanted * each).sum(-1).mean()).backward()
    gradients = [p.grad for p in learner.model.parameters() if p.grad is not None]
    expected = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    learner.model.zero_grad()
    assert trainer.take_step().item() == pytest.approx(expected, rel=1e-4)


def test_reported_loss_leaves_out_the_teacher(begin: Begin) -> None:
    teacher = finish(begin(steps=20)).path
    losses = []
    for taught in ({}, {"teacher": load(teacher).path, "distillation": 0.5}):
        loss, _ = begin(steps=1, **taught).learner.step(0, 1.0)
        losses.append(loss.item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("interrupt", [STOP, KILL])
def test_taught_run_is_resumed_bit_for_bit_when_its_teacher_is_gone(
    begin: Begin, interrupt: Callable[[Trainer, int], object]
) -> None:
    teacher = finish(begin(steps=20))
    settings = {"teacher": load(teacher.path).path, "distillation": 0.5, "dropout": 0.3}
    whole, trainer = finish(begin(steps=30, **settings)), begin(steps=30, **settings)
    assert trainer.notices == ()
    interrupt(trainer, 17)
    shutil.rmtree(teacher.path)
    trainer = resume(trainer.path)
    assert 0 < trainer.progress.step <= 17
    assert everything(finish(trainer).path, "teacher_state") == everything(
        whole.path, "teacher_state"
    )
    alone = everything(finish(begin(steps=30, dropout=0.3)).path)[0]
    assert (
        everything(whole.path, "teacher_state")[0]["average/embedding"]
        != (alone["average/embedding"])
    )


def test_teacher_with_other_characters_is_refused_and_nothing_is_made(
    begin: Begin, trained_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"vocabulary differs from the text's \('é'\)"):
        begin(TEXT * 20 + "é", teacher=load(trained_run).path, distillation=0.5)
    assert not (tmp_path / "checkpoints").exists()


def test_damaged_teacher_is_noticed_and_the_remedy_named(begin: Begin) -> None:
    teacher = load(finish(begin(steps=5)).path).path
    trainer = begin(steps=30, teacher=teacher, distillation=0.5)
    run_and_stop(trainer, 7)
    weights = trainer.path / runs.TEACHER / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CharlstmError, match="checksum") as refused:
        resume(trainer.path)
    assert refused.value.hint.endswith(f"`init_from` {trainer.path}")


def test_teacher_that_knows_what_is_validated_on_is_noted(begin: Begin) -> None:
    def notes(**trained: float) -> tuple[str, ...]:
        teacher = load(finish(begin(steps=5, **trained)).path).path
        return begin(steps=5, teacher=teacher, distillation=0.5).notices

    assert notes(val_fraction=0.1) == notes(val_fraction=0.2) == ()
    for fraction in (0.0, 0.05):
        (note,) = notes(val_fraction=fraction)
        assert "this run's held-out text" in note


def test_teacher_of_another_text_is_noted(begin: Begin) -> None:
    teacher = load(finish(begin(TEXT * 21, steps=5)).path).path
    (note,) = begin(steps=5, teacher=teacher, distillation=0.5).notices
    assert "another text" in note


def test_first_estimate_counts_the_teacher(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load(finish(begin(steps=5)).path).path
    monkeypatch.setattr(new_run, "reading_seconds", lambda *_: 3600.0)
    guess = begin(steps=5, teacher=teacher, distillation=0.5).guessed_step_seconds
    assert guess is not None
    assert 3600 < guess < 3700


@pytest.mark.parametrize("taught", [True, False])
def test_a_teacher_and_its_weight_go_together(begin: Begin, taught: bool) -> None:
    teacher = load(finish(begin(steps=5)).path).path
    with pytest.raises(UsageError, match="`distillation` is"):
        begin(**({"teacher": teacher} if taught else {"distillation": 0.5}))


def test_a_teacher_may_be_of_another_cell_in_a_precision_that_both_have(begin: Begin) -> None:
    teacher = load(finish(begin(steps=5, cell="gru", hidden=6)).path).path
    assert finish(begin(steps=5, teacher=teacher, distillation=0.5)).reason == "budget"


def test_a_teacher_that_cannot_be_read_in_the_precision_is_refused_before_there_is_a_run(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = load(finish(begin(steps=5)).path).path
    trained = sorted(teacher.parents[1].iterdir())

    def missing_kernel(*_: object) -> None:  # which formats a cell has depends on the processor
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(LSTMLayer, "forward", missing_kernel)
    with pytest.raises(UsageError, match="does not support running the teacher"):
        begin(steps=5, cell="rnn", teacher=teacher, distillation=0.5)
    assert sorted(teacher.parents[1].iterdir()) == trained


# -- another vocabulary ------------------------------------------------------------------------


def test_model_begun_from_another_corpus_agrees_on_the_characters_both_have(
    begin: Begin, trained_run: Path
) -> None:
    source = load(trained_run)
    trainer = begin("!#0123 heron, sat down on the day that Tam rowed. " * 9, init_from=source.path)
    model = trainer.model_file()
    shared = [symbol for symbol in model.vocab.symbols if symbol in source.file.vocab.symbols]
    text = "".join(symbol for symbol in TEXT if symbol in shared)
    logits = []
    for file in (source.file, model):
        engine = Engine(file.config, dict(file.weights))
        read, _ = engine.forward(file.vocab.encode(text), engine.initial_state())
        logits.append(read[:, file.vocab.encode("".join(shared))])
    assert 10 < len(shared) < len(model.vocab)
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=1e-5)
    assert model.weights["embedding"][model.vocab.encode("!0")].any(axis=-1).all()
    assert trainer.notices == (
        f"{len(model.vocab) - len(shared)} of the text's {len(model.vocab)} characters are new to "
        "the model it starts from",
    )
    assert begin(TEXT, init_from=source.path).notices == ()


def test_corpus_without_a_common_character_is_refused(begin: Begin, trained_run: Path) -> None:
    with pytest.raises(UsageError, match="no character in common"):
        begin("0123456789" * 9, init_from=load(trained_run).path)


def test_only_ascii_is_shared_between_characters_and_bytes() -> None:
    config = model_config(2)
    source = ModelFile(config, Vocabulary("aé"), random_weights(config), "", {})
    fresh = random_weights(model_config(256), seed=1)
    weights = initial.transplant(source, Vocabulary(BYTE_SYMBOLS, "bytes"), fresh)
    taken = (weights["embedding"] != fresh["embedding"]).any(axis=-1)
    assert np.flatnonzero(taken).tolist() == [ord("a")]
