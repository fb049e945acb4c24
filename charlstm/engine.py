"""Every cell, one step at a time, in NumPy: the definition of each cell, and fast at batch 1.

The sampler, the inspector and the tests' oracle call it. Shape letters: B texts side by side,
T steps, V vocabulary, E embedding, H hidden, L layers, S states of a cell, G gates of a cell.
All arrays are float32 unless the engine is made with another dtype.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.config import ModelConfig
from charlstm.spec import CELLS, CellSpec, layer_prefix

Array = NDArray[Any]
Weights = Mapping[str, Array]
CellStep = Callable[[CellSpec, Array, Array, Weights], tuple[Array, Array]]
"""The cell's spec, z (B, R), the state before (S, B, H) and the layer's arrays by their names in
the spec, to the new state (S, B, H) and the gates (G, B, H) in the order of ``spec.gates``."""
Hold = Callable[[int, Array], None]
"""Is given each layer's number and new state (S, B, H), and may change the latter in place."""


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), by tanh: exact to rounding, never overflows, and vectorised."""
    half = z.dtype.type(0.5)
    result: Array = np.tanh(z * half) * half + half
    return result


def lstm_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Array]:
    """One step of the LSTM (Gers, Schmidhuber & Cummins 2000).

        i, f, o = sigma(z_input), sigma(z_forget), sigma(z_output);  g = tanh(z_candidate)
        c = f * c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``. Written for speed: nearly every line works in arrays that are there
    already.
    """
    batch, rows = z.shape
    size = rows // 4
    # One tanh serves all four blocks: a gate's z is halved before it, and mapped to (0, 1) after.
    activations = z.reshape(batch, 4, size) * _half_gates(spec, z.dtype)
    np.tanh(activations, out=activations)
    candidate = activations[:, spec.blocks.index("candidate")]
    gates = np.empty((3, batch, size), dtype=z.dtype)
    for i, name in enumerate(spec.gates):
        np.multiply(activations[:, spec.blocks.index(name)], 0.5, out=gates[i])
    gates += 0.5
    input_gate, forget_gate, output_gate = gates
    new = np.empty_like(state)
    h, c = new
    np.multiply(forget_gate, state[1], out=c)
    np.multiply(input_gate, candidate, out=h)  # h serves as scratch until its own line
    c += h
    np.tanh(c, out=h)
    h *= output_gate
    return new, gates


_HALVES: dict[tuple[str, np.dtype[Any]], Array] = {}


def _half_gates(spec: CellSpec, dtype: np.dtype[Any]) -> Array:
    """(blocks, 1): 0.5 for a gate, 1 for a candidate."""
    key = (spec.name, dtype)
    if key not in _HALVES:
        values = [[0.5 if block in spec.gates else 1.0] for block in spec.blocks]
        _HALVES[key] = np.array(values, dtype=dtype)
    return _HALVES[key]


def lstm_1997_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Array]:
    """One step of the LSTM without a forget gate (Hochreiter & Schmidhuber 1997).

        i, o = sigma(z_input), sigma(z_output);  g = tanh(z_candidate)
        c = c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``. The paper squashes g to [-2, 2]; tanh stands in for it here.
    """
    parts = _by_block(spec, z)
    i, o = sigmoid(parts["input"]), sigmoid(parts["output"])
    c = state[1] + i * np.tanh(parts["candidate"])
    return np.array([o * np.tanh(c), c]), _in_order(spec, {"input": i, "output": o})


def coupled_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Array]:
    """One step of the LSTM whose input gate is what the forget gate leaves (Greff et al. 2017).

        f, o = sigma(z_forget), sigma(z_output);  i = 1 - f;  g = tanh(z_candidate)
        c = f * c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``.
    """
    parts = _by_block(spec, z)
    f, o = sigmoid(parts["forget"]), sigmoid(parts["output"])
    i = 1 - f
    c = f * state[1] + i * np.tanh(parts["candidate"])
    gates = _in_order(spec, {"input": i, "forget": f, "output": o})
    return np.array([o * np.tanh(c), c]), gates


def peephole_step(spec: CellSpec, z: Array, state: Array, weights: Weights) -> tuple[Array, Array]:
    """One step of the LSTM whose gates see the cell (Gers & Schmidhuber 2000).

        i, f = sigma(z_input + p_input * c_prev), sigma(z_forget + p_forget * c_prev)
        c = f * c_prev + i * tanh(z_candidate)
        o = sigma(z_output + p_output * c);  h = o * tanh(c)

    Shapes as in ``CellStep``; p are the blocks of ``weight_peephole`` (3H,).
    """
    parts, c_prev = _by_block(spec, z), state[1]
    names = spec.extras["weight_peephole"]
    peepholes = dict(zip(names, np.split(weights["weight_peephole"], len(names)), strict=True))
    i = sigmoid(parts["input"] + peepholes["input"] * c_prev)
    f = sigmoid(parts["forget"] + peepholes["forget"] * c_prev)
    c = f * c_prev + i * np.tanh(parts["candidate"])
    o = sigmoid(parts["output"] + peepholes["output"] * c)
    gates = _in_order(spec, {"input": i, "forget": f, "output": o})
    return np.array([o * np.tanh(c), c]), gates


def gru_step(spec: CellSpec, z: Array, state: Array, weights: Weights) -> tuple[Array, Array]:
    """One step of the gated recurrent unit (Cho et al. 2014), in torch's convention.

        r, u = sigma(z_reset), sigma(z_update)
        n = tanh(weight_input_n x + bias_n + r * (weight_hidden_n h_prev + bias_hidden))
        h = u * h_prev + (1 - u) * n

    Shapes as in ``CellStep``. ``z`` has the whole hidden part in its candidate; the share 1 - r
    of it is taken away again, at the price of one product more.
    """
    parts, h_prev = _by_block(spec, z), state[0]
    r, u = sigmoid(parts["reset"]), sigmoid(parts["update"])
    rows = spec.block("candidate", h_prev.shape[1])
    hidden = _rows_times(h_prev, weights["weight_hidden"][rows])
    n = np.tanh(parts["candidate"] - (1 - r) * hidden + r * weights["bias_hidden"])
    h = u * h_prev + (1 - u) * n
    return h[None], _in_order(spec, {"update": u, "reset": r})


def rnn_step(_spec: CellSpec, z: Array, _state: Array, _: Weights) -> tuple[Array, Array]:
    """One step of the simple recurrent network (Elman 1990): h = tanh(z).

    Shapes as in ``CellStep``; there are no gates.
    """
    h = np.tanh(z)
    return h[None], np.empty((0, *h.shape), dtype=z.dtype)


def _by_block(spec: CellSpec, z: Array) -> dict[str, Array]:
    """z (B, R) as its blocks (B, H)."""
    return dict(zip(spec.blocks, np.split(z, len(spec.blocks), axis=1), strict=True))


def _in_order(spec: CellSpec, gates: dict[str, Array]) -> Array:
    return np.array([gates[name] for name in spec.gates])


STEPS: dict[str, CellStep] = {
    "lstm": lstm_step,
    "lstm-1997": lstm_1997_step,
    "coupled": coupled_step,
    "peephole": peephole_step,
    "gru": gru_step,
    "rnn": rnn_step,
}


@dataclass(frozen=True)
class Trace:
    """What happened inside at T steps of one text."""

    gates: Array
    """(T, L, G, H), in the order of ``spec.gates``."""
    states: Array
    """(T, L, S, H), after each step, in the order of ``spec.states``."""


class Engine:
    """Runs a model's weights. State goes in and comes out; the engine keeps none."""

    def __init__(
        self, config: ModelConfig, weights: dict[str, Array], dtype: Any = np.float32
    ) -> None:
        self.config = config
        self.spec = CELLS[config.cell]
        self._step = STEPS[config.cell]
        arrays = {name: np.asarray(array, dtype=dtype) for name, array in weights.items()}
        self.dtype = np.dtype(dtype)
        # The first layer's input product takes V values only: a table of V rows replaces it.
        first = layer_prefix(0)
        self._table = (
            arrays["embedding"] @ arrays[first + "weight_input"].T + arrays[first + "bias"]
        )
        names = [layer_prefix(layer) for layer in range(config.layers)]
        self._weights = [
            {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            for prefix in names
        ]
        self._hidden = [np.ascontiguousarray(arrays[n + "weight_hidden"]) for n in names]
        # Above the first layer one product serves input and hidden state: [W_input, W_hidden].
        self._joined = [
            np.hstack([arrays[n + "weight_input"], arrays[n + "weight_hidden"]]) for n in names[1:]
        ]
        self._biases = [arrays[n + "bias"] for n in names]
        self._output_weight = np.ascontiguousarray(arrays["output_weight"])
        self._output_bias = arrays["output_bias"]

    def initial_state(self, batch: int = 1) -> Array:
        """The state before any character: zeros (L, S, B, H)."""
        shape = (self.config.layers, len(self.spec.states), batch, self.config.hidden_size)
        return np.zeros(shape, dtype=self.dtype)

    def step(self, ids: Array, state: Array, hold: Hold | None = None) -> tuple[Array, Array]:
        """Read one character of each text.

        Args:
            ids: (B,) integers.
            state: (L, S, B, H).
            hold: changes what each layer has just computed, before anything reads it.

        Returns:
            Logits of the next character (B, V), and the new state (L, S, B, H).
        """
        new, _ = self._advance(ids, state, hold)
        return self._logits(new[-1, 0]), new

    def _advance(
        self, ids: Array, state: Array, hold: Hold | None = None
    ) -> tuple[Array, list[Array]]:
        new = np.empty_like(state)
        gates: list[Array] = []
        for layer in range(self.config.layers):
            if layer == 0:
                z = self._table[ids] + _rows_times(state[0, 0], self._hidden[0])
            else:
                joined = np.concatenate([new[layer - 1, 0], state[layer, 0]], axis=1)
                z = _rows_times(joined, self._joined[layer - 1])
                z += self._biases[layer]
            new[layer], layer_gates = self._step(self.spec, z, state[layer], self._weights[layer])
            if hold is not None:
                hold(layer, new[layer])
            gates.append(layer_gates)
        return new, gates

    def _logits(self, h: Array) -> Array:
        logits: Array = _rows_times(h, self._output_weight) + self._output_bias
        return logits

    def read(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read a whole text of T characters.

        Args:
            ids: (T,) integers.
            state: (L, S, 1, H).

        Returns:
            Logits (T, V), row t being those of the character after ``ids[t]``, and the state.
        """
        outputs = np.empty((len(ids), self.config.hidden_size), dtype=self.dtype)
        for t in range(len(ids)):
            state, _ = self._advance(ids[t : t + 1], state)
            outputs[t] = state[-1, 0, 0]
        return outputs @ self._output_weight.T + self._output_bias, state

    def trace(self, ids: Array, state: Array) -> tuple[Trace, Array, Array]:
        """As ``read``, and keep every gate and state: (trace, logits (T, V), state)."""
        layers, gate_count = self.config.layers, len(self.spec.gates)
        size, steps = self.config.hidden_size, len(ids)
        gates = np.empty((steps, layers, gate_count, size), dtype=self.dtype)
        states = np.empty((steps, layers, len(self.spec.states), size), dtype=self.dtype)
        for t in range(steps):
            state, step_gates = self._advance(ids[t : t + 1], state)
            states[t] = state[:, :, 0]
            for layer in range(layers):
                gates[t, layer] = step_gates[layer][:, 0]
        logits = states[:, -1, 0] @ self._output_weight.T + self._output_bias
        return Trace(gates, states), logits, state


def _rows_times(rows: Array, matrix: Array) -> Array:
    """rows (B, I) times matrix (O, I) transposed: (B, O); one row takes the faster gemv."""
    if len(rows) == 1:
        product: Array = np.dot(matrix, rows[0])[None]
        return product
    return rows @ matrix.T


def chunks(ids: Array, size: int) -> Iterator[Array]:
    """``ids`` in pieces of at most ``size``, so that a book needs no more memory than a page."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def log_softmax(logits: Array) -> Array:
    """Natural log of the softmax over the last axis, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide
