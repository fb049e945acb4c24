"""Measure charlstm on a GPU: correctness, speed and quality, in one JSON file and eight minutes.

    python benchmarks/gpu.py tinyshakespeare.txt --out gpu.json
    python benchmarks/gpu.py data/nettle-quay.txt --device cpu --tiny --out /tmp/gpu.json

Needs torch, NumPy, typer, Rich and safetensors, and runs from a checkout without installation.
Each part is written to the JSON file when it is done. If a part fails, its error is recorded and
the next part runs. ``--tiny`` runs everything with sizes that take a CPU seconds.

a) works: train, resume and sample in three precisions; six cells, whose loss on the GPU and on the
   CPU must agree to 1e-3.
b) speed: characters per second of whole training steps next to the forward and backward pass of a
   bare ``nn.LSTM`` of the same shape; the fraction of the card's matrix-product rate; a profile.
c) quality: the loss with windows of 256 after budgets in minutes.
d) cpu: characters per second of several processes and threads on the CPU of the same machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import charlstm.training  # noqa: E402, F401  # before numpy: it sets how threads wait

# isort: split
import torch  # noqa: E402
from measure import machine, revision  # noqa: E402
from torch import nn  # noqa: E402

from charlstm.events import Evaluated, RunFinished  # noqa: E402
from charlstm.model import load  # noqa: E402
from charlstm.net.spec import CELLS  # noqa: E402
from charlstm.presets import default_settings  # noqa: E402
from charlstm.text.corpus import Corpus, open_corpus  # noqa: E402
from charlstm.training.device import Precision  # noqa: E402
from charlstm.training.network import stored_model  # noqa: E402
from charlstm.training.new_run import begin  # noqa: E402
from charlstm.training.resume import open_run  # noqa: E402
from charlstm.training.trainer import Trainer  # noqa: E402
from charlstm.training.validation import windowed_loss  # noqa: E402

EMBEDDING, BPTT = 64, 128
AGREEMENT = 1e-3
"""Maximum difference in nats between the losses of the same weights on two devices."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Sizes:
    """The sizes of each part."""

    steps: int
    """Steps of the runs that only check whether training works."""
    hidden: int
    held_out: int
    """Held-out characters on which devices are compared."""
    shapes: tuple[tuple[int, int], ...]
    """Layers and units."""
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    seconds: float
    """Duration of a speed measurement."""
    product: int
    """Rows of the square matrices whose product measures the card's limit."""
    minutes: tuple[float, ...]
    processes: tuple[tuple[int, int], ...]
    """Number of processes, and threads of each."""
    cpu_shape: tuple[int, int, int]
    """Layers, units, B."""


FULL = Sizes(
    steps=120,
    hidden=128,
    held_out=20_000,
    shapes=((1, 512), (3, 512), (3, 1024)),
    batches=(64, 128, 256, 512),
    precisions=("float16", "bfloat16"),
    seconds=0.25,
    product=8192,
    minutes=(1 / 3, 2),
    processes=((1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 8), (4, 4), (8, 2), (16, 1)),
    cpu_shape=(3, 320, 64),
)
TINY = Sizes(
    steps=6,
    hidden=8,
    held_out=300,
    shapes=((1, 8),),
    batches=(4,),
    precisions=("bfloat16",),
    seconds=0.02,
    product=64,
    minutes=(0.02,),
    processes=((1, 1),),
    cpu_shape=(1, 8, 4),
)


def charlstm_command(folder: Path, *words: str) -> str:
    """Standard output of a charlstm command that runs in ``folder``."""
    process = subprocess.run(
        [sys.executable, "-m", "charlstm", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(words)}: exit {process.returncode}\n{process.stderr[-2000:]}"
        )
    return process.stdout


@contextmanager
def trainer_of(
    corpus: Corpus,
    device: str,
    precision: str,
    *,
    layers: int,
    hidden: int,
    cell: str = "lstm",
    **fields: Any,
) -> Iterator[Trainer]:
    """A new run in a temporary folder."""
    model, train = default_settings(
        len(corpus),
        len(corpus.vocab),
        model={
            "cell": cell,
            "layers": layers,
            "hidden_size": hidden,
            "embedding_size": EMBEDDING,
        },
        train={"device": device, "precision": precision, "steps": 10**6, "bptt": BPTT, **fields},
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        begin(corpus, model, train, root=Path(folder)) as trainer,
    ):
        yield trainer


def synchronise(device: str) -> None:
    """Wait until the card has finished its queue."""
    if device == "cuda":
        torch.cuda.synchronize()


# -- a) works ------------------------------------------------------------------------------------


def works(text: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """Check training, resuming and sampling, and all cells on both devices."""
    corpus = open_corpus([text])
    results: dict[str, Any] = {
        precision: _resumed(corpus, device, precision, sizes)
        for precision in (DTYPES if sizes is FULL else ("float32",))
    }
    results["cells"] = {cell: _agreement(corpus, cell, device, sizes) for cell in CELLS}
    return results


def _resumed(corpus: Corpus, device: str, precision: str, sizes: Sizes) -> dict[str, Any]:
    """Losses of an uninterrupted and of a resumed run, and a sample of it on the CPU."""
    options = {"layers": 2, "hidden": sizes.hidden, "batch": 32, "steps": sizes.steps}
    with trainer_of(corpus, device, precision, **options) as trainer:
        whole = _finish(trainer)
    with trainer_of(corpus, device, precision, **options) as trainer:
        path, stopped_at = trainer.path, 0
        for event in trainer.run():
            if isinstance(event, Evaluated) and event.step:
                stopped_at = stopped_at or event.step
                trainer.request_stop()
        # The stopped run's lock is held, so the resumed one trains in a copy.
        copy = path.with_name("copy")
        shutil.copytree(path, copy)
        with open_run(copy, corpus) as resumed:
            again = _finish(resumed)
        sample = ("sample", "-c", str(copy), "--length", "80", "--seed", "1", "--temp", "0.8")
        written = charlstm_command(copy.parent, *sample)
    return {
        "stopped_at": stopped_at,
        "one_run_val_loss": whole,
        "resumed_val_loss": again,
        "same_bits": whole == again,
        "sample_on_cpu": written,
    }


def _finish(trainer: Trainer) -> float | None:
    """Train to the end of the budget; the validation loss of the best checkpoint."""
    losses = [event.val_loss for event in trainer.run() if isinstance(event, RunFinished)]
    return losses[-1]


def _agreement(corpus: Corpus, cell: str, device: str, sizes: Sizes) -> dict[str, Any]:
    """Losses of one model on both devices, after a few steps."""
    options = {"layers": 2, "hidden": sizes.hidden, "cell": cell, "batch": 32}
    with trainer_of(corpus, device, "float32", **options) as trainer:
        for _ in range(sizes.steps):
            trainer.take_step()
        ids = corpus.split(0.1)[1][: sizes.held_out]
        model = trainer.learner.average
        here = windowed_loss(model, ids, Precision(torch.device(device), "float32"))
        cpu = windowed_loss(model.cpu(), ids, Precision(torch.device("cpu"), "float32"))
    return {device: here, "cpu": cpu, "agree": abs(here - cpu) < AGREEMENT}


# -- b) speed ------------------------------------------------------------------------------------


def speed(text: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """Speed of whole steps, of the bare layer and of the matrix product, and a profile."""
    corpus = open_corpus([text])
    product = {p: _product_rate(device, p, sizes) for p in sizes.precisions}
    results: dict[str, Any] = {"product_tflops": {p: rate / 1e12 for p, rate in product.items()}}
    for layers, hidden in sizes.shapes:
        for batch in sizes.batches:
            found: dict[str, Any] = {}
            for precision in sizes.precisions:
                found[precision] = _compare(
                    corpus, device, precision, layers, hidden, batch, product[precision], sizes
                )
            results[f"{layers}x{hidden}, B {batch}"] = found
    ends = ((*sizes.shapes[0], sizes.batches[0]), (*sizes.shapes[-1], sizes.batches[-1]))
    results["profile"] = {
        f"{layers}x{hidden}, B {batch}": _profile(
            corpus, device, sizes.precisions[0], layers, hidden, batch
        )
        for layers, hidden, batch in ends
    }
    return results


def _compare(
    corpus: Corpus,
    device: str,
    precision: str,
    layers: int,
    hidden: int,
    batch: int,
    product: float,
    sizes: Sizes,
) -> dict[str, float]:
    options = {"layers": layers, "hidden": hidden, "batch": batch}
    with (
        trainer_of(corpus, device, precision, **options) as default,
        trainer_of(corpus, device, precision, dropout=0.0, **options) as without,
    ):
        characters = default.learner.streams.batch_at(0).inputs.size
        parameters = default.run_file.model.parameters
        steps = {
            "whole": default.take_step,
            "whole_without_dropout": without.take_step,
            "bare": _bare_step(device, precision, layers, hidden, characters // BPTT),
        }
        seconds = {name: [] for name in steps}  # type: dict[str, list[float]]
        for _ in range(3):  # in turn, so a slow moment affects all of them
            for name, step in steps.items():
                seconds[name].append(_seconds_of(step, device, sizes.seconds))
    rates = {name: characters / statistics.median(values) for name, values in seconds.items()}
    return {
        **{f"{name}_chars_per_second": rate for name, rate in rates.items()},
        "whole_over_bare": rates["whole"] / rates["bare"],
        "without_dropout_over_bare": rates["whole_without_dropout"] / rates["bare"],
        "fraction_of_product": 6 * parameters * rates["whole"] / product,
    }


def _bare_step(
    device: str, precision: str, layers: int, hidden: int, batch: int
) -> Callable[[], Any]:
    """Forward and backward pass of ``nn.LSTM`` without output layer, loss and optimiser."""
    dtype = DTYPES[precision]
    lstm = nn.LSTM(EMBEDDING, hidden, layers).to(device, dtype)
    inputs = torch.randn(BPTT, batch, EMBEDDING, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(BPTT, batch, hidden, device=device, dtype=dtype)

    def step() -> None:
        lstm.zero_grad()
        inputs.grad = None
        lstm(inputs)[0].backward(gradient)

    return step


def _product_rate(device: str, precision: str, sizes: Sizes) -> float:
    """FLOP/s of a square matrix product."""
    size = sizes.product
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    return 2 * size**3 / _seconds_of(lambda: a @ a, device, sizes.seconds)


def _seconds_of(step: Callable[[], Any], device: str, seconds: float) -> float:
    """Mean seconds of a step over about ``seconds`` seconds, after three warm-up steps."""
    for _ in range(3):
        step()
    synchronise(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            step()
        synchronise(device)
        count += 4
    return (time.perf_counter() - start) / count


def _profile(
    corpus: Corpus, device: str, precision: str, layers: int, hidden: int, batch: int
) -> dict[str, Any]:
    """The five largest items of a step, and the CPU time to launch it."""
    on_card = device == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_card:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    steps = 5
    with trainer_of(
        corpus, device, precision, layers=layers, hidden=hidden, batch=batch
    ) as trainer:
        for _ in range(5):
            trainer.take_step()
        synchronise(device)
        start = time.perf_counter()
        for _ in range(steps):
            trainer.take_step()
        launched = time.perf_counter() - start
        synchronise(device)
        whole = time.perf_counter() - start
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(steps):
                trainer.take_step()
            synchronise(device)
    events = profile.key_averages()

    def own_time(event: Any) -> float:
        return float(event.self_device_time_total if on_card else event.self_cpu_time_total)

    # On a card, kernels and the operations that start them are both listed with the kernels' time.
    kernels = [e for e in events if not on_card or str(e.device_type).endswith("CUDA")]
    total = sum(own_time(event) for event in kernels) or 1.0
    largest = sorted(kernels, key=own_time, reverse=True)[:5]
    return {
        "milliseconds_per_step": 1e3 * whole / steps,
        "milliseconds_to_launch": 1e3 * launched / steps,
        "kernels_per_step": sum(event.count for event in kernels) / steps,
        "largest": [
            {
                "name": str(event.key)[:120],
                "fraction": own_time(event) / total,
                "calls_per_step": event.count / steps,
            }
            for event in largest
        ],
    }


# -- c) quality ----------------------------------------------------------------------------------


def quality(text: Path, device: str, sizes: Sizes) -> dict[str, Any]:
    """Loss of the best checkpoint of ``charlstm train --minutes``."""
    results: dict[str, Any] = {}
    ids = open_corpus([text]).split(0.1)[1]
    for minutes in sizes.minutes:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            start = time.perf_counter()
            finished = json.loads(
                charlstm_command(
                    folder,
                    *("train", str(text), "--name", "run", "--device", device),
                    *("--minutes", str(minutes), "--quiet", "--json"),
                )
            )
            seconds = time.perf_counter() - start
            file = load(folder / "checkpoints" / "run").file
            model = stored_model(file).to(device)
            full = Precision(torch.device(device), "float32")
            results[f"{60 * minutes:.0f} s"] = {
                "process_seconds": seconds,
                "steps": finished["step"],
                "model": file.config.describe(),
                "windowed": windowed_loss(model, ids, full),
                "stateful": finished["val_loss"],
            }
    return results


# -- d) cpu --------------------------------------------------------------------------------------


def cpu(text: Path, device: str, sizes: Sizes) -> dict[str, float]:
    """Total characters per second of several independent training processes."""
    rates: dict[str, float] = {}
    for processes, threads in sizes.processes:
        if processes * threads > (os.cpu_count() or 1):
            continue
        command = [sys.executable, __file__, str(text), "--steps-on", str(threads)]
        command += ["--tiny"] if sizes is TINY else []
        children = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        outputs = [child.communicate() for child in children]
        for child, (_, errors) in zip(children, outputs, strict=True):
            if child.returncode:
                raise RuntimeError(errors[-2000:])
        rates[f"{processes} x {threads}"] = sum(float(out) for out, _ in outputs)
    return rates


def steps_on(text: Path, threads: int, sizes: Sizes) -> float:
    """Characters per second of this process on the CPU."""
    corpus = open_corpus([text])
    layers, hidden, batch = sizes.cpu_shape
    options = {"layers": layers, "hidden": hidden, "batch": batch, "threads": threads}
    with trainer_of(corpus, "cpu", "float32", **options) as trainer:
        seconds = _seconds_of(trainer.take_step, "cpu", 12 * sizes.seconds)
        return trainer.learner.streams.batch_at(0).inputs.size / seconds


# ------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path, str, Sizes], dict[str, Any]]] = {
    "works": works,
    "speed": speed,
    "quality": quality,
    "cpu": cpu,
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test on a CPU")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--steps-on", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = TINY if arguments.tiny else FULL
    text = arguments.text.resolve()
    if arguments.steps_on:
        print(steps_on(text, arguments.steps_on, sizes))
        return
    document: dict[str, Any] = {"commit": revision(ROOT), "machine": machine(), "parts": {}}
    start = time.perf_counter()
    for name in arguments.parts:
        begun = time.perf_counter()
        try:
            result = PARTS[name](text, arguments.device, sizes)
        except Exception:  # a failing part must not stop the others
            result = {"error": traceback.format_exc()}
        document["parts"][name] = {**result, "part_seconds": time.perf_counter() - begun}
        document["seconds"] = time.perf_counter() - start
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {document['seconds']:.0f} s", file=sys.stderr)
    print(json.dumps(document, indent=1))
    if any("error" in part for part in document["parts"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
