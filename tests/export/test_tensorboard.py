"""What TensorBoard's own reader finds in the files of a run."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT

import charlstm
from charlstm.cli import run
from charlstm.events import RolledBack, StepDone
from charlstm.export.tensorboard import TensorBoardLog, write_run
from charlstm.runs.lock import lock
from charlstm.runs.metrics import MetricsLog, read_lines
from charlstm.runs.pointers import read_pointers

pytest.importorskip("tensorboardX")
accumulator = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_accumulator")

SMALL = (  # noqa: SIM905
    "--hidden 16 --embed 8 --layers 1 --batch 4 --bptt 16 --precision float32 --device cpu --quiet"
).split()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("charlstm.runs.metrics.STEP_SECONDS", 0.0)
    return tmp_path


def read(below: Path) -> Any:
    """What TensorBoard shows of a folder; it keeps every value as a tensor."""
    found = accumulator.EventAccumulator(str(below))
    found.Reload()
    return found


def scalars(below: Path, name: str) -> list[tuple[int, float]]:
    events = read(below).Tensors(name)
    return [(e.step, pytest.approx(e.tensor_proto.float_val[0], rel=1e-6)) for e in events]


def samples(below: Path) -> dict[int, str]:
    events = read(below).Tensors("sample/text_summary")
    return {e.step: e.tensor_proto.string_val[0].decode() for e in events}


def logged(name: str, event: str, field: str) -> list[tuple[int, float]]:
    lines = read_lines(Path("checkpoints") / name / "metrics.jsonl")
    return [(line["step"], line[field]) for line in lines if line["event"] == event]


def check(below: Path, name: str) -> None:
    assert scalars(below, "loss/validation") == logged(name, "evaluated", "val_loss")
    assert scalars(below, "loss/training") == logged(name, "step_done", "loss")
    tags = read(below).Tags()["tensors"]
    for part in ("shut", "open", "mean"):
        assert f"gates_{part}/layer_1_forget" in tags
    assert {"learning_rate", "gradient_norm", "characters_per_second"} <= set(tags)


def test_a_run_in_training_is_written() -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "8", "--tensorboard", "board"]) == 0
    check(Path("board/tales"), "tales")
    found = samples(Path("board/tales"))
    assert list(found) == [step for step, _ in logged("tales", "evaluated", "val_loss")]
    assert all(line.startswith("    ") for text in found.values() for line in text.split("\n"))


def step_done(step: int, loss: float = 2.0) -> StepDone:
    return StepDone(step, 9, 0.0, loss, 1e-3, 1.0, 1e4, 0.0)


def rolled_back(step: int, to_step: int) -> RolledBack:
    return RolledBack(step, to_step, 0.5, "the loss is not finite")


def steps_are_in_order(below: Path) -> None:
    events = read(below)
    for name in events.Tags()["tensors"]:
        steps = [event.step for event in events.Tensors(name)]
        assert steps == sorted(set(steps)), name


def resume(steps: int = 8) -> None:
    words = ["train", "--resume", "--quiet", "--steps", str(steps), "--tensorboard", "board"]
    assert run(words) == 0


def test_a_run_of_a_larger_budget_continues_in_the_same_folder() -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "4", "--tensorboard", "board"]) == 0
    resume()
    check(Path("board/tales"), "tales")
    steps_are_in_order(Path("board/tales"))
    assert len(list(Path("board/tales").iterdir())) == 2


def test_an_interrupted_run_continues_at_its_step() -> None:
    settings = {"hidden_size": 16, "batch": 4, "bptt": 16, "precision": "float32"}
    training = charlstm.train("tales.txt", steps=8, progress=False, tensorboard="board", **settings)
    for event in training:
        if isinstance(event, StepDone) and event.step == 4:
            training.stop()
    resume()
    check(Path("board/tales"), "tales")
    steps_are_in_order(Path("board/tales"))
    assert len(list(Path("board/tales").iterdir())) == 2


def test_a_run_resumed_from_an_earlier_checkpoint_shows_its_repeated_steps_once() -> None:
    words = [*SMALL, "--steps", "8", "--keep", "5", "--tensorboard", "board"]
    assert run(["train", "tales.txt", *words]) == 0
    pointers = read_pointers(Path("checkpoints/tales"))
    assert pointers.last is not None
    (Path("checkpoints/tales") / pointers.last / "train.safetensors").write_bytes(b"")
    before = len(samples(Path("board/tales")))
    resume()
    check(Path("board/tales"), "tales")
    steps_are_in_order(Path("board/tales"))
    assert len(samples(Path("board/tales"))) == before


def test_a_new_run_of_an_old_name_supersedes_the_old_one() -> None:
    words = ["train", "tales.txt", *SMALL, "--tensorboard", "board"]
    assert run([*words, "--steps", "8"]) == 0
    shutil.rmtree("checkpoints/tales")
    assert run([*words, "--steps", "4"]) == 0
    check(Path("board/tales"), "tales")
    steps_are_in_order(Path("board/tales"))


def test_steps_that_are_taken_again_after_diverging_are_shown_once() -> None:
    events = (step_done(1), step_done(2), step_done(3), rolled_back(3, 1), step_done(2, 0.5))
    folder = Path("checkpoints/diverged")
    folder.mkdir(parents=True)
    log, metrics = TensorBoardLog(Path("board")), MetricsLog(folder / "metrics.jsonl")
    for seconds, event in enumerate(events):
        if isinstance(event, StepDone):
            event = replace(event, seconds=float(seconds))
        log.write(event)
        metrics.write(event)
    log.close()
    metrics.close()
    assert scalars(Path("board"), "loss/training") == [(1, 2.0), (2, 0.5)]
    log = TensorBoardLog(Path("again"))
    write_run(folder, log)
    log.close()
    assert scalars(Path("again"), "loss/training") == [(1, 2.0), (2, 0.5)]


def test_a_finished_run_is_written_with_a_sample_of_each_checkpoint() -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "8"]) == 0
    assert run(["runs", "tensorboard", "tales"]) == 0
    check(Path("tensorboard/tales"), "tales")
    kept = Path("checkpoints/tales").glob("step-*")
    assert sorted(samples(Path("tensorboard/tales"))) == sorted(int(p.name[5:]) for p in kept)


def test_a_run_is_not_written_twice_without_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "2"]) == 0
    assert run(["runs", "tensorboard"]) == 0
    before = scalars(Path("tensorboard/tales"), "loss/validation")
    capsys.readouterr()
    assert run(["runs", "tensorboard"]) == 2
    assert "tensorboard/tales is already there" in capsys.readouterr().err
    assert run(["runs", "tensorboard", "--force"]) == 0
    assert scalars(Path("tensorboard/tales"), "loss/validation") == before


def test_force_replaces_only_files_of_charlstm_and_only_by_whole_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "2"]) == 0
    assert run(["runs", "tensorboard"]) == 0
    below = Path("tensorboard/tales")
    (before,) = below.iterdir()
    model = next(Path("checkpoints/tales").glob("step-*2")) / "model.json"
    whole = model.read_bytes()
    model.write_bytes(whole + b" ")
    assert run(["runs", "tensorboard", "--force"]) == 1
    assert list(below.iterdir()) == [before]
    model.write_bytes(whole)
    with lock(Path("checkpoints/tales")):  # it is in training, and may write to that file
        assert run(["runs", "tensorboard", "--force"]) == 2
    assert list(below.iterdir()) == [before]
    assert run(["runs", "tensorboard", "--force"]) == 0
    assert len(list(below.iterdir())) == 1
    assert not before.exists()
    foreign = below / "events.out.tfevents.1700000000.host.4711.0"
    foreign.write_bytes(b"of PyTorch")
    capsys.readouterr()
    assert run(["runs", "tensorboard", "--force"]) == 2
    assert "tensorboard/tales has files of another program" in capsys.readouterr().err
    assert foreign.read_bytes() == b"of PyTorch"


def test_no_folder_is_named_like_the_home_directory_in_shells(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(folder / "home"))
    words = ["train", "tales.txt", *SMALL, "--steps", "2", "--tensorboard=~/a"]
    assert run(words) == 0
    assert run(["runs", "tensorboard", "--dir=~/b"]) == 0
    check(folder / "home" / "a" / "tales", "tales")
    check(folder / "home" / "b" / "tales", "tales")
    assert not Path("~").exists()


def test_a_function_writes_it_too() -> None:
    charlstm.train(
        "tales.txt", steps=2, hidden_size=16, batch=4, bptt=16, progress=False, tensorboard="b"
    ).run()
    check(Path("b/tales"), "tales")


def test_a_missing_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert run(["train", "tales.txt", *SMALL, "--steps", "2", "--tensorboard", "board"]) == 1
    assert "pip install 'charlstm[tensorboard]'" in capsys.readouterr().err
    assert not Path("checkpoints").exists()
