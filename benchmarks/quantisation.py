"""What int8 weights cost: bits per character of held-out text, against float32.

    charlstm train --preset small --name small
    charlstm train --cell gru --name gru
    python benchmarks/quantisation.py small gru

Each run is scored on the text that it held out, without the characters of its training.
"""

import argparse
from typing import Any

import numpy as np
from measure import record

import charlstm
from charlstm.analysis.subject import held_out
from charlstm.net.kernel import kernel
from charlstm.net.quantised import PRECISIONS
from charlstm.scoring import score


def measure(run: str, longest: int) -> dict[str, Any]:
    """Scores of one run in both precisions."""
    model = charlstm.load(run)
    ids = held_out(model, longest)
    if ids is None:
        raise SystemExit(f"{run}: the text of this run is no longer in the cache")
    found = {name: score(model.engine_in(name), ids) for name in PRECISIONS}
    bits = {name: found[name].bits_per_char for name in PRECISIONS}
    difference = found["int8"].surprise_bits[1:] - found["float32"].surprise_bits[1:]
    return {
        "model": model.file.config.describe(),
        "characters": found["int8"].characters,
        "bits per character, float32": round(bits["float32"], 5),
        "bits per character, int8": round(bits["int8"], 5),
        "cost, bits per character": round(bits["int8"] - bits["float32"], 5),
        "standard error": round(float(difference.std() / np.sqrt(len(difference))), 5),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", help="trained runs, by name or folder")
    parser.add_argument("--characters", type=int, default=100_000, help="most per run")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"kernel": "compiled" if kernel() else "NumPy"}
    for run in arguments.runs:
        results[run] = measure(run, arguments.characters)
        print(run, results[run], flush=True)
    record("quantisation", results)


if __name__ == "__main__":
    main()
