"""Common code of the benchmarks: interleaved rounds, medians with ranges, machine, records."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float
    rounds: int


def spread_of(values: list[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def interleave(
    candidates: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Run every candidate once per round, so a slow minute of the machine affects all of them."""
    values: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, measure in candidates.items():
            values[name].append(measure())
            print(f"round {number + 1}: {name} {values[name][-1]:.4g}", file=sys.stderr)
    return values


def ratio(values: list[float], base: list[float]) -> Spread:
    """values / base, round by round, so that a slow minute of the machine cancels out."""
    return spread_of([a / b for a, b in zip(values, base, strict=True)])


def machine() -> dict[str, Any]:
    """The machine, software versions and date of a measurement."""
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
        flags = next((line for line in lines if line.startswith("flags")), "")
        for feature in ("amx_bf16", "avx512_bf16"):
            processor += f" {feature}" if feature in flags.split() else ""
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def peak_memory() -> int:
    """Peak memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def revision(folder: Path) -> str:
    """The commit that is checked out in ``folder``; ends in -dirty if files were changed."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()


def record(name: str, results: Any, peers: Mapping[str, Path] | None = None) -> None:
    """Write ``results/NAME.json``: the figures, the machine, the command, the commits.

    ``peers`` holds the clones of the other projects that were measured, by name.
    """
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    command = " ".join(["python", script, *(_shown(argument) for argument in sys.argv[1:])])
    document = {
        "command": command,
        "commit": revision(Path(__file__).parent),
        **({"peers": {name: revision(clone) for name, clone in peers.items()}} if peers else {}),
        "machine": machine(),
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, default=_plain, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def _shown(argument: str) -> str:
    """A command-line argument without the folders of this machine."""
    path = Path(argument)
    if path.is_absolute():
        return path.name
    return argument


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {
            k: v if float(v).is_integer() else float(f"{v:.5g}") for k, v in asdict(value).items()
        }
    raise TypeError(type(value).__name__)
