"""A run that is stopped, however rudely, goes on as if nothing had happened."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TEXT
from safetensors.numpy import load_file

import charlstm
from charlstm.cli import run
from charlstm.cli.output import Output
from charlstm.runs import pointers
from charlstm.runs.metrics import read_lines

termios = pytest.importorskip("termios")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")

STEPS = 300
SETTINGS = (
    "--hidden 16 --embed 8 --batch 4 --bptt 16 --precision float32 --device cpu --patience 0 "
    f"--steps {STEPS}"
).split()
LONGEST_WAIT = 60.0

# Slow enough to be stopped midway on any machine, and with checkpoints from the start on: the
# speed is measured at once. Neither has an influence on the weights.
SLOW = """
import time
from charlstm.training import schedule, trainer
schedule.MEASURED_SECONDS = 0.0
take_step = trainer.Trainer.take_step
def take_step_slowly(self):
    time.sleep(0.01)
    return take_step(self)
trainer.Trainer.take_step = take_step_slowly
"""
# Hangs, besides, where a run that was asked to stop would save and end.
HANGING = (
    SLOW
    + """
import pathlib
def hang(self, reason, begun):
    pathlib.Path("hanging").touch()
    while True:
        time.sleep(60)
    yield
trainer.Trainer._finish = hang
"""
)
# Whose stderr is the terminal that its keys come from, too.
OWN_TERMINAL = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
"""
IN_BACKGROUND = (
    OWN_TERMINAL
    + """
import charlstm.cli.echo as echo
if not (child := os.fork()):
    os.setpgid(0, 0)
    echo.disable()
    echo.restore()
    os._exit(0)
os._exit(os.waitpid(child, os.WUNTRACED)[1])
"""
)
MAIN = "import charlstm.cli; charlstm.cli.main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    (folder / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


Child = subprocess.Popen[str]
Start = Callable[..., Child]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts ``charlstm train`` with code before it; what runs at the end is killed."""
    children: list[Child] = []

    def begin(code: str, name: str, *more: str, stderr: int = subprocess.PIPE) -> Child:
        environment = {**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        command = [sys.executable, "-c", code + MAIN, "train", "tales.txt", *SETTINGS]
        child = subprocess.Popen(
            [*command, "--name", name, *more],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, bytes]:
    """The last weights, optimiser state, h and c of a run that nobody stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", "tales.txt", *SETTINGS, "--name", "undisturbed"]) == 0
    return last_bits(folder / "checkpoints/undisturbed")


def last_bits(path: Path) -> dict[str, bytes]:
    last = pointers.read_pointers(path).last
    assert last == f"step-{STEPS:08d}"
    arrays = load_file(path / last / "model.safetensors")
    arrays |= load_file(path / last / "train.safetensors")
    return {name: array.tobytes() for name, array in arrays.items()}


def wait_for(child: Child, condition: Callable[[], Any]) -> None:
    """Wait until ``condition`` holds; fail if the child ends before that, or never gets there."""
    end = time.monotonic() + LONGEST_WAIT
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def is_under_way(path: Path) -> bool:
    """Whether steps were logged after a checkpoint that was not the first."""
    saved = False
    for line in read_lines(path / "metrics.jsonl"):
        saved |= line["event"] == "saved" and line["step"] > 0
        if saved and line["event"] == "step_done":
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_stopped_run_saves_tells_how_to_go_on_and_ends_with_the_same_bits(
    number: signal.Signals, start: Start, undisturbed: dict[str, bytes]
) -> None:
    path = Path("checkpoints") / number.name
    child = start(SLOW, number.name)
    wait_for(child, lambda: is_under_way(path))
    child.send_signal(number)
    out, err = child.communicate(timeout=LONGEST_WAIT)
    assert child.returncode == 130
    assert "Traceback" not in err
    remedy = f"charlstm train --resume -c {path}"
    assert err.splitlines()[-1] == remedy
    finished = read_lines(path / "metrics.jsonl")[-1]
    assert (finished["event"], finished["reason"]) == ("run_finished", "stopped")
    assert out.startswith(f"{path}  {finished['step']:,} steps")
    assert 0 < finished["step"] < STEPS
    assert run(remedy.split()[1:]) == 0
    assert last_bits(path) == undisturbed


STARTING = """
import pathlib, time
from charlstm.training import device
def choose_for_ever(name):
    pathlib.Path("choosing").touch()
    time.sleep(60)
device.choose_device = choose_for_ever
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["new", "resumed"])
def test_a_signal_before_the_first_step_is_noted(
    number: signal.Signals, more: list[str], folder: Path, undisturbed: dict[str, bytes]
) -> None:
    began = folder / "choosing"
    began.unlink(missing_ok=True)
    arguments = more or ["tales.txt", *SETTINGS, "--name", "early"]
    child = subprocess.Popen(
        [sys.executable, "-c", STARTING + MAIN, "train", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        wait_for(child, began.exists)
        child.send_signal(number)
        _, err = child.communicate(timeout=LONGEST_WAIT)
    assert child.returncode == 130
    assert err.endswith("stopped before the run started\n")
    assert not (folder / "checkpoints/early").exists()


def test_killed_run_goes_on_from_its_last_checkpoint_to_the_same_bits(
    start: Start, undisturbed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("checkpoints/killed")
    child = start(SLOW, "killed")
    wait_for(child, lambda: is_under_way(path))
    child.kill()
    assert child.wait(LONGEST_WAIT) == -signal.SIGKILL
    assert run(["train", "--resume", "-c", "killed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == STEPS
    events = read_lines(path / "metrics.jsonl")
    began, resumed = (event["step"] for event in events if event["event"] == "run_started")
    assert began == 0 < resumed < STEPS
    assert last_bits(path) == undisturbed


def read_terminal(end: int, written: list[bytes]) -> None:
    """Collect what is written to a terminal until everybody has left it."""
    with contextlib.suppress(OSError):
        while data := os.read(end, 65536):
            written.append(data)
    os.close(end)


def echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_frozen_terminal_holds_neither_the_training_nor_a_second_ctrl_c(start: Start) -> None:
    ours, theirs = os.openpty()
    path = Path("checkpoints/frozen")
    child = start(SLOW, "frozen", "--steps", "5000", stderr=theirs)
    # Nobody reads, as when a connection is lost: the panel fills the terminal's buffer, and then
    # there is no room in it.
    wait_for(child, lambda: not select.select([], [theirs], [], 0.5)[1])
    lines = len(read_lines(path / "metrics.jsonl"))
    wait_for(child, lambda: len(read_lines(path / "metrics.jsonl")) > lines + 3)
    child.send_signal(signal.SIGINT)
    wait_for(child, lambda: read_lines(path / "metrics.jsonl")[-1]["event"] == "run_finished")
    child.send_signal(signal.SIGINT)
    assert child.wait(LONGEST_WAIT) == 130
    os.close(theirs)
    os.close(ours)


def test_second_ctrl_c_exits_at_once_and_leaves_a_run_that_goes_on(
    start: Start,
) -> None:
    ours, theirs = os.openpty()
    child = start(OWN_TERMINAL + HANGING, "twice", stderr=theirs)
    written: list[bytes] = []
    reader = threading.Thread(target=read_terminal, args=(ours, written), daemon=True)
    reader.start()
    wait_for(child, lambda: is_under_way(Path("checkpoints/twice")))
    child.send_signal(signal.SIGINT)
    wait_for(child, Path("hanging").exists)
    assert not echoes(theirs)
    child.send_signal(signal.SIGINT)
    assert child.wait(LONGEST_WAIT) == 130
    assert echoes(theirs)
    os.close(theirs)
    assert run(["train", "--resume", "-c", "twice"]) == 0
    reader.join(LONGEST_WAIT)
    shown = b"".join(written)
    assert b"weights of step" in shown
    assert b"Traceback" not in shown
    # The panel hides the cursor; whoever leaves it shows it again.
    assert shown.rfind(b"\x1b[?25l") < shown.rfind(b"\x1b[?25h")


@pytest.fixture
def theirs() -> Iterator[int]:
    """The end of a terminal for a child; somebody reads the other one."""
    ours, theirs = os.openpty()
    threading.Thread(target=read_terminal, args=(ours, []), daemon=True).start()
    yield theirs
    os.close(theirs)


def test_keys_are_not_echoed_into_the_panel_but_wherever_the_shell_is(
    start: Start, theirs: int
) -> None:
    child = start(OWN_TERMINAL + SLOW, "echo", stderr=theirs)
    wait_for(child, lambda: not echoes(theirs))
    wait_for(child, lambda: is_under_way(Path("checkpoints/echo")))
    assert not echoes(theirs)
    child.send_signal(signal.SIGTSTP)
    wait_for(child, lambda: echoes(theirs))
    child.send_signal(signal.SIGCONT)
    wait_for(child, lambda: not echoes(theirs))
    child.send_signal(signal.SIGINT)
    assert child.wait(LONGEST_WAIT) == 130
    assert echoes(theirs)


def test_keys_are_not_echoed_into_the_panel_of_a_study_either(start: Start, theirs: int) -> None:
    study = "import sys; sys.argv[1:] = ['study', 'lag']\n"
    child = start(OWN_TERMINAL + study, "", stderr=theirs)
    wait_for(child, lambda: not echoes(theirs))
    end = time.monotonic() + LONGEST_WAIT
    while child.poll() is None and time.monotonic() < end:  # two at once may be one
        child.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert child.returncode == 130
    assert echoes(theirs)


@pytest.mark.parametrize("flags", ["echo", "echo off"])
def test_a_terminal_that_is_not_ours_to_change_stays_as_it_is(
    flags: str, start: Start, theirs: int
) -> None:
    attributes = termios.tcgetattr(theirs)
    if flags == "echo off":  # as for a password: whoever did that switches it on again
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        calls = "import charlstm.cli.echo as k; k.disable(); k.restore(); raise SystemExit\n"
        child = start(OWN_TERMINAL + calls, "", stderr=theirs)
    else:
        child = start(IN_BACKGROUND, "", stderr=theirs)
    assert child.wait(LONGEST_WAIT) == 0
    assert echoes(theirs) == (flags == "echo")


def test_a_text_that_is_interrupted_goes_on_after_its_last_character(
    trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = charlstm.load(trained_run), Output(raw=False, color=False)
    for trial in range(60):
        text = model.generate(length=None, seed=trial)
        timer = threading.Timer(0.01 + trial / 10_000, signal.raise_signal, [signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it may come early
            timer.start()
            output.show(text)
        timer.join()
        written = capsys.readouterr().out
        expected = model.prefill(f"\n{written}")
        np.testing.assert_array_equal(text.state.state, expected.state)
        assert text.state.recent == expected.recent
