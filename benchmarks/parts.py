"""Time of each part of a training step.

    python benchmarks/parts.py --rounds 5

Times the functions that a step of ``charlstm train`` calls. Shapes are layers x hidden x B x T. The
output layer is part of the forward pass.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from measure import interleave, record, spread_of
from speed import Shape, settings

import charlstm.training  # before torch: it sets how threads wait  # noqa: F401

STEPS = 20
SHAPES = ("3x384x32x64", "3x192x32x64", "1x512x64x64")


def parts(shape: Shape) -> dict[str, float]:
    """Milliseconds per step, in total and of each part."""
    import torch
    from torch import nn

    from charlstm.text.streams import Streams
    from charlstm.training import learner
    from charlstm.training.network import LanguageModel
    from charlstm.training.new_run import begin
    from charlstm.training.optimiser import Optimiser

    parts: list[tuple[Any, str, str]] = [
        (Streams, "batch_at", "batch"),
        (LanguageModel, "forward", "forward"),
        (nn.functional, "linear", "output layer"),
        (nn.functional, "nll_loss", "loss"),
        (torch.Tensor, "backward", "backward"),
        (nn.utils, "clip_grad_norm_", "clipping"),
        (Optimiser, "_step_muon", "Muon"),
        (Optimiser, "_step_adam", "Adam"),
        (learner, "update_average", "average"),
    ]
    spent: dict[str, float] = defaultdict(float)
    with (
        tempfile.TemporaryDirectory() as root,
        begin(*settings(shape, "lstm"), root=Path(root)) as trainer,
    ):
        for _ in range(5):
            trainer.take_step()
        kept = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
        for owner, name, part in parts:
            setattr(owner, name, _timed(getattr(owner, name), part, spent))
        start = time.perf_counter()
        for _ in range(STEPS):
            trainer.take_step()
        spent["whole"] = time.perf_counter() - start
        for owner, name, function in kept:
            setattr(owner, name, function)
    return {part: 1e3 * seconds / STEPS for part, seconds in spent.items()}


def _timed(function: Any, part: str, spent: dict[str, float]) -> Any:
    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[part] += time.perf_counter() - start

    return timed


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)

    def measure(text: str) -> float:
        found[text].append(parts(Shape.parse(text)))
        return found[text][-1]["whole"]

    interleave(
        {text: lambda text=text: measure(text) for text in arguments.shapes}, arguments.rounds
    )
    record(
        "parts",
        {
            f"{text}, ms per step": {
                part: spread_of([row[part] for row in rows]) for part in rows[0]
            }
            for text, rows in found.items()
        },
    )


if __name__ == "__main__":
    main()
