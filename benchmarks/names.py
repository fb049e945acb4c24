"""Loss on a list of names by makemore's protocol, with the default settings of a list.

    python benchmarks/names.py names.txt --seeds 1,2,3
    python benchmarks/names.py names.txt --seeds 1,2,3 --epochs 9 --threads 1

1,000 names are held out at random; repeated names are not removed. A run on the others, with
charlstm's defaults, is scored on them: nats per character, with the end of each name counted as a
character. Each seed makes another split and another run. The loss on those held-out names that
never occur in training is reported as well. Settings were chosen on names that no seed from 1 to 3
holds out.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import record, spread_of

import charlstm

HELD_OUT = 1000


def split(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """The training names and ``HELD_OUT`` held-out names, in random order."""
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    return [names[i] for i in training], [names[i] for i in held_out]


def measure(names: list[str], seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """Train and score once."""
    training, held_out = split(names, seed)
    Path("names.txt").write_text("".join(f"{name}\n" for name in training), encoding="utf-8")
    start = time.perf_counter()
    run = charlstm.train("names.txt", lines=True, seed=seed, progress=False, **settings).run()
    seconds = time.perf_counter() - start
    known = set(training)
    new = [name for name in held_out if name not in known]
    score, score_of_new = (run.model.score("\n".join(part)) for part in (held_out, new))
    assert score.nats_per_item is not None
    found = {
        "nats per character": score.nats,
        "nats per item": score.nats_per_item,
        "nats per character, names not in training": score_of_new.nats,
        "names not in training": len(new),
        "seconds": seconds,
    }
    print(seed, found, flush=True)
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--epochs", type=float, help="of each of two generations; else the default")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"threads": arguments.threads}
    if arguments.epochs is not None:
        settings |= {"generations": 2, "epochs": arguments.epochs}
    names = arguments.names.read_text(encoding="utf-8").split("\n")
    names = [name for name in names if name]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rounds = [measure(names, int(seed), settings) for seed in arguments.seeds.split(",")]
        os.chdir("/")  # some systems keep a folder that is in use
    record("names", {key: spread_of([found[key] for found in rounds]) for key in rounds[0]})


if __name__ == "__main__":
    main()
