"""Promises about torchrun itself: it starts a run again after a death, and stops one that saves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from forks import SETTINGS
from helpers import TEXT, write
from stops import Figures, named

import charlstm
from charlstm.runs import run as runs
from charlstm.runs.metrics import read_lines

PATIENCE = 120.0
"""Seconds after which something has gone wrong."""


def restart(folder: Path, trials: int, seed: int) -> Figures:
    """A worker dies and torchrun starts all again; then torchrun is stopped."""
    write(folder / "tales.txt", TEXT * 4)
    for trial in range(trials):
        with named("restart", seed, trial):
            name = f"restarted-{seed}-{trial}"
            path = folder / "checkpoints" / name
            process = _torchrun(folder, name)
            try:
                _wait(partial(_has_steps, path), process)
                os.kill(_workers(process)[trial % 2], signal.SIGKILL)
                _wait(partial(_has_restarted, path), process)
                process.send_signal(signal.SIGINT if trial % 2 else signal.SIGTERM)
                printed = process.communicate(timeout=PATIENCE)[1]
            finally:
                process.kill()
            assert printed.count("stopped and saved") == 1, printed
            assert f"resuming checkpoints/{name}" in printed, printed
            assert read_lines(path / runs.METRICS_FILE)[-1]["reason"] == "stopped"
            assert not path.with_name(f"{name}-2").exists()
    return {"restarts": trials}


def _torchrun(folder: Path, name: str) -> "subprocess.Popen[str]":
    arguments = ["--nproc-per-node", "2", "--max-restarts", "2", "-m", "charlstm", "train"]
    settings = ["--name", name, *SETTINGS, "--steps", "1000000", "--val-fraction", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *arguments, "tales.txt", *settings],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def _has_steps(path: Path) -> bool:
    lines = read_lines(path / runs.METRICS_FILE)
    return sum(line["event"] == "step_done" for line in lines) > 3


def _has_restarted(path: Path) -> bool:
    events = [line["event"] for line in read_lines(path / runs.METRICS_FILE)]
    begun = [index for index, event in enumerate(events) if event == "run_started"]
    return len(begun) == 2 and "step_done" in events[begun[1] :]


def _workers(process: "subprocess.Popen[str]") -> list[int]:
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(number) for path in children for number in path.read_text().split()]
