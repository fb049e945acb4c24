"""``charlstm sample`` as a process: pipes that close, signals, full disks, closed streams."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import charlstm


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])}


def start(*arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "charlstm", "sample", "-c", "small", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe)


def finished(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def expected(length: int) -> str:
    return "".join(charlstm.load("small").generate(length=length, seed=1))


def test_closed_pipe_ends_an_endless_text_quietly(folder: Path) -> None:
    child = start("--seed", "1", "--length", "0", folder=folder)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.read(20).decode() == expected(length=20)
    child.stdout.close()
    with child:
        assert child.wait(60) == 0
        assert child.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_ctrl_c_ends_an_endless_text(folder: Path) -> None:
    child = start("--seed", "1", "--length", "0", folder=folder)
    assert child.stdout is not None
    child.stdout.read(20)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_endless_text_that_is_stopped_keeps_its_state(number: str, folder: Path) -> None:
    path = folder / f"{number}.state"
    child = start("--seed", "1", "--length", "0", "--save-state", path.name, folder=folder)
    assert child.stdout is not None
    seen = child.stdout.read(20)
    child.send_signal(getattr(signal, number))
    text = (seen + child.stdout.read()).decode()  # communicate() would lose what was read ahead
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, b"")
    model = charlstm.load("small")
    state = model.load_state(path)
    # Where it was stopped, one character may have been drawn that was not written any more.
    for size in (len(text), len(text) + 1):
        whole = expected(length=size)
        if np.array_equal(model.prefill(whole, model.prefill("")).state, state.state):
            break
    else:
        pytest.fail("the state is that of another text")
    assert not list(folder.glob(".charlstm-*"))


def test_a_closed_pipe_leaves_a_whole_state(folder: Path) -> None:
    child = start("--seed", "1", "--length", "0", "--save-state", "pipe.state", folder=folder)
    assert child.stdout is not None
    child.stdout.read(20)
    child.stdout.close()
    with child:
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert len(charlstm.load("small").load_state(folder / "pipe.state").recent) > 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize("length", ["5", "100000"])
@pytest.mark.parametrize("python", [sys.executable, f"{sys.executable} -u"])
def test_a_full_disk_is_one_line_and_the_state_is_kept(
    python: str, length: str, folder: Path
) -> None:
    command = f"{python} -m charlstm sample -c small --seed 1 --length {length}"
    done = finished(["sh", "-c", f"{command} --save-state full.state > /dev/full"], folder)
    expected = "charlstm: standard output cannot be written: no space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)
    assert charlstm.load("small").load_state(folder / "full.state").recent


@pytest.mark.skipif(os.name == "nt", reason="limits as POSIX has them")
def test_a_disk_without_room_for_the_state_keeps_the_old_one(folder: Path) -> None:
    path = folder / "room.state"
    model = charlstm.load("small")
    model.save_state(path, model.prefill("Row"))
    before = path.read_bytes()
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    limited += "from charlstm.cli import main; main()"
    command = [
        "sample",
        "-c",
        "small",
        "--seed",
        "1",
        "--length",
        "20",
        "--save-state",
        "room.state",
    ]
    done = finished([sys.executable, "-c", limited, *command], folder)
    assert done.returncode == 1
    assert done.stdout == expected(length=20)
    assert re.fullmatch(
        r"charlstm: cannot save the resume state to room\.state: [^\n]+\n", done.stderr
    )
    assert path.read_bytes() == before
    assert not list(folder.glob(".charlstm-*"))


@pytest.mark.skipif(os.name == "nt", reason="descriptors as POSIX has them")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
@pytest.mark.parametrize("what", ["", "--interactive", "--prime-file -"])
def test_closed_streams_leave_no_traceback(closed: str, what: str, folder: Path) -> None:
    command = f"{sys.executable} -m charlstm sample -c small --seed 1 --length 5 {what} {closed}"
    done = finished(["sh", "-c", command], folder)
    assert (done.returncode, done.stderr) == (0, "")
