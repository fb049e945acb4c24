"""The LSTM once more, in Python floats and loops over units: an oracle that nobody optimised.

It shares no code with ``charlstm.engine``. The equations are those of Gers, Schmidhuber &
Cummins 2000; the rows of the packed weights come in the order input, forget, candidate, output.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = dict[str, NDArray[np.floating]]
Row = list[float]


@dataclass(frozen=True)
class Reading:
    """What happened at T steps of one text; all float64."""

    gates: NDArray[np.float64]
    """(T, L, 3, H): input, forget, output."""
    h: NDArray[np.float64]
    """(T, L, H)"""
    c: NDArray[np.float64]
    """(T, L, H)"""
    logits: NDArray[np.float64]
    """(T, V)"""


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def dot(left: Row, right: Row) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def read_text(weights: Weights, ids: ArrayLike) -> Reading:
    """Read ``ids`` (T,) from zero state."""
    lists = {name: array.astype(np.float64).tolist() for name, array in weights.items()}
    layers = sum(name.endswith("weight_hidden") for name in weights)
    size = weights["output_weight"].shape[1]
    h = [[0.0] * size for _ in range(layers)]
    c = [[0.0] * size for _ in range(layers)]
    kept: dict[str, list[list[Row] | list[list[Row]]]] = {"gates": [], "h": [], "c": []}
    logits: list[Row] = []
    for symbol in np.asarray(ids).tolist():
        x: Row = lists["embedding"][symbol]
        step_gates: list[list[Row]] = []
        for layer in range(layers):
            gates, h[layer], c[layer] = _layer_step(lists, layer, x, h[layer], c[layer])
            step_gates.append(gates)
            x = h[layer]
        kept["gates"].append(step_gates)
        kept["h"].append(list(h))
        kept["c"].append(list(c))
        rows = zip(lists["output_weight"], lists["output_bias"], strict=True)
        logits.append([dot(row, x) + bias for row, bias in rows])
    return Reading(
        **{name: np.array(values) for name, values in kept.items()}, logits=np.array(logits)
    )


def _layer_step(
    lists: dict[str, list], layer: int, x: Row, h: Row, c: Row
) -> tuple[list[Row], Row, Row]:
    """One layer at one step: gates (3, H), h (H,) and c (H,)."""
    weight_input, weight_hidden, bias = (
        lists[f"layers.{layer}.{name}"] for name in ("weight_input", "weight_hidden", "bias")
    )
    size = len(h)
    gates: list[Row] = [[], [], []]
    new_h, new_c = [], []
    for unit in range(size):
        z_input, z_forget, z_candidate, z_output = (
            dot(weight_input[row], x) + dot(weight_hidden[row], h) + bias[row]
            for row in (unit, size + unit, 2 * size + unit, 3 * size + unit)
        )
        i, f, o = sigma(z_input), sigma(z_forget), sigma(z_output)
        cell = f * c[unit] + i * math.tanh(z_candidate)
        for gate, value in zip(gates, (i, f, o), strict=True):
            gate.append(value)
        new_c.append(cell)
        new_h.append(o * math.tanh(cell))
    return gates, new_h, new_c
