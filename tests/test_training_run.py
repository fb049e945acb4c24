"""``charlstm.train`` and ``charlstm.resume``: events, stops, interrupts, curves, what is shown."""

import inspect
import io
import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TEXT
from rich.console import Console

import charlstm
from charlstm.cli import run as command
from charlstm.config import TrainConfig
from charlstm.errors import UsageError
from charlstm.events import Event, RunFinished, RunStarted
from charlstm.net.model_config import ModelConfig
from charlstm.opening import BudgetFields, TrainingFields
from charlstm.runs import pointers
from charlstm.runs import run as runs

SMALL: TrainingFields = {
    "hidden_size": 16,
    "embedding_size": 8,
    "layers": 1,
    "batch": 4,
    "bptt": 16,
    "precision": "float32",
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a small text in it."""
    (tmp_path / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(steps: int = 6, **settings: Any) -> charlstm.TrainingRun:
    return charlstm.train("tales.txt", **{**SMALL, "steps": steps, "progress": False, **settings})


def interrupt_at(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send what a notebook sends to interrupt a cell, at this step."""
    from charlstm.training.trainer import Trainer

    take_step = Trainer.take_step

    def step(self: Trainer) -> object:
        norm = take_step(self)
        if self.progress.step == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return norm

    monkeypatch.setattr(Trainer, "take_step", step)


def last_checkpoint(path: Path) -> bytes:
    last = pointers.read_pointers(path).last
    assert last is not None
    return (path / last / "train.safetensors").read_bytes()


def test_a_run_that_was_left_open_has_to_be_stopped_before_it_is_resumed() -> None:
    training = begin()
    next(training)
    with pytest.raises(UsageError, match="this process is already training"):
        charlstm.resume("tales", progress=False)
    training.stop()
    assert charlstm.resume("tales", progress=False).run().step == 6


def test_a_run_is_an_iterator_of_its_events() -> None:
    training = begin()
    assert (training.path, training.step) == (Path("checkpoints/tales"), 0)
    events: list[Event] = list(training)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert training.finished is events[-1]
    assert (training.finished.reason, training.step) == ("budget", 6)
    assert list(training) == []


def test_the_function_makes_the_run_that_the_command_makes() -> None:
    options = "--hidden 16 --embed 8 --layers 1 --batch 4 --bptt 16 --precision float32"
    words = f"train tales.txt --steps 6 --device cpu {options} --quiet --name command"
    assert command(words.split()) == 0
    training = begin(name="function").run()
    made = training.path.with_name("command")
    assert last_checkpoint(training.path) == last_checkpoint(made)
    settings = [runs.read_run_file(path) for path in (made, training.path)]
    assert settings[0].train == settings[1].train
    assert settings[0].model == settings[1].model


def test_the_model_is_the_best_checkpoint_and_writes() -> None:
    training = begin().run()
    model = training.model
    assert model.path.name == pointers.read_pointers(training.path).best
    assert len(str(model.generate(length=9, seed=1))) == 9


def test_the_run_shows_how_its_gates_drifted() -> None:
    figure = begin(steps=8).run().model.view("drift", gate="forget")
    assert "forget" in str(figure)
    assert figure._repr_html_().count("<svg") >= 1


def test_the_history_is_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.runs.metrics.STEP_SECONDS", 0.0)
    history = begin(steps=8).run().history
    assert history.val_step.tolist() == sorted(set(history.val_step.tolist()))
    assert history.val_step[-1] == 8
    assert history.val_loss.dtype == np.float64
    assert history.gates == ("input", "forget", "output")
    assert history.gate_left.shape == (len(history.val_step), 1, 3)
    assert (history.gate_left + history.gate_right <= 1).all()
    assert history.step[-1] == 8
    assert len(history.step) == len(history.loss) == len(history.seconds)


def test_stop_saves_and_ends_the_run_and_resume_goes_on_to_the_same_bits() -> None:
    whole = begin(12, name="whole").run()
    training = begin(12)
    for event in training:
        if isinstance(event, RunStarted):
            training.stop()
    assert training.finished is not None
    assert training.finished.reason == "stopped"
    resumed = charlstm.resume(training.path, progress=False).run()
    assert resumed.finished is not None
    assert (resumed.finished.reason, resumed.step) == ("budget", 12)
    assert last_checkpoint(resumed.path) == last_checkpoint(whole.path)


def test_another_thread_stops_a_run() -> None:
    training = begin(100_000)
    thread = threading.Thread(target=training.run)
    thread.start()
    while not training.step:
        pass
    training.stop()
    thread.join()
    assert training.finished is not None
    assert training.finished.reason == "stopped"


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_an_interrupt_saves_the_run_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begin(12, name="whole").run()
    training = begin(12)
    interrupt_at(5, monkeypatch)
    assert training.run() is training
    assert training.finished is not None
    assert (training.finished.reason, training.step) == ("stopped", 5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = charlstm.resume(progress=False).run()
    assert last_checkpoint(resumed.path) == last_checkpoint(whole.path)


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_a_second_interrupt_is_one() -> None:
    training = begin(100_000)

    def handler_of_nobody() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    training._trainer.take_step = handler_of_nobody  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyboardInterrupt):
        training.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_nobody_holds_any_more_can_be_trained_by_others() -> None:
    training = begin()
    next(training)
    with pytest.raises(UsageError, match="already training"):
        charlstm.resume(training.path, progress=False)
    del training
    assert charlstm.resume("tales", progress=False).run().step == 6


def test_a_budget_is_extended_and_nothing_else() -> None:
    path = begin().run().path
    assert charlstm.resume(path, steps=9, progress=False).run().step == 9
    with pytest.raises(TypeError, match="hidden_size"):
        charlstm.resume(path, hidden_size=8, progress=False)  # type: ignore[call-arg]


def test_a_run_stays_in_its_folder_when_the_working_directory_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = begin(6).run()
    kept = tree(other.path)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    monkeypatch.chdir(folder / "elsewhere")
    training = begin(12, keep=1)
    assert training.path == other.path  # of the same name, in two folders
    next(training)
    monkeypatch.chdir(folder)
    training.run()
    assert tree(other.path) == kept
    assert training.finished is not None
    assert training.finished.unsaved is None
    assert training.history.val_step[-1] == 12
    assert (folder / "elsewhere" / training.path / "step-00000012").is_dir()


def tree(path: Path) -> dict[str, bytes]:
    """The content of all files below ``path``."""
    return {str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.usefixtures("cache")
def test_a_moved_text_is_named(folder: Path) -> None:
    path = begin().run().path
    (folder / "tales.txt").rename("moved.txt")
    assert command(["runs", "prune", "--cache", "--yes"]) == 0
    with pytest.raises(charlstm.CharlstmError, match="give `text`"):
        charlstm.resume(path, progress=False)
    assert charlstm.resume(path, text="moved.txt", steps=7, progress=False).run().step == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 0}, "`hidden_size` is 0"),
        ({"minutes": 1}, "2 budgets"),
        ({"preset": "giant"}, "`preset` is 'giant'"),
        ({"init_from": "x"}, "`hidden_size`, .*`init_from` takes"),
        ({"name": 5}, "`name` is 5, but must be a string"),
        ({"encoding": 5}, "unknown encoding 5"),
        ({"separator": "\udcff"}, r"`separator` is '\\udcff', but must be text"),
    ],
)
def test_wrong_settings_name_the_fields_and_make_nothing(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        begin(**settings)
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("text", [5, ["tales.txt", 5], b"tales.txt"])
def test_a_text_is_one_path_or_several(text: Any) -> None:
    with pytest.raises(UsageError, match=r"`text` is .*, but must be a path, or several"):
        charlstm.train(text, progress=False)
    with pytest.raises(UsageError, match=r"`text` is .*, but must be a path, or several"):
        charlstm.resume(text=text, progress=False)


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="hiden"):
        begin(hiden=3)


def test_keywords_are_the_fields_of_the_configurations() -> None:
    known = {f.name for kind in (ModelConfig, TrainConfig) for f in fields(kind)}
    assert set(inspect.get_annotations(TrainingFields)) == known - {"vocab_size", "end"}
    assert set(BudgetFields.__annotations__) < set(TrainingFields.__annotations__)


# -- what is shown -------------------------------------------------------------------------------


def test_lines_are_shown_where_nothing_can_be_redrawn(capsys: pytest.CaptureFixture[str]) -> None:
    begin(progress=True).run()
    shown = capsys.readouterr()
    assert "tales: lstm 1×16" in shown.err
    assert "step 6  validation" in shown.err
    assert shown.out == ""


def test_without_progress_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    begin(batch=4000).run()
    assert capsys.readouterr() == ("", "")


def test_notes_name_fields(capsys: pytest.CaptureFixture[str]) -> None:
    begin(batch=4000, progress=True)
    assert "the text is too short for `batch` 4000" in capsys.readouterr().err


def test_a_terminal_gets_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    monkeypatch.setattr("charlstm.show.console.stderr_console", lambda: console)
    monkeypatch.setattr("charlstm.show.console.can_animate", lambda _: True)
    begin(progress=True).run()
    assert "sample" in screen.getvalue()


def test_a_run_says_where_it_stands() -> None:
    training = begin()
    assert "step 0 of 6" in repr(training)
    training.run()
    assert "ended budget" in repr(training)
    assert "<td" in training._repr_html_()


def test_importing_charlstm_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys, charlstm; assert callable(charlstm.train);"
        "print([n for n in ('torch', 'rich', 'IPython', 'numpy') if n in sys.modules])"
    )
    root = str(Path(charlstm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
