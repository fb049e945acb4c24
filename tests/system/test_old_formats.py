"""A run of each format that there ever was can be read, sampled and gone on with."""

import hashlib
import shutil
from pathlib import Path

import charlstm
from charlstm.cli import run
from charlstm.runs import checkpoint, pointers
from charlstm.runs import run as runs

# One folder for each format, written by the charlstm of its time; they are never written again.
FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"


def test_every_format_has_a_run_that_is_kept() -> None:
    assert (checkpoint.FORMAT, runs.RUN_FORMAT) == (1, 1)


def test_format_1_has_the_weights_it_had() -> None:
    model = charlstm.load(FORMAT_1)
    assert model.file.config.describe() == "lstm 1×8"
    assert model.file.training["step"] == 312
    digest = hashlib.sha256()
    for name in sorted(model.file.weights):
        digest.update(model.file.weights[name].tobytes())
    assert digest.hexdigest() == "d086db1caec64fca9503fc281cd1933472eca54d0fcf200560c93f023ee88cb3"


def test_format_1_writes_what_it_wrote() -> None:
    text = "".join(charlstm.load(FORMAT_1).generate("NED", temperature=0.0, length=28))
    assert text == "He hold wnd It hold wnd It h"


def test_format_1_keeps_the_schedule_it_began_with() -> None:
    train = runs.read_run_file(FORMAT_1).train
    assert (train.hold, train.dropout_masks, train.distillation) == (0.0, 1, 0.0)
    assert (train.row_averaging, train.reset_every) == (0.0, 0)


def test_format_1_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(FORMAT_1, path)
    resumed = ["train", str(path / "tales.txt"), "--resume", "-c", str(path), "--steps", "320"]
    assert run([*resumed, "--quiet"]) == 0
    last = pointers.read_pointers(path).last
    assert last is not None
    training = checkpoint.read_model(path / last).training
    assert training["step"] == 320
    assert training["best_loss"] < 0.86
