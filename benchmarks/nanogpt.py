"""Compare charlstm with nanoGPT's CPU recipe on the same cores, with equal context.

    pip install requests
    python benchmarks/nanogpt.py tinyshakespeare.txt --nanogpt PATH --rounds 3

PATH is a clone of nanoGPT, whose prepare.py imports requests. Its recipe (README, "I only have a
macbook") runs unchanged in a copy of the clone. The recipe's model has a context of 64 characters,
so both models are scored on the whole last tenth in windows of 64: zero state at the start of each
window, every position counted. The measures are

a) the seconds until charlstm's loss is below the recipe's final loss: of training alone, and of the
   whole process including start-up and validations;
b) charlstm's loss after as many seconds as the recipe's process took, in windows of 64 and 256.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401

# isort: split
import numpy as np
import torch
from measure import Spread, ratio, record, spread_of

from charlstm.model import load
from charlstm.presets import default_settings
from charlstm.text.corpus import open_corpus
from charlstm.training.device import Precision
from charlstm.training.network import LanguageModel, load_arrays
from charlstm.training.new_run import begin
from charlstm.training.validation import stateful_loss, windowed_loss

RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
    "--log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
WINDOW = 64
"""Context of both models in characters: the recipe's block_size."""
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
"""Settings of a short run, with high learning rates; chosen without the last tenth of the text."""
SPRINT_EVERY = 10


def run_nanogpt(clone: Path, text: Path) -> dict[str, float]:
    """Train with the recipe; return seconds, the printed loss and the loss of its checkpoint."""
    ours = ("GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")  # set by charlstm, not for other programs
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
        loss = nanogpt_loss(copy)
    iterations = [float(ms) for ms in re.findall(r"time ([\d.]+)ms", process.stdout)]
    losses = [float(nats) for nats in re.findall(r"val loss ([\d.]+)", process.stdout)]
    # The time of some iterations includes an evaluation, so those count as the median iteration.
    ordinary = float(np.median(iterations))
    training = sum(min(ms, 3 * ordinary) for ms in iterations) / 1e3
    return {
        "seconds": seconds,
        "training_seconds": training,
        "printed_loss": min(losses),
        "loss": loss,
    }


@torch.inference_mode()
def nanogpt_loss(copy: Path) -> float:
    """Loss of the recipe's best checkpoint, computed as in ``windowed_loss``."""
    sys.path.insert(0, str(copy))
    module = importlib.import_module("model")
    sys.path.pop(0)
    saved = torch.load(
        copy / "out-shakespeare-char" / "ckpt.pt", map_location="cpu", weights_only=False
    )
    model = module.GPT(module.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    ids = torch.from_numpy(
        np.fromfile(copy / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16).astype(int)
    )
    inputs, targets = ids[:-1].split(WINDOW), ids[1:].split(WINDOW)
    total = 0.0
    for window, wanted in zip(inputs, targets, strict=True):
        total += model(window[None], wanted[None])[1].item() * len(wanted)
    return total / (len(ids) - 1)


def sprint(text: Path, goal: float) -> dict[str, float]:
    """Seconds of a new process until its loss on the last tenth is below ``goal``."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, __file__, str(text.resolve()), "--sprint-to", str(goal)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.stderr)
    return {"seconds": seconds, "training_seconds": float(process.stdout)}


def train_to(text: Path, goal: float) -> float:
    """Seconds of training until the loss is below ``goal``, without validations."""
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
            if windowed_loss(trainer.learner.average, held_out, full, WINDOW) < goal:
                return seconds
    return float("inf")


def race(text: Path, seconds: float, seed: int) -> dict[str, float]:
    """Losses of ``charlstm train`` after as many seconds as nanoGPT's process took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        # Allows for what --minutes does not include (imports, the trial of precisions), and for
        # the error of the plan that is made after 8% of the minutes.
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
        "parameters": sum(array.size for array in trained.file.weights.values()),
        "loss": windowed_loss(model, held_out, full, WINDOW),
        "windowed_256": windowed_loss(model, held_out, full),
        "stateful": stateful_loss(model, held_out, full),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--nanogpt", type=Path, help="path of a clone of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sprint-to", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sprint_to is not None:
        print(train_to(arguments.text, arguments.sprint_to))
        return
    if arguments.nanogpt is None:
        parser.error("--nanogpt is required: the path of a clone of nanoGPT")
    peers: list[dict[str, float]] = []
    sprints: list[dict[str, float]] = []
    races: list[dict[str, float]] = []
    for number in range(arguments.rounds):
        peers.append(run_nanogpt(arguments.nanogpt, arguments.text))
        sprints.append(sprint(arguments.text, peers[-1]["loss"]))
        races.append(race(arguments.text, peers[-1]["seconds"], seed=number + 1))
        print(json.dumps([peers[-1], sprints[-1], races[-1]]), file=sys.stderr)
    both = ("seconds", "training_seconds")
    record(
        "nanogpt",
        {
            "sprint_settings": SPRINT,
            "nanogpt": _spreads(peers),
            "sprint": _spreads(sprints),
            "times_faster": {
                name: ratio(_column(peers, name), _column(sprints, name)) for name in both
            },
            "race": _spreads(races),
        },
        peers={"nanoGPT": arguments.nanogpt},
    )


def _column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows]


def _spreads(rows: list[dict[str, float]]) -> dict[str, Spread]:
    return {name: spread_of(_column(rows, name)) for name in rows[0]}


if __name__ == "__main__":
    main()
