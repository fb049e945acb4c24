"""Several processes train one run: forks that are started as torchrun starts its workers."""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import TEXT, write

import charlstm
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import read_model, read_resume_state
from charlstm.runs.pointers import POINTER_FILE, read_pointers
from charlstm.runs.run import METRICS_FILE

if os.name == "nt" or not Path("/proc/self/fd").is_dir():
    pytest.skip("forks", allow_module_level=True)

from forks import Bench

PACKAGE = Path(charlstm.__file__).parent
SHAPE = "--hidden 12 --embed 6 --layers 2 --batch 4 --bptt 8 --precision float32 --device cpu"
LEARNING = (
    "--dropout 0.2 --dropout-masks 2 --reset-every 3 --patience 0 --plain --keep 30 --steps 10"
)
SETTINGS = f"{SHAPE} {LEARNING}".split()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    write(bench.text, TEXT * 100)
    yield bench
    bench.close()


def train(bench: Bench, name: str, *more: str, size: int = 2) -> list[str]:
    """Train in ``size`` processes, none of which may fail; what each of them printed."""
    arguments = ["train", "tales.txt", "--name", name, *SETTINGS, *more]
    return finish(bench, arguments, size)


def finish(bench: Bench, arguments: list[str], size: int) -> list[str]:
    # Size 0 is without torchrun.
    children = bench.start_group(arguments, size) if size else [bench.start(arguments)]
    codes = [child.wait() for child in children]
    assert codes == [0] * len(children), [child.told() for child in children]
    return [child.told() for child in children]


def validation_losses(bench: Bench, name: str) -> list[float]:
    text = (bench.folder / "checkpoints" / name / METRICS_FILE).read_text()
    return [line["val_loss"] for line in map(json.loads, text.splitlines()) if "val_loss" in line]


def arrays(bench: Bench, name: str) -> dict[str, np.ndarray]:
    """All arrays of a run's last checkpoint."""
    path = bench.folder / "checkpoints" / name
    last = path / str(read_pointers(path).last)
    return {**read_resume_state(last).tensors, **read_model(last).weights}


def stopped_copy(bench: Bench, name: str, copy: str) -> list[str]:
    """Copy a run as it was after step 6; the arguments that resume the copy."""
    path = bench.folder / "checkpoints" / copy
    shutil.copytree(path.with_name(name), path)
    (path / POINTER_FILE).unlink()  # it is restored from the checkpoints in the folder
    for later in ("step-00000007", "step-00000008", "step-00000009", "step-00000010"):
        shutil.rmtree(path / later)
    return ["train", "--resume", "-c", copy, "--plain"]


def assert_alike(bench: Bench, name: str, other: str) -> None:
    """Equal up to the order of summation; the dropout to the bit."""
    some, others = arrays(bench, name), arrays(bench, other)
    assert some.keys() == others.keys()
    for key, array in some.items():
        assert (array.dtype, array.shape) == (others[key].dtype, others[key].shape)
        np.testing.assert_allclose(others[key], array, 1e-3, 2e-4, err_msg=key)
    np.testing.assert_array_equal(others["dropout"], some["dropout"])
    both = (validation_losses(bench, run) for run in (name, other))
    np.testing.assert_allclose(*both, atol=2e-4)


@pytest.fixture(scope="module")
def runs(bench: Bench) -> tuple[str, str]:
    """The same run, trained without torchrun and by two processes."""
    train(bench, "alone", size=0)
    train(bench, "two")
    return "alone", "two"


# -- one run, whatever the number of processes -------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_train_as_one_does(bench: Bench, cell: str) -> None:
    for size in (0, 2):
        train(bench, f"{cell}-{size}", "--cell", cell, size=size)
    assert_alike(bench, f"{cell}-0", f"{cell}-2")


def test_two_processes_learn_from_a_teacher_as_one_does(
    bench: Bench, runs: tuple[str, str]
) -> None:
    for size in (0, 2):
        train(bench, f"taught-{size}", "--teacher", runs[0], size=size)
    assert "teacher_state" in arrays(bench, "taught-2")
    assert_alike(bench, "taught-0", "taught-2")


def test_two_processes_divide_the_segments_of_a_validation(bench: Bench) -> None:
    write(bench.folder / "long.txt", TEXT * 170)
    held_out = ["--val-fraction", "0.5", "--steps", "2"]  # over 32 x 256 characters
    for size in (0, 2):
        arguments = ["train", "long.txt", "--name", f"long-{size}", *SETTINGS, *held_out]
        finish(bench, arguments, size)
    both = (validation_losses(bench, f"long-{size}") for size in (0, 2))
    np.testing.assert_allclose(*both, atol=1e-5)


def test_two_processes_scale_the_loss_as_one_does(bench: Bench) -> None:
    for size in (0, 2):
        train(bench, f"half-{size}", "--cell", "rnn", "--precision", "float16", size=size)
    both = (validation_losses(bench, f"half-{size}") for size in (0, 2))
    np.testing.assert_allclose(*both, atol=0.02)
    scales = (arrays(bench, f"half-{size}")["loss_scale"] for size in (0, 2))
    np.testing.assert_array_equal(*scales)


def test_only_process_0_prints(bench: Bench, runs: tuple[str, str]) -> None:
    first, second = finish(bench, stopped_copy(bench, runs[1], "printed"), 2)
    assert "step 10" in first
    assert second == ""


@pytest.mark.parametrize(("run", "size"), [(0, 1), (1, 2)])
def test_resumed_with_as_many_processes_a_run_ends_with_the_same_bits(
    bench: Bench, runs: tuple[str, str], run: int, size: int
) -> None:
    finish(bench, stopped_copy(bench, runs[run], f"exact-{size}"), size)
    assert bench.last_bits(f"exact-{size}") == bench.last_bits(runs[run])


@pytest.mark.parametrize(("run", "size"), [(0, 2), (0, 4), (1, 0)])
def test_resumed_with_another_number_of_processes_a_run_goes_on_at_the_same_place(
    bench: Bench, runs: tuple[str, str], run: int, size: int
) -> None:
    name = f"other-{run}-{size}"
    finish(bench, stopped_copy(bench, runs[run], name), size)
    assert_alike(bench, runs[run], name)


# -- the command after a restart ---------------------------------------------------------------


def test_the_same_command_continues_the_run_of_its_name(
    bench: Bench, runs: tuple[str, str]
) -> None:
    stopped_copy(bench, runs[1], "again")
    train(bench, "again")
    assert bench.last_bits("again") == bench.last_bits(runs[1])
    assert not (bench.folder / "checkpoints" / "again-2").exists()


def test_another_command_does_not_continue_the_run_of_its_name(
    bench: Bench, runs: tuple[str, str]
) -> None:
    arguments = ["train", "tales.txt", "--name", runs[1], *SETTINGS, "--hidden", "16"]
    children = bench.start_group(arguments)
    assert [child.wait() for child in children] == [2, 2]
    assert "the run two exists, with --hidden 12 instead of 16" in children[0].told()
    assert children[1].told() == ""


def test_without_a_name_nothing_is_begun_that_torchrun_could_not_continue(bench: Bench) -> None:
    restarts = {"TORCHELASTIC_MAX_RESTARTS": "3"}
    child = bench.start_group(["train", "tales.txt", *SETTINGS], 1, environment=restarts)[0]
    assert child.wait() == 2
    assert "--name" in child.told()


# -- what is refused ---------------------------------------------------------------------------


def test_several_processes_do_not_train_on_a_list(bench: Bench) -> None:
    arguments = ["train", "tales.txt", "--lines", "--name", "list", *SETTINGS]
    children = bench.start_group(arguments, 2)
    assert [child.wait() for child in children] == [2, 2]
    assert "2 processes cannot train on a list together" in children[0].told()


def test_streams_that_cannot_be_divided_equally_are_refused(
    bench: Bench, runs: tuple[str, str]
) -> None:
    children = bench.start_group(["train", "tales.txt", "--name", "three", *SETTINGS], 3)
    assert [child.wait() for child in children] == [2, 2, 2]
    assert "--batch is 4, but 3 processes must divide it equally; set it to 3" in children[0].told()
    children = bench.start_group(stopped_copy(bench, runs[1], "odd"), 3)
    assert [child.wait() for child in children] == [2, 2, 2]
    assert "start 2 processes" in "".join(child.told() for child in children)


@pytest.mark.parametrize("same", [True, False])
def test_machines_encode_their_own_copy_of_a_text_which_must_be_the_same(
    bench: Bench, same: bool
) -> None:
    orders = []
    for machine in (0, 1):
        folder = bench.folder / f"machine-{machine}-{same}"
        write(folder / "tales.txt", TEXT * 50 + ("" if same else str(machine)))
        cache = {"CHARLSTM_CACHE": str(folder / "cache")}
        ranks = {"GROUP_RANK": str(machine), "LOCAL_RANK": "0"}
        orders.append({"folder": folder, "environment": cache | ranks})
    arguments = ["train", "tales.txt", "--name", "shared", *SETTINGS]
    children = bench.start_group(arguments, orders=orders)
    assert [child.wait() for child in children] == ([0, 0] if same else [1, 1])
    assert ("have different texts" in children[0].told()) != same
    assert children[1].told() == ""
    assert (bench.folder / f"machine-0-{same}" / "checkpoints").exists() == same
    assert not (bench.folder / f"machine-1-{same}" / "checkpoints").exists()


def test_failure_of_another_process_names_it_and_its_host(bench: Bench) -> None:
    lost = {"environment": {"GROUP_RANK": "1", "LOCAL_RANK": "0"}, "folder": bench.folder / "empty"}
    lost["folder"].mkdir()
    arguments = ["train", "tales.txt", "--name", "lost", *SETTINGS]
    children = bench.start_group(arguments, orders=[{}, lost])
    assert [child.wait() for child in children] == [1, 1]
    assert children[0].told() == ""
    assert f"process 1 on {socket.gethostname()}: " in children[1].told()


# -- without torchrun --------------------------------------------------------------------------

ALONE = """
import sys
from charlstm.cli import run
code = run(sys.argv[1:])
sys.exit(code or "charlstm.training.distributed" in sys.modules)
"""


def test_a_run_without_torchrun_does_not_load_what_connects_processes(bench: Bench) -> None:
    """torch itself imports torch.distributed; charlstm does so in one module."""
    command = [sys.executable, "-W", "ignore", "-c", ALONE, "train", "tales.txt", *SETTINGS]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run(command, cwd=bench.folder, env=environment, check=True, capture_output=True)
    importing = {
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "torch.distributed" in ast.unparse(node)
    }
    assert importing == {Path("training/distributed.py")}
