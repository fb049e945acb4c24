"""Time and memory of the views on a text as long as a book, without torch.

    python benchmarks/reading.py --rounds 3
    python benchmarks/reading.py --characters 2000 --hidden 64 --rounds 1 --views gates

A model with random weights (1x512) reads 100,000 characters in its own process, like the command.
The measures are the seconds of the whole process, imports included, and its peak memory. For
``find``, the statistics of all units and features are also measured alone, at 1x768 over 50,000
characters.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def one(view: str, checkpoint: Path, text: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one command."""
    arguments = ["inspect", "-c", str(checkpoint), "--file", str(text), "--view", view]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(Path(__file__).parent), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    report = json.loads(done.stderr.splitlines()[-1])
    if report["code"] or report["torch"]:
        sys.exit(f"{view}: {done.stderr}")
    return seconds, report["memory"] / 1e6


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
    memory: dict[str, list[float]] = {view: [] for view in arguments.views}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "book.txt"
        file.write_text(text, encoding="utf-8")
        model = ModelFile(config, vocab, weights, words[:1500], {"run": "noise", "step": 0})
        checkpoint = write_checkpoint(Path(folder), model, ResumeState({}, {}))

        def measure(view: str) -> float:
            seconds, megabytes = one(view, checkpoint, file)
            memory[view].append(megabytes)
            return seconds

        candidates = {view: (lambda view=view: measure(view)) for view in arguments.views}
        seconds = interleave(candidates, arguments.rounds)
    half = text[: arguments.characters // 2]
    statistics = [statistics_of_find(arguments.units, half) for _ in range(arguments.rounds)]
    size = f"{config.describe()}, {arguments.characters:,} characters"
    results = {
        f"{size}, seconds": {view: spread_of(values) for view, values in seconds.items()},
        f"{size}, peak MB": {view: spread_of(values) for view, values in memory.items()},
        f"find alone, {arguments.units} units, {len(half):,} characters, seconds": spread_of(
            statistics
        ),
    }
    record("inspect", results)


if __name__ == "__main__":
    main()
