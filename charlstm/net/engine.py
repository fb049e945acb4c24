"""All cells in NumPy, one step at a time: the reference definition, and fast at batch size 1.

The sampler, the inspector and the tests use it. Shape letters: B parallel texts, T steps,
V vocabulary, E embedding, H hidden, L layers, S states of a cell, G gates of a cell.
All arrays are float32 unless the engine is made with another dtype.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.net.blas_threads import paced
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, CellSpec, layer_prefix

Array = NDArray[Any]
Weights = Mapping[str, Array]
Gates = tuple[Array, ...]
CellStep = Callable[[CellSpec, Array, Array, Weights], tuple[Array, Gates]]
"""One step of a layer.

Takes the cell's spec, the pre-activations z (B, R), the previous state (S, B, H) and the layer's
arrays by name. Returns the new state (S, B, H) and the gates, (B, H) each, in the order of
``spec.gates``. It may overwrite z.
"""
Hold = Callable[[int, Array], None]
"""Called with each layer's index (from 0) and new state (S, B, H), which it may modify."""


def gate(z: Array) -> Array:
    """sigma(z) = 1 / (1 + exp(-z)) as (1 + tanh(z/2)) / 2, which never overflows."""
    result: Array = z * 0.5
    np.tanh(result, out=result)
    result *= 0.5
    result += 0.5
    return result


def lstm_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Gates]:
    """One step of the LSTM (Gers, Schmidhuber & Cummins 2000).

        i, f, o = sigma(z_input), sigma(z_forget), sigma(z_output);  g = tanh(z_candidate)
        c = f * c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``. Optimised for speed: nearly every line reuses existing arrays, and
    one tanh covers all four blocks, because sigma(z) = (1 + tanh(z/2)) / 2.
    """
    blocks = z.reshape(len(z), 4, -1)
    blocks *= _LSTM_SLOPE
    np.tanh(z, out=z)
    blocks *= _LSTM_SLOPE
    blocks += _LSTM_SHIFT
    parts = spec.split(z, axis=1)
    new = np.empty_like(state)
    h, c = new
    np.multiply(parts["forget"], state[1], out=c)
    np.multiply(
        parts["input"], parts["candidate"], out=h
    )  # h is scratch space until it is computed
    c += h
    np.tanh(c, out=h)
    h *= parts["output"]
    return new, _in_order(spec, parts)


_LSTM_SLOPE = np.array(
    [[0.5 if block in CELLS["lstm"].gates else 1.0] for block in CELLS["lstm"].blocks], np.float32
)
"""(blocks, 1): 0.5 for a gate, 1 for the candidate, which is tanh(z) itself."""
_LSTM_SHIFT = 1 - _LSTM_SLOPE


def lstm_1997_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Gates]:
    """One step of the LSTM without a forget gate (Hochreiter & Schmidhuber 1997).

        i, o = sigma(z_input), sigma(z_output);  g = tanh(z_candidate)
        c = c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``. The paper scales g to [-2, 2]; here it is tanh.
    """
    parts = spec.split(z, axis=1)
    i, o = gate(parts["input"]), gate(parts["output"])
    c = state[1] + i * np.tanh(parts["candidate"])
    return np.array([o * np.tanh(c), c]), _in_order(spec, {"input": i, "output": o})


def coupled_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Gates]:
    """One step of the LSTM with coupled input and forget gates (Greff et al. 2017).

        f, o = sigma(z_forget), sigma(z_output);  i = 1 - f;  g = tanh(z_candidate)
        c = f * c_prev + i * g;  h = o * tanh(c)

    Shapes as in ``CellStep``.
    """
    parts = spec.split(z, axis=1)
    f, o = gate(parts["forget"]), gate(parts["output"])
    i = 1 - f
    c = f * state[1] + i * np.tanh(parts["candidate"])
    gates = _in_order(spec, {"input": i, "forget": f, "output": o})
    return np.array([o * np.tanh(c), c]), gates


def peephole_step(spec: CellSpec, z: Array, state: Array, weights: Weights) -> tuple[Array, Gates]:
    """One step of the LSTM with peephole connections (Gers & Schmidhuber 2000).

        i, f = sigma(z_input + p_input * c_prev), sigma(z_forget + p_forget * c_prev)
        c = f * c_prev + i * tanh(z_candidate)
        o = sigma(z_output + p_output * c);  h = o * tanh(c)

    Shapes as in ``CellStep``; the p_… are the blocks of ``weight_peephole`` (3H,).
    """
    parts, c_prev = spec.split(z, axis=1), state[1]
    peepholes = spec.split(weights["weight_peephole"], "weight_peephole")
    i = gate(parts["input"] + peepholes["input"] * c_prev)
    f = gate(parts["forget"] + peepholes["forget"] * c_prev)
    c = f * c_prev + i * np.tanh(parts["candidate"])
    o = gate(parts["output"] + peepholes["output"] * c)
    gates = _in_order(spec, {"input": i, "forget": f, "output": o})
    return np.array([o * np.tanh(c), c]), gates


def gru_step(spec: CellSpec, z: Array, state: Array, weights: Weights) -> tuple[Array, Gates]:
    """One step of the gated recurrent unit (Cho et al. 2014), in torch's convention.

        r, u = sigma(z_reset), sigma(z_update)
        n = tanh(weight_input_n x + bias_n + r * (weight_hidden_n h_prev + bias_hidden))
        h = u * h_prev + (1 - u) * n

    Shapes as in ``CellStep``. The candidate block of z includes the full hidden part, so the step
    subtracts 1 - r times that part, which costs one more matrix product.
    """
    parts, h_prev = spec.split(z, axis=1), state[0]
    r, u = gate(parts["reset"]), gate(parts["update"])
    rows = spec.block("candidate", h_prev.shape[1])
    hidden = _rows_times(h_prev, weights["weight_hidden"][rows])
    n = np.tanh(parts["candidate"] - (1 - r) * hidden + r * weights["bias_hidden"])
    h = u * h_prev + (1 - u) * n
    return h[None], _in_order(spec, {"update": u, "reset": r})


def rnn_step(_spec: CellSpec, z: Array, _state: Array, _: Weights) -> tuple[Array, Gates]:
    """One step of the simple recurrent network (Elman 1990): h = tanh(z).

    Shapes as in ``CellStep``; there are no gates.
    """
    h = np.tanh(z)
    return h[None], ()


def _in_order(spec: CellSpec, gates: dict[str, Array]) -> Gates:
    return tuple([gates[name] for name in spec.gates])


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
    """Gates and states of T steps of one text."""

    gates: Array
    """(T, L, G, H), in the order of ``spec.gates``."""
    states: Array
    """(T, L, S, H), after each step, in the order of ``spec.states``."""


class Engine:
    """Runs a model in NumPy. State is passed in and returned; the engine stores none.

    The first layer reads the embedding, every other layer the h of the layer below, and the output
    layer the sum of all layers' h: logits = output_weight (h_1 + ... + h_L) + output_bias. In a
    model of a list, h and c are zero before the symbol that ends an item is read.
    """

    precision = "float32"
    """How the weights are stored; ``quantised.QuantisedEngine`` has int8."""

    def __init__(
        self, config: ModelConfig, weights: dict[str, Array], dtype: Any = np.float32
    ) -> None:
        self.config = config
        self.spec = CELLS[config.cell]
        self._cell_step = STEPS[config.cell]
        self.dtype = np.dtype(dtype)
        arrays = {name: np.asarray(array, dtype=dtype) for name, array in weights.items()}
        # The first layer's input product has only V possible values: a table of V rows replaces it.
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
        # Above the first layer one product covers input and hidden state: [W_input, W_hidden].
        self._joined = [
            np.hstack([arrays[n + "weight_input"], arrays[n + "weight_hidden"]]) for n in names[1:]
        ]
        self._biases = [arrays[n + "bias"] for n in names]
        self._output_weight = np.ascontiguousarray(arrays["output_weight"])
        self._output_bias = arrays["output_bias"]

    @property
    def end(self) -> int | None:
        """The id that ends an item of a list, or None; it is read from zero state."""
        return self.config.end

    def initial_state(self, batch: int = 1) -> Array:
        """The state before any character: zeros (L, S, B, H)."""
        shape = (self.config.layers, len(self.spec.states), batch, self.config.hidden_size)
        return np.zeros(shape, dtype=self.dtype)

    def step(self, ids: Array, state: Array, hold: Hold | None = None) -> tuple[Array, Array]:
        """Read one character of each text.

        Args:
            ids: (B,) integers.
            state: (L, S, B, H).
            hold: may modify each layer's new state before anything reads it.

        Returns:
            Logits of the next character (B, V), and the new state (L, S, B, H).
        """
        new, _ = self._step(ids, state, hold)
        return self.logits(new), new

    def logits(self, state: Array) -> Array:
        """Logits (B, V) of the next characters after ``state`` (L, S, B, H)."""
        logits = _rows_times(state[:, 0].sum(axis=0), self._output_weight)
        logits += self._output_bias
        return logits

    def _step(
        self, ids: Array, state: Array, hold: Hold | None = None
    ) -> tuple[Array, list[Gates]]:
        if self.config.end is not None:  # no item of a list sees another
            state = state * (ids != self.config.end)[:, None]
        new = np.empty_like(state)
        gates: list[Gates] = []
        for layer in range(self.config.layers):
            z = self._pre_activations(layer, ids, new, state)
            new[layer], layer_gates = self._cell_step(
                self.spec, z, state[layer], self._weights[layer]
            )
            if hold is not None:
                hold(layer, new[layer])
            gates.append(layer_gates)
        return new, gates

    def _pre_activations(self, layer: int, ids: Array, new: Array, state: Array) -> Array:
        """z (B, R) of a layer, after ``ids`` (B,) and the ``new`` states of the layers below."""
        if layer == 0:
            z: Array = self._table.take(ids, axis=0)
            z += _rows_times(state[0, 0], self._hidden[0])
        else:
            joined = np.concatenate([new[layer - 1, 0], state[layer, 0]], axis=1)
            z = _rows_times(joined, self._joined[layer - 1])
            z += self._biases[layer]
        return z

    def _many_logits(self, outputs: Array) -> Array:
        """Logits (…, V) of summed h (…, H) of many steps."""
        logits: Array = outputs.reshape(-1, outputs.shape[-1]) @ self._output_weight.T
        logits += self._output_bias
        return logits.reshape(*outputs.shape[:-1], -1)

    def advance(self, ids: Array, state: Array) -> Array:
        """The state (L, S, B, H) after ``ids`` (T,) or (T, B); like ``forward``, without logits."""
        columns = ids.reshape(len(ids), -1)
        for t in _paced(columns):
            state, _ = self._step(columns[t], state)
        return state

    def forward(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read T characters of one text, or of B texts in parallel.

        Args:
            ids: (T,) or (T, B) integers.
            state: (L, S, B, H), with B = 1 for one text.

        Returns:
            Logits (T, V) or (T, B, V), where row t predicts the character after ``ids[t]``, and the
            new state (L, S, B, H).
        """
        columns = ids.reshape(len(ids), -1)
        outputs = np.empty((*columns.shape, self.config.hidden_size), dtype=self.dtype)
        for t in _paced(columns):
            state, _ = self._step(columns[t], state)
            outputs[t] = state[:, 0].sum(axis=0)
        return self._many_logits(outputs.reshape(*ids.shape, -1)), state

    def trace(self, ids: Array, state: Array) -> tuple[Trace, Array, Array]:
        """``forward`` for one text that records gates and states: (trace, logits (T, V), state)."""
        layers, gate_count = self.config.layers, len(self.spec.gates)
        size, steps = self.config.hidden_size, len(ids)
        gates = np.empty((steps, layers, gate_count, size), dtype=self.dtype)
        states = np.empty((steps, layers, len(self.spec.states), size), dtype=self.dtype)
        for t in paced(steps):
            state, step_gates = self._step(ids[t : t + 1], state)
            states[t] = state[:, :, 0]
            for layer, layer_gates in enumerate(step_gates):
                for g, values in enumerate(layer_gates):
                    gates[t, layer, g] = values[0]
        outputs = states[:, :, 0].sum(axis=1)
        return Trace(gates, states), self._many_logits(outputs), state


def _paced(columns: Array) -> Iterator[int]:
    """The steps of ``columns`` (T, B); a batch has products that keep all threads busy."""
    return paced(len(columns)) if columns.shape[1] == 1 else iter(range(len(columns)))


def _rows_times(rows: Array, matrix: Array) -> Array:
    """The product of rows (B, I) and the transposed matrix (O, I): (B, O).

    One row uses gemv, which is faster. For several, the large matrix comes first: a quarter faster.
    """
    if len(rows) == 1:
        product: Array = np.dot(matrix, rows[0])[None]
        return product
    return (matrix @ rows.T).T


def chunks(ids: Array, size: int) -> Iterator[Array]:
    """Split ``ids`` into pieces of at most ``size``, so that memory does not grow with the text."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def log_softmax(logits: Array) -> Array:
    """Natural log of the softmax over the last axis, in float64, of the shape of ``logits``."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide
