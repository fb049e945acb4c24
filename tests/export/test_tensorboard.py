"""What TensorBoard's own reader finds in the files of a run."""

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT

import charlstm
from charlstm.cli import run
from charlstm.runs.metrics import read_lines

pytest.importorskip("tensorboardX")
accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

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
    found = accumulators.EventAccumulator(str(below))
    found.Reload()
    return found


def scalars(below: Path, name: str) -> list[tuple[int, float]]:
    return [(e.step, pytest.approx(e.value, rel=1e-6)) for e in read(below).Scalars(name)]


def samples(below: Path) -> dict[int, str]:
    events = read(below).Tensors("sample/text_summary")
    return {e.step: e.tensor_proto.string_val[0].decode() for e in events}


def logged(name: str, event: str, field: str) -> list[tuple[int, float]]:
    lines = read_lines(Path("checkpoints") / name / "metrics.jsonl")
    return [(line["step"], line[field]) for line in lines if line["event"] == event]


def check(below: Path, name: str) -> None:
    assert scalars(below, "loss/validation") == logged(name, "evaluated", "val_loss")
    assert scalars(below, "loss/training") == logged(name, "step_done", "loss")
    tags = read(below).Tags()["scalars"]
    for part in ("shut", "open", "mean"):
        assert f"gates_{part}/layer_1_forget" in tags
    assert {"learning_rate", "gradient_norm", "characters_per_second"} <= set(tags)


def test_a_run_in_training_is_written() -> None:
    assert run(["train", "tales.txt", *SMALL, "--steps", "8", "--tensorboard", "board"]) == 0
    check(Path("board/tales"), "tales")
    found = samples(Path("board/tales"))
    assert list(found) == [step for step, _ in logged("tales", "evaluated", "val_loss")]
    assert all(line.startswith("    ") for text in found.values() for line in text.split("\n"))


def test_a_resumed_run_goes_on_in_the_same_folder() -> None:
    words = ["train", "tales.txt", *SMALL, "--steps", "4", "--tensorboard", "board"]
    assert run(words) == 0
    assert run(["train", "--resume", "--quiet", "--steps", "8", "--tensorboard", "board"]) == 0
    steps = [step for step, _ in scalars(Path("board/tales"), "loss/validation")]
    assert (steps, steps[-1]) == (sorted(set(steps)), 8)


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
