"""``.ci/make.py torture``: the long forms of all promises, and their figures as JSON.

python tests/torture [--scale 1.0] [--seed 1] [--only kill,damage] [--json FILE]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import damage
import elastic
import hosts
import power
import ranks
import stops
import terminal
from forks import Bench

COUNTS = {
    "kill": 200,
    "power_cut": 10,
    "damage": 2000,
    "damage_beside": 200,
    "hostile": 1000,
    "full_disk": 40,
    "small_disk": 20,
    "doubled": 20,
    "poison": 60,
    "interrupt": 100,
    "interrupt_anywhere": 20,
    "panel": 40,
    "closed": 40,
    "kill_rank": 50,
    "lost_at_start": 6,
    "hang": 10,
    "poison_rank": 20,
    "stop_rank": 50,
    "full_disk_rank": 20,
    "restart": 6,
    "hosts": 3,
}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--scale", type=float, default=1.0, help="of the number of trials")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default=",".join(COUNTS), help="promises, with commas")
    options.add_argument("--json", type=Path, help="where to write the figures")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        os.environ["CHARLSTM_CACHE"] = str(folder / "cache")
        figures = {}
        promises = _promises(folder)
        for name in asked.only.split(","):
            trials = max(1, round(asked.scale * COUNTS[name]))
            begun = time.monotonic()
            found = promises[name](trials, asked.seed)
            found = {"seed": asked.seed, "seconds": round(time.monotonic() - begun), **found}
            figures[name] = found
            print(f"{name:<20}{json.dumps(found)}", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def _promises(folder: Path) -> dict[str, Callable[[int, int], stops.Figures]]:
    """Each promise as a function of trials and seed; what it needs is made when it is called."""
    made: dict[str, object] = {}

    def on(kind: Callable[[Path], object], promise: Callable[..., stops.Figures]) -> object:
        def keep(trials: int, seed: int) -> stops.Figures:
            if kind.__name__ not in made:
                place = folder / kind.__name__
                place.mkdir()
                made[kind.__name__] = kind(place)
            return promise(made[kind.__name__], trials, seed)

        return keep

    found: dict[str, object] = {
        "power_cut": on(Path, power.power_cut),
        "restart": on(Path, elastic.restart),
        "hosts": on(Path, hosts.hosts),
    }
    for module in (stops, terminal):
        found |= {n: on(Bench, getattr(module, n)) for n in COUNTS if hasattr(module, n)}
    found |= {n: on(damage.Victim, getattr(damage, n)) for n in COUNTS if hasattr(damage, n)}
    found |= {n: on(ranks.GroupBench, getattr(ranks, n)) for n in COUNTS if hasattr(ranks, n)}
    return found  # type: ignore[return-value]


if __name__ == "__main__":
    main()
