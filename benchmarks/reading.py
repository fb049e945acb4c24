"""Time and memory of the views on a text as long as a book, without torch.

    python benchmarks/reading.py --rounds 3
    python benchmarks/reading.py --characters 2000 --hidden 64 --rounds 1 --views gates
    python benchmarks/reading.py --characters 30000 --views memory --busy 2 --record busy

A model with random weights (1x512) reads 100,000 characters in its own process, like the command.
The measures are the seconds of the whole process, imports included, and its peak memory. For
``find``, the statistics of all units and features are also measured alone, at 1x768 over 50,000
characters. With ``--busy``, other processes compute meanwhile, and each view is also measured with
one BLAS thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleave, record, spread_of

from charlstm.analysis.features import features_of
from charlstm.analysis.views.find import find
from charlstm.net.model_config import ModelConfig
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.sources import bundled_corpus
from charlstm.text.vocabulary import Vocabulary

ROOT = Path(__file__).parent.parent
VIEWS = ("gates", "memory", "cell", "find")
CODE = """
import json, sys
from charlstm.cli import run
sys.path.insert(0, sys.argv[1])
from measure import peak_memory
code = run(sys.argv[2:])
print(json.dumps({"code": code, "memory": peak_memory(), "torch": "torch" in sys.modules}),
      file=sys.stderr)
"""


def one(view: str, checkpoint: Path, text: Path, threads: int | None) -> tuple[float, float]:
    """Seconds and peak megabytes of one command."""
    chosen = {} if threads is None else {"OPENBLAS_NUM_THREADS": str(threads)}
    arguments = ["inspect", "-c", str(checkpoint), "--file", str(text), "--view", view]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(Path(__file__).parent), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    report = json.loads(done.stderr.splitlines()[-1])
    if report["code"] or report["torch"]:
        sys.exit(f"{view}: {done.stderr}")
    return seconds, report["memory"] / 1e6


@contextmanager
def others(count: int) -> Iterator[None]:
    """That many other processes compute meanwhile."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def statistics_of_find(units: int, text: str) -> float:
    """Seconds for the statistics of ``units`` random units."""
    values = np.random.default_rng(0).normal(size=(units, len(text))).astype(np.float32)
    features = features_of(text)
    start = time.perf_counter()
    find(values, features)
    return time.perf_counter() - start


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--units", type=int, default=768)
    parser.add_argument("--views", nargs="*", default=list(VIEWS), choices=list(VIEWS))
    parser.add_argument(
        "--busy", type=int, default=0, help="other processes that compute meanwhile"
    )
    parser.add_argument("--record", default="inspect", help="name of the record")
    arguments = parser.parse_args()
    words = bundled_corpus().read_text(encoding="utf-8")
    text = (words * (arguments.characters // len(words) + 1))[: arguments.characters]
    vocab = Vocabulary("".join(sorted(set(words))))
    config = ModelConfig("lstm", len(vocab), 64, arguments.hidden, 1)
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(0, arguments.hidden**-0.5, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    names: dict[str, tuple[str, int | None]] = {view: (view, None) for view in arguments.views}
    if arguments.busy:
        names |= {f"{view}, 1 thread": (view, 1) for view in arguments.views}
    memory: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, others(arguments.busy):
        file = Path(folder) / "book.txt"
        file.write_text(text, encoding="utf-8")
        model = ModelFile(config, vocab, weights, words[:1500], {"run": "noise", "step": 0})
        checkpoint = write_checkpoint(Path(folder), model, ResumeState({}, {}))

        def measure(name: str) -> float:
            view, threads = names[name]
            seconds, megabytes = one(view, checkpoint, file, threads)
            memory[name].append(megabytes)
            return seconds

        candidates = {name: (lambda name=name: measure(name)) for name in names}
        seconds = interleave(candidates, arguments.rounds)
    size = f"{config.describe()}, {arguments.characters:,} characters"
    results: dict[str, Any] = {
        f"{size}, seconds": {name: spread_of(values) for name, values in seconds.items()},
        f"{size}, peak MB": {name: spread_of(values) for name, values in memory.items()},
    }
    if "find" in arguments.views:
        half = text[: arguments.characters // 2]
        label = f"find alone, {arguments.units} units, {len(half):,} characters, seconds"
        alone = [statistics_of_find(arguments.units, half) for _ in range(arguments.rounds)]
        results[label] = spread_of(alone)
    record(arguments.record, results)


if __name__ == "__main__":
    main()
