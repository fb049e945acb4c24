"""Chains of runs, each of which learns from the one before: begun, interrupted, continued."""

import errno
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT

import charlstm.cli.watch_run
import charlstm.generations
import charlstm.show.console
from charlstm.cli import run as command
from charlstm.errors import CharlstmError, UsageError
from charlstm.events import Event, RunFinished, RunStarted, StepDone
from charlstm.opening import TrainingFields
from charlstm.runs.catalogue import RunSummary, generations, list_runs, summarise
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.runs.pointers import read_pointers
from charlstm.runs.run import create_run, read_run_file
from charlstm.text.cache import corpora_folder

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


def begin(count: int = 3, **settings: Any) -> charlstm.TrainingRun:
    given = {**SMALL, "steps": 6, "generations": count, "progress": False, **settings}
    return charlstm.train("tales.txt", **given)


def bits(path: Path) -> bytes:
    last = read_pointers(path).last
    assert last is not None
    return (path / last / "train.safetensors").read_bytes()


def runs(*names: str) -> list[Path]:
    return [Path("checkpoints") / name for name in names]


def test_each_generation_is_a_run_that_learns_from_the_one_before() -> None:
    training = begin()
    events: list[Event] = list(training)
    started = [event for event in events if isinstance(event, RunStarted)]
    assert [event.name for event in started] == ["tales", "tales-2", "tales-3"]
    assert [(event.generation, event.generations) for event in started] == [(1, 3), (2, 3), (3, 3)]
    assert [event.reason for event in events if isinstance(event, RunFinished)] == ["budget"] * 3
    assert (training.path, training.step) == (Path("checkpoints/tales-3"), 6)
    taught = [read_run_file(path) for path in runs("tales", "tales-2", "tales-3")]
    assert [Path(run.teacher).parent.name if run.teacher else None for run in taught] == [
        None,
        "tales",
        "tales-2",
    ]
    assert [run.train.distillation > 0 for run in taught] == [False, True, True]
    assert {run.train.batch for run in taught} == {4}


def test_generations_are_what_the_same_commands_by_hand_give() -> None:
    begin(2).run()
    for name, teacher in ("first", None), ("second", "first"):
        charlstm.train(
            "tales.txt", name=name, teacher=teacher, steps=6, progress=False, **SMALL
        ).run()
    assert [bits(path) for path in runs("tales", "tales-2")] == [
        bits(path) for path in runs("first", "second")
    ]


def stop_at(generation: int, step: int, training: charlstm.TrainingRun) -> None:
    for event in training:
        if isinstance(event, RunStarted) and event.generation == generation and step == 0:
            training.stop()
        if isinstance(event, StepDone) and training.path.name.endswith(f"-{generation}"):
            training.stop()


def end_after(generation: int, training: charlstm.TrainingRun) -> None:
    """End as by a crash between this generation and the next."""
    for event in training:
        if isinstance(event, RunFinished) and event.path.name in ("tales", f"tales-{generation}"):
            return


INTERRUPTIONS: list[Callable[[charlstm.TrainingRun], None]] = [
    lambda training: stop_at(2, 0, training),
    lambda training: stop_at(3, 3, training),
    lambda training: end_after(1, training),
    lambda training: end_after(2, training),
]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
@pytest.mark.parametrize("name", [None, "tales"])
def test_a_chain_that_was_interrupted_goes_on_to_the_same_bits(
    interrupt: Callable[[charlstm.TrainingRun], None], name: str | None, folder: Path
) -> None:
    begin(name="whole", steps=40).run()
    interrupt(begin(steps=40))
    resumed = charlstm.resume(name or list_runs()[0], progress=False).run()
    assert resumed.path.name == "tales-3"
    assert bits(resumed.path) == bits(Path("checkpoints/whole-3"))
    assert len(list_runs()) == 6


def test_a_finished_chain_does_not_go_on() -> None:
    begin(2).run()
    assert charlstm.resume("tales", progress=False).run().path.name == "tales-2"
    assert len(list_runs()) == 2


def test_a_stopped_chain_begins_no_other_generation() -> None:
    training = begin()
    training.stop()
    assert training.finished is not None
    assert training.finished.reason == "stopped"
    assert len(list_runs()) == 1


def test_a_chain_goes_on_without_its_first_runs_and_under_other_names() -> None:
    stop_at(2, 0, begin(name="tales"))
    shutil.rmtree("checkpoints/tales")
    Path("checkpoints/tales-2").rename("checkpoints/renamed")
    resumed = charlstm.resume("renamed", progress=False).run()
    run = read_run_file(resumed.path)
    assert run.generation is not None
    assert (run.generation.number, run.teacher is not None) == (3, True)
    assert [path.name for path in generations(resumed.path)] == ["renamed", resumed.path.name]


def test_the_next_generation_is_made_next_to_the_run_that_is_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(2).run()
    shutil.rmtree("checkpoints/tales-2")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    finished = charlstm.resume(folder / "checkpoints" / "tales", progress=False).run()
    assert finished.path == folder / "checkpoints" / "tales-2"
    assert [path.name for path in generations(finished.path)] == ["tales", "tales-2"]
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("obstacle", ["text", "disk"])
@pytest.mark.usefixtures("cache")
def test_when_the_next_generation_cannot_begin_the_command_says_how_to_go_on(
    obstacle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path("moved.txt")

    def full(*arguments: Any) -> Path:
        raise CharlstmError("cannot create a run in checkpoints: no space", "work elsewhere")

    def first(*arguments: Any) -> Path:
        if obstacle == "text":
            Path("tales.txt").rename(moved)
            shutil.rmtree(corpora_folder())
        else:
            monkeypatch.setattr("charlstm.training.new_run.create_run", full)
        return create_run(*arguments)

    monkeypatch.setattr("charlstm.training.new_run.create_run", first)
    size = ["--hidden", "16", "--batch", "4", "--bptt", "16", "--device", "cpu"]
    arguments = ["train", "tales.txt", "--steps", "6", "--generations", "2", *size]
    assert command(arguments) == 1
    monkeypatch.setattr("charlstm.training.new_run.create_run", create_run)
    *_, reason, advice = capsys.readouterr().err.splitlines()
    assert reason.startswith("charlstm: ")
    words = [str(moved) if word == "TEXT" else word for word in shlex.split(advice)]
    assert command(words[1:]) == 0
    assert len(generations(Path("checkpoints/tales"))) == 2


def test_no_generation_learns_from_a_run_whose_last_checkpoint_was_not_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(folder: Path, model: ModelFile, state: ResumeState) -> Path:
        if model.training["step"] == 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return write_checkpoint(folder, model, state)

    monkeypatch.setattr("charlstm.training.trainer.write_checkpoint", full)
    finished = begin(2).run().finished
    assert finished is not None
    assert (finished.path, finished.unsaved) == (runs("tales")[0], "tales: no space left on device")
    assert list_runs() == runs("tales")
    monkeypatch.setattr("charlstm.training.trainer.write_checkpoint", write_checkpoint)
    assert charlstm.resume(progress=False).run().path == runs("tales-2")[0]


def test_a_chain_goes_on_on_a_machine_without_its_device_and_with_fewer_cores() -> None:
    begin(2, threads=1).run()
    shutil.rmtree("checkpoints/tales-2")
    path = Path("checkpoints/tales/run.json")
    content = json.loads(path.read_text())
    content["train"] |= {"device": "cuda", "threads": 1000}
    content["generation"]["settings"] |= {"device": "cuda", "threads": 1000}
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="device 'cuda' is not available"):
        charlstm.resume("tales", progress=False)
    resumed = charlstm.resume("tales", device="cpu", progress=False).run()
    assert resumed.path == Path("checkpoints/tales-2")
    assert read_run_file(resumed.path).train.device == "cpu"


def test_a_larger_budget_of_an_earlier_generation_is_its_own() -> None:
    begin(2).run()
    assert charlstm.resume("tales", steps=9, progress=False).run().path.name == "tales"
    assert [summarise(path).step for path in runs("tales", "tales-2")] == [9, 6]


def test_minutes_are_divided_by_what_the_earlier_generations_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = begin(3, steps=None, minutes=6.0, preset="small")
    assert read_run_file(training.path).train.minutes == pytest.approx(12 / 7)
    monkeypatch.setattr("charlstm.training.trainer.Trainer.run", ended)
    training.run()
    minutes = [read_run_file(path).train.minutes for path in runs("tales", "tales-2", "tales-3")]
    assert minutes == pytest.approx([12 / 7, 2.5, 4.0])


def ended(trainer: Any) -> Any:
    """A generation that took a minute."""
    from charlstm.training.trainer import Trainer

    yield from trainer._evaluate_and_save(0.0)
    yield RunFinished("patience", 0, 0.0, 60.0, 1.0, 0, trainer.path)
    assert isinstance(trainer, Trainer)


def test_two_processes_do_not_begin_the_same_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def start_run(*args: Any, **more: Any) -> Any:
        with pytest.raises(UsageError, match="is already training"):
            charlstm.resume("tales", progress=False)
        begun.append(more["name"])
        return original(*args, **more)

    original = charlstm.generations.start_run
    training = begin(2)
    monkeypatch.setattr("charlstm.generations.start_run", start_run)
    training.run()
    assert len(begun) == 1
    assert [path.name for path in generations(training.path)] == ["tales", "tales-2"]


def test_the_table_of_runs_shows_the_lineage(capsys: pytest.CaptureFixture[str]) -> None:
    begin(2).run()
    assert command(["runs"]) == 0
    table = capsys.readouterr().out
    assert "1/2" in table
    assert "2/2 from tales" in table
    assert command(["runs", "--json"]) == 0
    assert '"teacher": "tales"' in capsys.readouterr().out


def test_the_command_trains_generations_and_names_each(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 16 --embed 8 --layers 1 --batch 4 --bptt 16 --steps 6 --plain"
    assert command(f"train tales.txt --generations 2 {options}".split()) == 0
    shown = capsys.readouterr()
    assert "tales (generation 1 of 2):" in shown.err
    assert "tales-2 (generation 2 of 2):" in shown.err
    assert "sample -c checkpoints/tales-2" in shown.err
    assert shown.out.count("validation loss") == 1


def test_a_better_earlier_generation_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    stop_at(2, 1, begin(2, steps=30))
    assert command(["sample", "--length", "3"]) == 0
    shown = capsys.readouterr().err
    assert "using checkpoints/tales-2/" in shown
    assert shown.count("note: of its generations, tales has the lowest validation loss") == 1
    assert "to use it: -c checkpoints/tales\n" in shown
    assert command(["sample", "-c", "tales-2", "--length", "3"]) == 0
    assert "of its generations" not in capsys.readouterr().err
    shutil.rmtree("checkpoints/tales")  # which leaves no better one
    assert command(["sample", "--length", "3"]) == 0
    assert "of its generations" not in capsys.readouterr().err


def test_the_command_suggests_the_better_generation(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 16 --embed 8 --layers 1 --batch 4 --bptt 16 --steps 20 --adam-lr 5"
    assert command(f"train tales.txt --generations 3 {options} --plain".split()) == 0
    best = min(map(summarise, runs("tales", "tales-2", "tales-3")), key=loss_of)
    told = capsys.readouterr().err
    assert f"charlstm sample -c {best.path} " in told
    assert f"now try {best.name}, of all generations" in told


def loss_of(summary: RunSummary) -> float:
    assert summary.best_loss is not None
    return summary.best_loss


def test_notes_are_not_repeated_for_each_generation(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--hidden 16 --embed 8 --layers 1 --batch 4 --bptt 16 --steps 6 --warmup 5 --quiet"
    assert command(f"train tales.txt --generations 2 {options}".split()) == 0
    assert capsys.readouterr().err.count("note: using --warmup") == 1


@pytest.mark.parametrize("count", [0, 21])
def test_a_number_of_generations_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match="`generations`"):
        begin(count)
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("in_background", ["tales", "tales-2"])
def test_the_terminal_is_prepared_for_the_panel_of_each_generation_that_has_one(
    in_background: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    @contextmanager
    def suspension(redraw: Callable[[], None]) -> Iterator[None]:
        newest = max(Path("checkpoints").glob("tales*")).name
        shown.append(f"{newest} begins")
        yield
        shown.append(f"{newest} ends")

    def can_animate(_: object) -> bool:
        return Path("checkpoints/tales-2").exists() == (in_background == "tales")

    monkeypatch.setattr(charlstm.cli.watch_run, "suspension", suspension)
    monkeypatch.setattr(charlstm.show.console, "can_animate", can_animate)
    small = [f"--{name.partition('_')[0]}={value}" for name, value in SMALL.items()]
    small[1] = "--embed=8"
    assert command(["train", "tales.txt", "--generations=2", "--steps=6", *small]) == 0
    panel = "tales-2" if in_background == "tales" else "tales"
    assert shown == [f"{panel} begins", f"{panel} ends"]
