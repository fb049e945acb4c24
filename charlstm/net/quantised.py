"""Models with int8 weights: the definition in NumPy, run by the compiled kernel where there is one.

Every matrix has one scale per row, and every vector that it multiplies one of its own:
round(127 w / max|w|) and round(127 x / max|x|), from -127 to 127. Products are summed as integers;
everything else is float32. Layers above the first multiply h of the layer below and their own h as
one vector. A GRU's candidate has two blocks of rows: ``candidate`` for what it reads, and
``hidden`` for h.
Source: Dettmers et al. 2022, "LLM.int8()", section 2.1, vector-wise quantisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from charlstm.net.engine import STEPS, Array, Engine, Gates, Hold, Weights, gate
from charlstm.net.kernel import KernelModel, kernel
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, CellSpec, layer_prefix

Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LARGEST = np.float32(127)
SMALLEST = np.float32(1e-30)
"""A vector without a larger value counts as zero, so that 127 / max|x| does not overflow."""
LSTM_BLOCKS = ("input", "forget", "candidate", "output")
GRU_BLOCKS = ("reset", "update", "candidate", "hidden")
"""The blocks that the kernel asks for."""


@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """A matrix (R, C) of integers from -127 to 127, with a scale and a bias for each row."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    """(R,)"""
    bias: NDArray[np.float32]
    """(R,), or (V, R) for the first layer: what each character adds."""

    @cached_property
    def _columns(self) -> Array:
        """(C, R) as float32, in which sums of such products are exact up to 1040 of the largest."""
        return self.integers.T.astype(np.float32)

    def times(self, rows: Array) -> Array:
        """The products (B, R) with ``rows`` (B, C), without the bias."""
        integers, scales = quantise(rows)
        products: Array = integers @ self._columns
        products *= scales
        products *= self.scales
        return products


def quantise(rows: Array) -> tuple[Array, Array]:
    """Integers (N, C), as float32, and scales (N, 1), for ``rows`` (N, C)."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    inverse = np.divide(LARGEST, largest, out=np.zeros_like(largest), where=largest > SMALLEST)
    return np.rint(rows * inverse), largest / LARGEST


class QuantisedEngine(Engine):
    """``Engine`` with int8 weights.

    ``trace`` and steps with a ``hold`` always run in NumPy, everything else in the kernel if there
    is one. Both give the same numbers, except for the rounding of exp and tanh.
    """

    precision = "int8"

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array]) -> None:
        self.config, self.spec = config, CELLS[config.cell]
        self.dtype = np.dtype(np.float32)
        self._cell_step = gru_step if config.cell == "gru" else STEPS[config.cell]
        prefixes = [layer_prefix(layer) for layer in range(config.layers)]
        self._weights = [
            {name.removeprefix(p): array for name, array in weights.items() if name.startswith(p)}
            for p in prefixes
        ]
        self._matrices = [
            _layer_matrix(self.spec, arrays, weights["embedding"] if layer == 0 else None)
            for layer, arrays in enumerate(self._weights)
        ]
        self._matrices.append(_int8(weights["output_weight"], weights["output_bias"]))
        self._kernel = self._kernel_model()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._kernel = self._kernel_model()

    def step(self, ids: Array, state: Array, hold: Hold | None = None) -> tuple[Array, Array]:
        """As ``Engine.step``."""
        if self._kernel is None or hold is not None:
            return super().step(ids, state, hold)
        logits, state = self._kernel.read(ids[None], state, logits=True)
        return logits[0], state

    def logits(self, state: Array) -> Array:
        """As ``Engine.logits``."""
        if self._kernel is None:
            return self._many_logits(state[:, 0].sum(axis=0))
        nothing = np.empty((0, state.shape[2]), np.int64)
        logits: Array = self._kernel.read(nothing, state, logits=True)[0][0]
        return logits

    def advance(self, ids: Array, state: Array) -> Array:
        """As ``Engine.advance``."""
        if self._kernel is None or not len(ids):
            return super().advance(ids, state)
        return self._kernel.read(ids.reshape(len(ids), -1), state, logits=False)[1]

    def forward(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """As ``Engine.forward``."""
        if self._kernel is None or not len(ids):
            return super().forward(ids, state)
        logits, state = self._kernel.read(ids.reshape(len(ids), -1), state, logits=True)
        return logits.reshape(*ids.shape, -1), state

    def _pre_activations(self, layer: int, ids: Array, new: Array, state: Array) -> Array:
        matrix, h = self._matrices[layer], state[layer, 0]
        if layer == 0:
            first: Array = matrix.times(h) + matrix.bias[ids]
            return first
        joined = np.concatenate([new[layer - 1, 0], h], axis=1)
        z: Array = matrix.times(joined) + matrix.bias
        return z

    def _many_logits(self, outputs: Array) -> Array:
        matrix = self._matrices[-1]
        logits: Array = matrix.times(outputs.reshape(-1, outputs.shape[-1])) + matrix.bias
        return logits.reshape(*outputs.shape[:-1], -1)

    def _kernel_model(self) -> KernelModel | None:
        library, is_gru = kernel(), self.config.cell == "gru"
        if library is None:
            return None
        wanted = GRU_BLOCKS if is_gru else LSTM_BLOCKS
        present = GRU_BLOCKS if is_gru else self.spec.blocks
        return KernelModel(
            library,
            matrices=[(m.integers, m.scales, m.bias) for m in self._matrices],
            blocks=[present.index(name) if name in present else -1 for name in wanted],
            peepholes=[arrays.get("weight_peephole") for arrays in self._weights],
            states=len(self.spec.states),
            hidden_size=self.config.hidden_size,
            is_gru=is_gru,
            end=self.config.end,
        )


def gru_step(spec: CellSpec, z: Array, state: Array, _: Weights) -> tuple[Array, Gates]:
    """``engine.gru_step`` for z (B, 4H) with the blocks ``GRU_BLOCKS``."""
    h_prev = state[0]
    reset, update, candidate, hidden = z.reshape(len(z), 4, -1).swapaxes(0, 1)
    r, u = gate(reset), gate(update)
    h = u * h_prev + (1 - u) * np.tanh(candidate + r * hidden)
    gates = {"update": u, "reset": r}
    return h[None], tuple([gates[name] for name in spec.gates])


def _layer_matrix(spec: CellSpec, arrays: Weights, embedding: Array | None) -> Int8Matrix:
    """The matrix of a layer; the first one, which has an ``embedding``, multiplies h alone."""
    reading, hidden, bias = arrays["weight_input"], arrays["weight_hidden"], arrays["bias"]
    if "bias_hidden" in arrays:  # a GRU: part the candidate into its two blocks
        candidate = hidden[spec.block("candidate", hidden.shape[1])]
        nothing = np.zeros_like(candidate)
        hidden = np.vstack([hidden[: -len(candidate)], nothing, candidate])
        reading = np.vstack([reading, np.zeros((len(nothing), reading.shape[1]), np.float32)])
        bias = np.concatenate([bias, arrays["bias_hidden"]])
    if embedding is None:
        return _int8(np.hstack([reading, hidden]), bias)
    return _int8(hidden, embedding @ reading.T + bias)


def _int8(matrix: Array, bias: Array) -> Int8Matrix:
    integers, scales = quantise(matrix)
    return Int8Matrix(integers.astype(np.int8), scales[:, 0].copy(), np.ascontiguousarray(bias))


def engine_of(config: ModelConfig, weights: Mapping[str, Array], precision: Precision) -> Engine:
    """The engine that computes in this precision."""
    return (
        QuantisedEngine(config, weights) if precision == "int8" else Engine(config, dict(weights))
    )
