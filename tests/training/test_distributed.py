"""Several processes train one run: forks that are started as torchrun starts its workers."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import TEXT, write

import charlstm
from charlstm.net.spec import CELLS
from charlstm.runs.run import METRICS_FILE, read_pointers

if os.name == "nt" or not Path("/proc/self/fd").is_dir():
    pytest.skip("forks", allow_module_level=True)

from forks import Bench

PACKAGE = Path(charlstm.__file__).parent
SETTINGS = (
    "--hidden 12 --embed 6 --layers 2 --batch 4 --bptt 8 --precision float32 --device cpu "
    "--dropout 0.2 --dropout-masks 2 --reset-every 3 --patience 0 --plain --keep 30 --steps 10"
).split()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    write(bench.text, TEXT * 100)  # long enough for a validation in segments
    yield bench
    bench.close()


def train(bench: Bench, name: str, *more: str, size: int = 2) -> list[str]:
    """Train in ``size`` processes, none of which may fail; what each of them printed."""
    arguments = ["train", "tales.txt", "--name", name, *SETTINGS, *more]
    return finish(bench, arguments, size)


def finish(bench: Bench, arguments: list[str], size: int) -> list[str]:
    if size == 0:  # without torchrun
        children = [bench.start(arguments)]
    else:
        children = bench.start_group(arguments, size)
    codes = [child.wait() for child in children]
    assert codes == [0] * len(children), [child.told() for child in children]
    return [child.told() for child in children]


def losses(bench: Bench, name: str) -> list[float]:
    """The training and validation losses of a run."""
    text = (bench.folder / "checkpoints" / name / METRICS_FILE).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line.get("loss", line.get("val_loss")) for line in lines if "step" in line][1:]


def numbers(bench: Bench, name: str) -> dict[str, np.ndarray]:
    """All arrays of a run's last checkpoint."""
    from charlstm.runs.checkpoint import read_model, read_resume_state

    path = bench.folder / "checkpoints" / name
    last = path / str(read_pointers(path).last)
    return {**read_resume_state(last).tensors, **read_model(last).weights}


@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_train_as_one_does(bench: Bench, cell: str) -> None:
    for size in (0, 2):
        train(bench, f"{cell}-{size}", "--cell", cell, size=size)
    one, two = (numbers(bench, f"{cell}-{size}") for size in (0, 2))
    assert one.keys() == two.keys()
    for name, array in one.items():
        assert array.dtype == two[name].dtype
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=2e-4, err_msg=name)
    np.testing.assert_array_equal(two["dropout"], one["dropout"])
