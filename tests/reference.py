"""Reference implementations of all cells, in Python floats and loops over units, unoptimised.

It shares no code with ``charlstm.net.engine``. Each cell is written out by itself from its paper,
with the numbers of its rows in the packed weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = dict[str, NDArray[np.floating]]
Row = list[float]


@dataclass(frozen=True)
class Reading:
    """What happened at T steps of one text; all float64."""

    gates: NDArray[np.float64]
    """(T, L, G, H): input, forget, output; without forget for lstm-1997; update, reset for gru."""
    states: NDArray[np.float64]
    """(T, L, S, H): h, and c of the LSTMs."""
    logits: NDArray[np.float64]
    """(T, V)"""


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def dot(left: Row, right: Row) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def read_text(weights: Weights, ids: ArrayLike, cell: str = "lstm") -> Reading:
    """Read ``ids`` (T,) from zero state."""
    lists = {name: array.astype(np.float64).tolist() for name, array in weights.items()}
    layers = sum(name.endswith("weight_hidden") for name in weights)
    size = weights["output_weight"].shape[1]
    step, state_count = CELLS[cell]
    state = [[[0.0] * size for _ in range(state_count)] for _ in range(layers)]
    gates: list[list[list[Row]]] = []
    states: list[list[list[Row]]] = []
    logits: list[Row] = []
    for symbol in np.asarray(ids).tolist():
        x: Row = lists["embedding"][symbol]
        gates.append([])
        total = [0.0] * size
        for layer in range(layers):
            packed = Packed(lists, layer, x, state[layer][0])
            units = [
                step(packed, unit, size, [s[unit] for s in state[layer]]) for unit in range(size)
            ]
            gates[-1].append([list(row) for row in zip(*(unit[0] for unit in units), strict=True)])
            state[layer] = [list(row) for row in zip(*(unit[1] for unit in units), strict=True)]
            x = state[layer][0]
            total = [a + b for a, b in zip(total, x, strict=True)]
        states.append(list(state))
        rows = zip(lists["output_weight"], lists["output_bias"], strict=True)
        logits.append([dot(row, total) + bias for row, bias in rows])
    shape = (len(gates), layers, -1, size)  # rnn has no gates
    return Reading(np.reshape(gates, shape), np.array(states), np.array(logits))


class Packed:
    """One layer's arrays, what it reads, and the h of all its units."""

    def __init__(self, lists: dict[str, list], layer: int, x: Row, h: Row) -> None:
        self._lists, self._prefix = lists, f"layers.{layer}."
        self._x, self._h = x, h

    def array(self, name: str) -> list:
        return self._lists[self._prefix + name]

    def from_input(self, row: int) -> float:
        return dot(self.array("weight_input")[row], self._x) + self.array("bias")[row]

    def from_hidden(self, row: int) -> float:
        return dot(self.array("weight_hidden")[row], self._h)

    def z(self, row: int) -> float:
        return self.from_input(row) + self.from_hidden(row)


# One unit at one step: its gates and its new states.
Step = Callable[[Packed, int, int, Row], tuple[Row, Row]]


def lstm(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Gers, Schmidhuber & Cummins 2000; rows input, forget, candidate, output."""
    i = sigma(packed.z(unit))
    f = sigma(packed.z(size + unit))
    g = math.tanh(packed.z(2 * size + unit))
    o = sigma(packed.z(3 * size + unit))
    c = f * state[1] + i * g
    return [i, f, o], [o * math.tanh(c), c]


def lstm_1997(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Hochreiter & Schmidhuber 1997; rows input, candidate, output."""
    i = sigma(packed.z(unit))
    g = math.tanh(packed.z(size + unit))
    o = sigma(packed.z(2 * size + unit))
    c = state[1] + i * g
    return [i, o], [o * math.tanh(c), c]


def coupled(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Greff et al. 2017; rows forget, candidate, output."""
    f = sigma(packed.z(unit))
    g = math.tanh(packed.z(size + unit))
    o = sigma(packed.z(2 * size + unit))
    c = f * state[1] + (1 - f) * g
    return [1 - f, f, o], [o * math.tanh(c), c]


def peephole(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Gers & Schmidhuber 2000; rows input, forget, candidate, output; peepholes without g."""
    to_input, to_forget, to_output = (
        packed.array("weight_peephole")[start + unit] for start in (0, size, 2 * size)
    )
    i = sigma(packed.z(unit) + to_input * state[1])
    f = sigma(packed.z(size + unit) + to_forget * state[1])
    g = math.tanh(packed.z(2 * size + unit))
    c = f * state[1] + i * g
    o = sigma(packed.z(3 * size + unit) + to_output * c)
    return [i, f, o], [o * math.tanh(c), c]


def gru(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Cho et al. 2014 as torch has it; rows reset, update, candidate."""
    r = sigma(packed.z(unit))
    u = sigma(packed.z(size + unit))
    from_hidden = packed.from_hidden(2 * size + unit) + packed.array("bias_hidden")[unit]
    n = math.tanh(packed.from_input(2 * size + unit) + r * from_hidden)
    return [u, r], [(1 - u) * n + u * state[0]]


def rnn(packed: Packed, unit: int, size: int, state: Row) -> tuple[Row, Row]:
    """Elman 1990."""
    return [], [math.tanh(packed.z(unit))]


# Each cell's step, and how many states it has.
CELLS: dict[str, tuple[Step, int]] = {
    "lstm": (lstm, 2),
    "lstm-1997": (lstm_1997, 2),
    "coupled": (coupled, 2),
    "peephole": (peephole, 2),
    "gru": (gru, 1),
    "rnn": (rnn, 1),
}
