"""What the live panel and torch's spinning threads cost, as ratios of the training speed.

    python benchmarks/overhead.py panel --rounds 7
    python benchmarks/overhead.py spin --rounds 5

``panel`` trains with the live panel on a pseudo-terminal of 140 x 40 and with --quiet, in turn.
``spin`` trains with different values of GOMP_SPINCOUNT (how long torch's OpenMP threads wait by
spinning), alone and beside a process that keeps two threads busy. Speeds are those of
``metrics.jsonl``: characters over the time between the first logged step and the last.
"""

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import interleave, ratio, record, spread_of

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "data" / "nettle-quay.txt"
SHAPES = {
    "1x512x64x64": ("--hidden 512 --batch 64", 70, 4096),
    "1x128x16x64": ("--hidden 128 --batch 16", 1200, 1024),
}
SPINS = ("1000", "20000", "300000")


def speed(options: str, characters: int, environment: dict[str, str], *, panel: bool) -> float:
    """Characters per second of ``charlstm train`` with these options."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "charlstm", "train", str(TEXT), *options.split()]
        changed = {"PYTHONPATH": str(ROOT), "COLUMNS": "140", "LINES": "40", **environment}
        changed = {**os.environ, "TERM": "xterm-256color", **changed}
        if panel:
            reader, writer = pty.openpty()
            process = subprocess.Popen(
                command, cwd=folder, stderr=writer, stdout=writer, env=changed
            )
            os.close(writer)
            threading.Thread(target=_swallow, args=(reader,), daemon=True).start()
            code = process.wait()
        else:
            command.append("--quiet")
            code = subprocess.call(command, cwd=folder, env=changed, stdout=subprocess.DEVNULL)
        if code:
            sys.exit(f"charlstm train ended with {code}")
        lines = next(Path(folder).glob("checkpoints/*/metrics.jsonl")).read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "step_done"]
    first, last = steps[len(steps) // 4], steps[-1]
    return characters * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])


def _swallow(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:
        pass  # the other end is closed


@contextmanager
def neighbour() -> Iterator[None]:
    """A process with two threads that compute all the time."""
    code = "import torch\nx = torch.randn(1500, 1500)\nwhile True: x @ x"
    busy = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def measure(shape: str, spin: str | None, *, panel: bool, busy: bool) -> Callable[[], float]:
    """A candidate of ``interleave``."""
    options, steps, characters = SHAPES[shape]
    environment = {} if spin is None else {"GOMP_SPINCOUNT": spin}
    command = f"{options} --layers 1 --bptt 64 --steps {steps if not busy else steps // 2}"

    def run() -> float:
        if not busy:
            return speed(command, characters, environment, panel=panel)
        with neighbour():
            return speed(command, characters, environment, panel=panel)

    return run


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("panel", "spin"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    arguments = parser.parse_args()
    results = {}
    for shape in arguments.shapes:
        if arguments.what == "panel":
            values = interleave(
                {
                    name: measure(shape, None, panel=name == "panel", busy=False)
                    for name in ("panel", "quiet")
                },
                arguments.rounds,
            )
            results[shape] = {
                "chars_per_second": {name: spread_of(rates) for name, rates in values.items()},
                "panel_over_quiet": ratio(values["panel"], values["quiet"]),
            }
            continue
        for busy in (False, True):
            values = interleave(
                {spin: measure(shape, spin, panel=False, busy=busy) for spin in SPINS},
                arguments.rounds,
            )
            results[f"{shape}, {'busy neighbour' if busy else 'alone'}"] = {
                spin: spread_of(rates) for spin, rates in values.items()
            }
    record(arguments.what, results)


if __name__ == "__main__":
    main()
