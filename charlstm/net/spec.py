"""Specification of each cell: gate order, states, parameter names and shapes.

Only this module knows how a cell's weights are packed. The NumPy engine, the torch cells, the
checkpoint and the inspector all use it. The equations are next to the steps in ``engine``, the
papers in docs/explanation/cells.md.

Notation: x_t the input (E or H numbers), h_{t-1} and c_{t-1} the state, sigma the logistic
sigmoid, * elementwise. Every gate g has a block of H rows in three packed arrays,
``weight_input`` (G*H, I), ``weight_hidden`` (G*H, H) and ``bias`` (G*H), and its
pre-activation is z_g = weight_input_g x_t + weight_hidden_g h_{t-1} + bias_g. Additional arrays of
a cell are in ``CellSpec.extras``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEFT_SATURATED = 0.1
"""A gate below this is left-saturated, or closed (Karpathy, Johnson & Fei-Fei 2015)."""
RIGHT_SATURATED = 0.9
"""A gate above this is right-saturated, or open (Karpathy, Johnson & Fei-Fei 2015)."""
HIDDEN = "hidden"
"""The name of h in saturation reports of cells without gates."""


@dataclass(frozen=True)
class CellSpec:
    """A cell's blocks, gates, states and arrays: everything except its equations."""

    name: str
    blocks: tuple[str, ...]
    """The row blocks of the packed weights, in order, including the candidate."""
    gates: tuple[str, ...]
    """The sigmoid gates, in display order; a gate may have no rows of its own."""
    states: tuple[str, ...]
    """Names of the states (H,) carried from step to step; ``h`` is the output."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Blocks of H numbers of each array besides the three packed ones, by the array's name."""
    memory: str | None = None
    """The gate that controls how much of the previous state is kept; None if there is none."""

    @property
    def reported(self) -> tuple[str, ...]:
        """What a saturation report covers: the gates, or h if there are none."""
        return self.gates or (HIDDEN,)

    def block(self, name: str, hidden_size: int, array: str = "bias") -> slice:
        """The rows of block ``name`` in ``array``: a packed array or an extra."""
        start = self.extras.get(array, self.blocks).index(name) * hidden_size
        return slice(start, start + hidden_size)

    def split(self, values: Any, array: str = "bias", axis: int = 0) -> dict[str, Any]:
        """Views of ``values`` by block name; ``axis`` has one entry per row of ``array``.

        ``values`` is a NumPy array or a torch tensor. The rows of weights are axis 0; those of
        pre-activations z (B, R) are axis 1.
        """
        blocks = self.extras.get(array, self.blocks)
        size = values.shape[axis] // len(blocks)
        before = (slice(None),) * axis
        return {
            name: values[(*before, slice(k * size, (k + 1) * size))]
            for k, name in enumerate(blocks)
        }

    def layer_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer's packed arrays, by name."""
        rows = len(self.blocks) * hidden_size
        return {
            "weight_input": (rows, input_size),
            "weight_hidden": (rows, hidden_size),
            "bias": (rows,),
            **{name: (len(blocks) * hidden_size,) for name, blocks in self.extras.items()},
        }


CELLS = {
    cell.name: cell
    for cell in (
        CellSpec(
            name="lstm",
            blocks=("input", "forget", "candidate", "output"),
            gates=("input", "forget", "output"),
            states=("h", "c"),
            memory="forget",
        ),
        CellSpec(
            name="lstm-1997",
            blocks=("input", "candidate", "output"),
            gates=("input", "output"),
            states=("h", "c"),
        ),
        CellSpec(
            name="coupled",
            blocks=("forget", "candidate", "output"),
            gates=("input", "forget", "output"),
            states=("h", "c"),
            memory="forget",
        ),
        CellSpec(
            name="peephole",
            blocks=("input", "forget", "candidate", "output"),
            gates=("input", "forget", "output"),
            states=("h", "c"),
            extras={"weight_peephole": ("input", "forget", "output")},
            memory="forget",
        ),
        CellSpec(
            name="gru",
            blocks=("reset", "update", "candidate"),
            gates=("update", "reset"),
            states=("h",),
            extras={"bias_hidden": ("candidate",)},
            memory="update",
        ),
        CellSpec(
            name="rnn",
            blocks=("candidate",),
            gates=(),
            states=("h",),
        ),
    )
}


def layer_prefix(layer: int) -> str:
    """The name prefix of the arrays of layer ``layer``, counted from 0."""
    return f"layers.{layer}."


def parameter_shapes(
    cell: str, vocab_size: int, embedding_size: int, hidden_size: int, layers: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all arrays of a model, in stored order.

    ``embedding`` (V, E); per layer ``layers.N.weight_input``, ``.weight_hidden``, ``.bias`` and
    the cell's extras; ``output_weight`` (V, H) and ``output_bias`` (V). All are float32.
    """
    shapes: dict[str, tuple[int, ...]] = {"embedding": (vocab_size, embedding_size)}
    for layer in range(layers):
        input_size = embedding_size if layer == 0 else hidden_size
        for name, shape in CELLS[cell].layer_shapes(input_size, hidden_size).items():
            shapes[layer_prefix(layer) + name] = shape
    shapes["output_weight"] = (vocab_size, hidden_size)
    shapes["output_bias"] = (vocab_size,)
    return shapes
