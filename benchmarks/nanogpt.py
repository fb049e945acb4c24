"""charlstm beside nanoGPT's CPU recipe, on the same cores, in turn.

    python benchmarks/nanogpt.py tinyshakespeare.txt --nanogpt PATH --rounds 3

PATH is a clone of nanoGPT; its recipe (README, "I only have a macbook") runs unchanged in a copy of
it. Measured are (a) the seconds of training until charlstm's windowed loss is below what the recipe
reaches, against the time that the recipe's iterations take, and (b) charlstm's windowed loss when
it stops where the recipe's process has ended. Both have whole-process times beside them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401

# isort: split
import numpy as np
import torch
from measure import record, spread_of

from charlstm.model import load
from charlstm.presets import default_settings
from charlstm.text.corpus import open_corpus
from charlstm.train.device import Precision
from charlstm.train.network import LanguageModel, load_arrays
from charlstm.train.new_run import begin
from charlstm.train.validation import stateful_loss, windowed_loss

RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
    "--log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
GOAL = 1.8857
"""Nats: what the recipe's own evaluation reached where it was first measured."""
SPRINT = {
    "layers": 1,
    "hidden_size": 128,
    "batch": 64,
    "bptt": 32,
    "steps": 140,
    "dropout": 0.0,
    "learning_rate": 0.1,
    "adam_rate": 0.04,
}
"""A run so short wants high rates; chosen on the text without its last tenth."""
SPRINT_EVERY = 10


def run_nanogpt(clone: Path, text: Path) -> dict[str, float]:
    """The recipe from its start to its end: seconds, and the losses it prints."""
    ours = ("GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")  # set by charlstm: not for others
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanoGPT"
        shutil.copytree(clone, copy, ignore=shutil.ignore_patterns(".git"))
        data = copy / "data" / "shakespeare_char"
        shutil.copy(text, data / "input.txt")
        subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, capture_output=True)
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "train.py", *RECIPE.split()],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.stderr)
    iterations = [float(ms) for ms in re.findall(r"time ([\d.]+)ms", process.stdout)]
    losses = [float(nats) for nats in re.findall(r"val loss ([\d.]+)", process.stdout)]
    # An iteration's time includes the evaluation before it, so those are taken at the median.
    ordinary = float(np.median(iterations))
    training = sum(min(ms, 3 * ordinary) for ms in iterations) / 1e3
    return {"seconds": seconds, "training_seconds": training, "val_loss": min(losses)}


def sprint(text: Path) -> float:
    """Seconds of training until the windowed loss over the whole last tenth is below GOAL."""
    corpus = open_corpus([text])
    shape = {name: SPRINT[name] for name in ("layers", "hidden_size")}
    train = {name: value for name, value in SPRINT.items() if name not in shape}
    model, config = default_settings(
        len(corpus),
        len(corpus.vocab),
        model=shape,
        train=train,
    )
    _, held_out = corpus.split(config.val_fraction)
    full = Precision(torch.device("cpu"), "float32")
    with (
        tempfile.TemporaryDirectory() as folder,
        begin(corpus, model, config, root=Path(folder)) as trainer,
    ):
        seconds = 0.0
        for step in range(1, int(SPRINT["steps"]) + 1):
            start = time.perf_counter()
            trainer.take_step()
            seconds += time.perf_counter() - start
            if step % SPRINT_EVERY:
                continue
            if windowed_loss(trainer.learner.average, held_out, full) < GOAL:
                return seconds
    return float("inf")


def race(text: Path, seconds: float, seed: int) -> dict[str, float]:
    """``charlstm train`` for as long as nanoGPT's process took, and both losses afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        # What comes before the minutes (imports, the trial of precisions), and how far the
        # plan that is made after 8% of them may miss.
        minutes = (0.97 * seconds - 3) / 60
        command = f"train {text.resolve()} --minutes {minutes} --seed {seed} --quiet --json"
        process = subprocess.run(
            [sys.executable, "-m", "charlstm", *command.split()],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        taken = time.perf_counter() - start
        if process.returncode:
            sys.exit(process.stderr)
        finished = json.loads(process.stdout)
        trained = load(next((Path(folder) / "checkpoints").iterdir()))
        corpus = open_corpus([text])
    model = LanguageModel(trained.file.config)
    load_arrays(model, dict(trained.file.weights))
    _, held_out = corpus.split(0.1)
    full = Precision(torch.device("cpu"), "float32")
    return {
        "seconds": taken,
        "steps": finished["step"],
        "windowed": windowed_loss(model, held_out, full),
        "stateful": stateful_loss(model, held_out, full),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a clone of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        peer = run_nanogpt(arguments.nanogpt, arguments.text)
        seconds = sprint(arguments.text)
        ours = race(arguments.text, peer["seconds"], seed=number + 1)
        rows.append({"nanogpt": peer, "sprint_seconds": seconds, "race": ours})
        print(json.dumps(rows[-1]), file=sys.stderr)
    speedups = [row["nanogpt"]["training_seconds"] / row["sprint_seconds"] for row in rows]
    record(
        "nanogpt",
        {
            "goal": GOAL,
            "sprint_settings": SPRINT,
            "times_faster_to_goal": spread_of(speedups),
            "sprint_seconds": spread_of([row["sprint_seconds"] for row in rows]),
            "nanogpt_seconds": spread_of([row["nanogpt"]["seconds"] for row in rows]),
            "nanogpt_training_seconds": spread_of(
                [row["nanogpt"]["training_seconds"] for row in rows]
            ),
            "nanogpt_val_loss": spread_of([row["nanogpt"]["val_loss"] for row in rows]),
            "race_windowed": spread_of([row["race"]["windowed"] for row in rows]),
            "race_stateful": spread_of([row["race"]["stateful"] for row in rows]),
            "race_seconds": spread_of([row["race"]["seconds"] for row in rows]),
        },
    )


if __name__ == "__main__":
    main()
