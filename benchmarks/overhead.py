"""Cost of the live panel and of spinning threads, relative to the training speed.

    python benchmarks/overhead.py panel --rounds 7
    python benchmarks/overhead.py spin --rounds 5

``panel`` trains with the live panel on a pseudo-terminal of 140 x 40 and with --quiet, in turn, and
measures the fraction of a run's time spent on drawing and on the live sample.
``spin`` trains with different values of GOMP_SPINCOUNT (how long torch's OpenMP threads spin while
they wait), alone and next to a process that keeps two threads busy. Speeds come from
``metrics.jsonl``: characters over the time from the first logged step to the last.
"""

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import interleave, ratio, record, spread_of
from rich.console import Console

import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
from charlstm.events import StepDone
from charlstm.generate.live_sample import LiveSample
from charlstm.presets import default_settings
from charlstm.show.live import LivePanel
from charlstm.text.corpus import open_corpus
from charlstm.training.new_run import begin

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
            sys.exit(f"charlstm train failed with exit code {code}")
        lines = next(Path(folder).glob("checkpoints/*/metrics.jsonl")).read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "step_done"]
    first, last = steps[len(steps) // 4], steps[-1]
    return characters * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])


def share_of_panel(shape: str) -> float:
    """The fraction of a run's time that the panel takes, timed in one process."""
    options, steps, _ = SHAPES[shape]
    values = dict(zip(*[iter(options.split())] * 2, strict=True))
    reader, writer = pty.openpty()
    threading.Thread(target=_swallow, args=(reader,), daemon=True).start()
    corpus = open_corpus([TEXT])
    model, train = default_settings(
        len(corpus),
        len(corpus.vocab),
        model={"hidden_size": int(values["--hidden"]), "layers": 1},
        train={"batch": int(values["--batch"]), "bptt": 64, "steps": steps},
    )
    spent = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        os.fdopen(writer, "w") as terminal,
        ExitStack() as opened,
    ):
        trainer = opened.enter_context(begin(corpus, model, train, root=Path(folder)))
        console = Console(file=terminal, width=140, height=40, force_terminal=True)
        sample = LiveSample(trainer.model_file, 1)
        start = time.perf_counter()
        with LivePanel(console, lambda: (sample.text, sample.step)) as panel:
            for event in trainer.run():
                before = time.perf_counter()
                if isinstance(event, StepDone):
                    sample.grow(event.step)
                panel.show(event)
                spent += time.perf_counter() - before
        return spent / (time.perf_counter() - start)


def _swallow(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:
        pass  # the other end is closed


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps two threads busy."""
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
                "share_of_panel": spread_of(
                    [share_of_panel(shape) for _ in range(arguments.rounds)]
                ),
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
