"""How far training scales over processes, and what their communication costs.

    python benchmarks/scaling.py processes --rounds 5
    python benchmarks/scaling.py cells --steps 300
    python benchmarks/scaling.py communication
    python benchmarks/scaling.py communication --gigabits 1 --delay 0.5    as root
    python benchmarks/scaling.py paper --step-seconds 0.3 0.03 0.003 --parameters 25000000
    python benchmarks/scaling.py batch --characters 4000000 --batches 32 64 128 256 512 1024

``processes`` compares one process that has two threads with two processes that have one each.
``cells`` compares the validation losses of one process and of two, for each cell.
``communication`` times the sum over two processes that a step needs, for models of several sizes:
over the loopback interface, or between two network namespaces whose link has that rate and delay.
``paper`` computes the efficiency of N processes in a ring, from the measured step of one:

    seconds = step / N + 2 (N - 1) / N * bytes / bandwidth + 2 (N - 1) * latency

``batch`` trains with several B on equally many characters: what the recipe tolerates limits the
number of processes more than the link does.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import interleave, ratio, record, spread_of

ROOT = Path(__file__).parent.parent
SHAPES = {"1x128": (1, 128), "1x512": (1, 512), "3x512": (3, 512), "3x1024": (3, 1024)}
SPACES = ("charlstm-a", "charlstm-b")
# Bandwidth in bytes per second, latency in seconds, of links as they are sold.
LINKS = {
    "8 GPUs, NVLink": (8, 300e9, 5e-6),
    "8 machines, 10 Gbit/s": (8, 1.25e9, 50e-6),
    "64 machines, 10 Gbit/s": (64, 1.25e9, 50e-6),
    "64 machines, 100 Gbit/s": (64, 12.5e9, 10e-6),
}


def charlstm(options: str, text: str, processes: int) -> list[dict[str, Any]]:
    """The events of ``charlstm train`` in that number of processes."""
    launch = ["-m", "charlstm"]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launch = [*torchrun, str(processes), *launch]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *launch, "train", text, "--quiet", *options.split()]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        (log,) = Path(folder).glob("checkpoints/*/metrics.jsonl")
        return [json.loads(line) for line in log.read_text().splitlines()]


def speed(options: str, text: str, processes: int) -> Callable[[], float]:
    """A candidate of ``interleave``: characters per second between the first and last report."""

    def run() -> float:
        events = charlstm(f"{options} --threads {3 - processes}", text, processes)
        started = events[0]
        steps = [event for event in events if event["event"] == "step_done"]
        first, last = steps[len(steps) // 4], steps[-1]
        characters = started["batch"] * started["bptt"] * (last["step"] - first["step"])
        return characters / (last["seconds"] - first["seconds"])

    return run


def compare_processes(text: str, shapes: list[str], steps: int, rounds: int) -> dict[str, Any]:
    """Speeds of one process with two threads and of two processes with one."""
    results = {}
    for name in shapes:
        layers, hidden = SHAPES[name]
        options = f"--layers {layers} --hidden {hidden} --batch 64 --bptt 64 --steps {steps}"
        options += " --precision float32 --device cpu --dropout 0"
        values = interleave(
            {f"{n} processes": speed(options, text, n) for n in (1, 2)},
            rounds,
        )
        results[name] = {
            "chars_per_second": {count: spread_of(rates) for count, rates in values.items()},
            "two_over_one": ratio(values["2 processes"], values["1 processes"]),
        }
    return results


def compare_cells(text: str, steps: int) -> dict[str, Any]:
    """Validation losses of runs in one process and in two, for each cell."""
    from charlstm.net.spec import CELLS

    results = {}
    for cell in CELLS:
        options = f"--cell {cell} --layers 2 --hidden 32 --batch 16 --bptt 32 --steps {steps}"
        options += " --precision float32 --device cpu --dropout 0.2 --patience 0 --threads 1"
        one, two = (_validation_losses(options, text, processes) for processes in (1, 2))
        pairs = zip(one.values(), two.values(), strict=True)
        results[cell] = {
            "one process": one[steps],
            "two processes": two[steps],
            "largest difference": max(abs(a - b) for a, b in pairs),
            "validations": len(one),
        }
        print(cell, results[cell], flush=True)
    return results


def _validation_losses(options: str, text: str, processes: int) -> dict[int, float]:
    events = charlstm(options, text, processes)
    return {event["step"]: event["val_loss"] for event in events if event["event"] == "evaluated"}


# -- communication -----------------------------------------------------------------------------

WORKER = """
import json, os, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
flat, times = torch.zeros(int(sys.argv[1])), []
for _ in range(int(sys.argv[2]) + 2):
    dist.barrier()
    begun = time.perf_counter()
    dist.all_reduce(flat)
    times.append(time.perf_counter() - begun)
if dist.get_rank() == 0:
    print(json.dumps(sorted(times[2:])))
dist.destroy_process_group()
"""


def sums(parameters: int, repeats: int, spaces: tuple[str, ...]) -> list[float]:
    """Seconds of each sum over two processes, sorted."""
    children = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in (0, 1):
        prefix = ["ip", "netns", "exec", spaces[rank]] if spaces else []
        address = {
            "MASTER_ADDR": "10.77.0.1" if spaces else "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": f"veth{rank}" if spaces else "lo",
            "RANK": str(rank),
            "WORLD_SIZE": "2",
        }
        children.append(
            subprocess.Popen(
                [*prefix, sys.executable, "-c", WORKER, str(parameters), str(repeats)],
                env={**os.environ, **address},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    printed = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        sys.exit("a process failed")
    times: list[float] = json.loads(printed[0])
    return times


@contextmanager
def link(gigabits: float | None, delay: float) -> Iterator[tuple[str, ...]]:
    """Two network namespaces joined by a link; none without a rate. Needs root."""
    if gigabits is None:
        yield ()
        return

    def run(*command: str) -> None:
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"failed, as without root or without netem in the kernel: {' '.join(command)}")

    for space in SPACES:
        run("ip", "netns", "add", space)
    try:
        ends = ("veth0", "veth1")
        run("ip", "link", "add", ends[0], "netns", SPACES[0], "type", "veth", "peer", "name",
            ends[1], "netns", SPACES[1])  # fmt: skip
        for number, (space, end) in enumerate(zip(SPACES, ends, strict=True)):
            inside = ("ip", "netns", "exec", space)
            run(*inside, "ip", "addr", "add", f"10.77.0.{number + 1}/24", "dev", end)
            run(*inside, "ip", "link", "set", end, "up")
            run(*inside, "ip", "link", "set", "lo", "up")
            shape = f"tbf rate {gigabits:g}gbit burst 256kb latency 50ms"
            if delay:
                shape = f"netem delay {delay}ms rate {gigabits:g}gbit"
            run(*inside, "tc", "qdisc", "add", "dev", end, "root", *shape.split())
        yield SPACES
    finally:
        for space in SPACES:
            run("ip", "netns", "del", space)


def communicate(
    shapes: list[str], repeats: int, gigabits: float | None, delay: float
) -> dict[str, Any]:
    """Bytes and milliseconds of a step's sum, by model size."""
    from charlstm.net.model_config import ModelConfig

    results = {}
    with link(gigabits, delay) as spaces:
        for name in shapes:
            layers, hidden = SHAPES[name]
            parameters = ModelConfig("lstm", 80, 64, hidden, layers).parameters
            times = sums(parameters, repeats, spaces)
            results[name] = {
                "megabytes": parameters * 4 / 1e6,
                "milliseconds": times[len(times) // 2] * 1e3,
            }
    return results


def on_paper(step_seconds: float, parameters: int) -> dict[str, float]:
    """Efficiency of N processes that divide a measured step, by the formula above."""
    found = {}
    for name, (count, bandwidth, latency) in LINKS.items():
        exchanged = 2 * (count - 1) / count * 4 * parameters / bandwidth
        seconds = step_seconds / count + exchanged + 2 * (count - 1) * latency
        found[name] = step_seconds / count / seconds
    return found


# -- batch size --------------------------------------------------------------------------------


def losses(text: str, characters: int, batches: list[int], options: str) -> dict[str, float]:
    """Validation loss after equally many characters, by B."""
    found = {}
    for batch in batches:
        steps = max(1, characters // (batch * 64))
        begun = time.perf_counter()
        events = charlstm(f"{options} --batch {batch} --bptt 64 --steps {steps}", text, 1)
        found[str(batch)] = events[-1]["val_loss"]
        print(f"B {batch}: {found[str(batch)]:.4f} nats in {time.perf_counter() - begun:.0f} s")
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("processes", "cells", "communication", "batch", "paper"))
    parser.add_argument("--text", default=str(ROOT / "data" / "nettle-quay.txt"))
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabits", type=float, help="rate of the link; without one, loopback")
    parser.add_argument("--delay", type=float, default=0.0, help="of the link, in ms, each way")
    parser.add_argument("--characters", type=int, default=4_000_000)
    parser.add_argument("--batches", type=int, nargs="*", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--options", default="--layers 1 --hidden 256 --patience 0")
    parser.add_argument("--step-seconds", type=float, nargs="*", help="paper: of one process")
    parser.add_argument("--parameters", type=int, help="paper: of the model")
    asked = parser.parse_args()
    text = str(Path(asked.text).absolute())
    results: dict[str, Any]
    if asked.what == "processes":
        results = compare_processes(text, asked.shapes, asked.steps, asked.rounds)
    elif asked.what == "cells":
        results = compare_cells(text, asked.steps)
    elif asked.what == "communication":
        results = communicate(asked.shapes, 4 * asked.rounds, asked.gigabits, asked.delay)
    elif asked.what == "batch":
        results = losses(text, asked.characters, asked.batches, asked.options)
    elif asked.step_seconds is None or asked.parameters is None:
        parser.error("paper needs --step-seconds and --parameters")
    else:
        results = {f"{s:g} s per step": on_paper(s, asked.parameters) for s in asked.step_seconds}
    rate = "" if asked.gigabits is None else f"-{asked.gigabits:g}"
    record(f"scaling-{asked.what}{rate}", results)


if __name__ == "__main__":
    main()
