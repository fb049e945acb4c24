"""The curves of a run as arrays, read from its ``metrics.jsonl``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.events import Evaluated, StepDone
from charlstm.runs.metrics import event_from_dict, read_lines
from charlstm.runs.run import METRICS_FILE

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """Losses and gates along a run. Losses are nats per character.

    There are N reports of the training loss, two a second at most, as in ``metrics.jsonl``, and M
    validations of L layers with G gates each.
    """

    step: Integers
    """(N,) training steps taken."""
    epoch: Floats
    """(N,) how often the text was read."""
    seconds: Floats
    """(N,) training time."""
    loss: Floats
    """(N,) mean training loss of the steps just before, for 0.2 seconds or more, with dropout."""
    learning_rate: Floats
    """(N,) Muon's."""
    gradient_norm: Floats
    """(N,) before clipping."""
    chars_per_second: Floats
    """(N,)"""
    val_step: Integers
    """(M,) training steps taken; the first validation may be at step 0."""
    val_epoch: Floats
    """(M,)"""
    val_seconds: Floats
    """(M,)"""
    val_loss: Floats
    """(M,) of the averaged weights on the held-out text."""
    gates: tuple[str, ...]
    """(G,) names; empty if nothing is held out."""
    gate_left: Floats
    """(M, L, G) fraction of (unit, character) pairs of a gate that is shut."""
    gate_right: Floats
    """(M, L, G) the fraction that is open."""
    gate_mean: Floats
    """(M, L, G) mean activation."""

    def __repr__(self) -> str:
        return f"<History of {len(self.step)} reports and {len(self.val_step)} validations>"


def read_history(run: Path) -> History:
    """The history of the run in a folder; of one without ``metrics.jsonl`` it is empty."""
    events = [event_from_dict(line) for line in read_lines(run / METRICS_FILE)]
    steps = [event for event in events if isinstance(event, StepDone)]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    first = evaluated[0].gates if evaluated else ()
    names = tuple(dict.fromkeys(gate.gate for gate in first))
    layers = len({gate.layer for gate in first})
    whole = [e for e in evaluated if len(e.gates) == layers * len(names)]
    shape = len(whole), layers, len(names)

    def floats(kind: list[StepDone] | list[Evaluated], name: str) -> Floats:
        return np.array([getattr(event, name) for event in kind], np.float64)

    def gates(name: str) -> Floats:
        values = [getattr(gate, name) for event in whole for gate in event.gates]
        return np.array(values, np.float64).reshape(shape)

    return History(
        step=np.array([event.step for event in steps], np.int64),
        epoch=floats(steps, "epoch"),
        seconds=floats(steps, "seconds"),
        loss=floats(steps, "loss"),
        learning_rate=floats(steps, "learning_rate"),
        gradient_norm=floats(steps, "gradient_norm"),
        chars_per_second=floats(steps, "chars_per_second"),
        val_step=np.array([event.step for event in whole], np.int64),
        val_epoch=floats(whole, "epoch"),
        val_seconds=floats(whole, "seconds"),
        val_loss=floats(whole, "val_loss"),
        gates=names,
        gate_left=gates("left"),
        gate_right=gates("right"),
        gate_mean=gates("mean"),
    )
