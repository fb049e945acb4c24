"""Promise about terminals that are narrow, resized, suspended, full or closed."""

import contextlib
import fcntl
import os
import re
import signal
import struct
import termios
import threading
import time
from collections import Counter
from pathlib import Path

from forks import Bench, Child, generator
from stops import Figures, _finish, named

from charlstm.runs import run as runs
from charlstm.runs.metrics import read_lines

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """A pseudo-terminal that somebody reads."""

    def __init__(self, width: int, height: int) -> None:
        self._ours, self._theirs = os.openpty()
        self.name = os.ttyname(self._theirs)
        self.written = b""
        self.resize(width, height)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 65536):
                self.written += data

    def close(self) -> None:
        os.close(self._theirs)
        self._reader.join(5)
        os.close(self._ours)


def _state(child: Child) -> str:
    """T where it is stopped; empty where it has ended."""
    try:
        stat = Path(f"/proc/{child.number}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0].strip("Z")


def _wait_until(condition: object) -> None:
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def panel(bench: Bench, trials: int, seed: int) -> Figures:
    """7: a panel on terminals of any size, resized while it draws, suspended and gone on with."""
    figures: Counter[str] = Counter()
    for trial in range(trials):
        with named("panel", seed, trial):
            random = generator(seed, trial)
            name = f"panel-{seed}-{trial}"
            sizes = [(20, 8), (20, 24), (40, 10), (80, 24), (150, 50), (19, 7), (1, 1)]
            terminal = Terminal(*random.choice(sizes))
            arguments = [word for word in bench.train(name) if word != "--plain"]
            child = bench.start(arguments, err=terminal.name, pace=0.15)
            path = bench.folder / "checkpoints" / name
            _wait_until(lambda path=path: len(read_lines(path / runs.METRICS_FILE)) > 6)
            for _ in range(3):
                terminal.resize(*random.choice(sizes))
                child.signal(signal.SIGWINCH)
                time.sleep(random.uniform(0.0, 0.1))
            animated = HIDE in terminal.written
            figures["animated" if animated else "too small to animate"] += 1
            if random.random() < 0.6:
                child.signal(signal.SIGTSTP)
                _wait_until(lambda child=child: _state(child) in ("T", ""))
                suspended = animated and _state(child) == "T"  # it may have been faster
                if suspended:
                    _wait_until(lambda shown=terminal: shown.written.endswith(SHOW))
                seen = len(terminal.written)
                time.sleep(0.1)
                assert len(terminal.written) == seen, "it draws while it is suspended"
                child.signal(signal.SIGCONT)
                if suspended:
                    _wait_until(lambda shown=terminal, seen=seen: HIDE in shown.written[seen:])
                    figures["suspended, then drawn again"] += 1
            assert child.wait() == 0, terminal.written
            terminal.close()
            assert b"Traceback" not in terminal.written
            assert b"not complete" not in terminal.written, terminal.written
            assert terminal.written.rfind(HIDE) <= terminal.written.rfind(SHOW)
            assert bench.last_bits(name) == bench.bits
    return {"runs": trials, **dict(sorted(figures.items()))}


def closed(bench: Bench, trials: int, seed: int) -> Figures:
    """7, 4: stdin, stdout or stderr closed or full: the run is made, the result is seen or not."""
    places = (None, "/dev/full", "/dev/null", "file")
    figures: Counter[str] = Counter()
    for trial in range(trials):
        with named("closed", seed, trial):
            random = generator(seed, trial)
            name = f"closed-{seed}-{trial}"
            out, err = random.choice(places), random.choice((*places, "terminal"))
            file = bench.folder / f"out-{seed}-{trial}"
            terminal = Terminal(80, 24) if err == "terminal" else None
            child = bench.start(
                bench.train(name),
                out=file if out == "file" else out,
                err=terminal.name if terminal else "" if err == "file" else err,
            )
            ended = child.wait()
            if terminal:
                terminal.close()
            assert ended == (1 if out == "/dev/full" else 0), (out, err, ended, child.told())
            if out == "/dev/full" and err == "file":
                assert "standard output cannot be written" in child.told()
            if out == "file":
                assert re.match(r"checkpoints/\S+  12 steps in .*\nvalidation ", file.read_text())
            figures[f"stdout {out}, exit {ended}"] += 1
            assert bench.last_bits(name) == bench.bits
            metrics = bench.folder / "checkpoints" / name / runs.METRICS_FILE
            assert all(line.startswith("{") for line in metrics.read_text().splitlines())
            sampled = ["sample", "-c", name, "--length", "40", "--seed", "1"]
            child = bench.start(sampled, out=file if out == "file" else out, err=None)
            assert child.wait() == (1 if out == "/dev/full" else 0)
    _finish(bench, name)
    return {"runs": trials, **dict(sorted(figures.items()))}
