"""Per cell: gate order, states, parameter names and shapes, equations, paper.

This module alone knows how a cell's weights are packed. The NumPy engine, the torch cells, the
checkpoint and the inspector all read it here.

Notation: x_t the input (E or H numbers), h_{t-1} and c_{t-1} the state, sigma the logistic
sigmoid, * elementwise. Every gate g has a block of H rows in three packed arrays,
``weight_input`` (G*H, I), ``weight_hidden`` (G*H, H) and ``bias`` (G*H), and its
pre-activation is z_g = weight_input_g x_t + weight_hidden_g h_{t-1} + bias_g. What a cell has
beside these three is in ``CellSpec.extras``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

LEFT_SATURATED = 0.1
"""A gate unit below this is left-saturated, shut (Karpathy, Johnson & Fei-Fei 2015)."""
RIGHT_SATURATED = 0.9
"""A gate unit above this is right-saturated, open (Karpathy, Johnson & Fei-Fei 2015)."""
HIDDEN = "hidden"
"""In reports, the name of h where a cell has no gates."""


@dataclass(frozen=True)
class CellSpec:
    """What there is to know of a recurrent cell before any number is computed."""

    name: str
    blocks: tuple[str, ...]
    """The row blocks of the packed weights, in order; gates and candidates alike."""
    gates: tuple[str, ...]
    """What is sigmoid-activated, in the order it is shown; not each needs rows of its own."""
    states: tuple[str, ...]
    """The arrays of H numbers carried from one step to the next; ``h`` is the output."""
    equations: tuple[str, ...]
    paper: str
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arrays beside the three packed ones: the blocks of H numbers in each, by its name."""
    memory: str | None = None
    """The gate that says how much of the last state is kept from one step to the next."""

    @property
    def reported(self) -> tuple[str, ...]:
        """What a report on saturation has: the gates, or h where there are none."""
        return self.gates or (HIDDEN,)

    def block(self, name: str, hidden_size: int) -> slice:
        """The rows of block ``name`` in the packed arrays."""
        start = self.blocks.index(name) * hidden_size
        return slice(start, start + hidden_size)

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
            equations=(
                "f = sigma(z_forget)",
                "i = sigma(z_input)",
                "g = tanh(z_candidate)",
                "c = f * c_prev + i * g",
                "o = sigma(z_output)",
                "h = o * tanh(c)",
            ),
            paper="Gers, Schmidhuber & Cummins 2000, Learning to Forget; after Hochreiter & "
            "Schmidhuber 1997, Long Short-Term Memory",
            memory="forget",
        ),
        CellSpec(
            name="lstm-1997",
            blocks=("input", "candidate", "output"),
            gates=("input", "output"),
            states=("h", "c"),
            equations=(
                "i = sigma(z_input)",
                "g = tanh(z_candidate)",
                "c = c_prev + i * g",
                "o = sigma(z_output)",
                "h = o * tanh(c)",
            ),
            paper="Hochreiter & Schmidhuber 1997, Long Short-Term Memory; there with g in [-2, 2] "
            "and a truncated gradient",
        ),
        CellSpec(
            name="coupled",
            blocks=("forget", "candidate", "output"),
            gates=("input", "forget", "output"),
            states=("h", "c"),
            equations=(
                "f = sigma(z_forget)",
                "i = 1 - f",
                "g = tanh(z_candidate)",
                "c = f * c_prev + i * g",
                "o = sigma(z_output)",
                "h = o * tanh(c)",
            ),
            paper="Greff et al. 2017, LSTM: A Search Space Odyssey (there CIFG)",
            memory="forget",
        ),
        CellSpec(
            name="peephole",
            blocks=("input", "forget", "candidate", "output"),
            gates=("input", "forget", "output"),
            states=("h", "c"),
            equations=(
                "i = sigma(z_input + p_input * c_prev)",
                "f = sigma(z_forget + p_forget * c_prev)",
                "g = tanh(z_candidate)",
                "c = f * c_prev + i * g",
                "o = sigma(z_output + p_output * c)",
                "h = o * tanh(c)",
            ),
            paper="Gers & Schmidhuber 2000, Recurrent Nets that Time and Count",
            extras={"weight_peephole": ("input", "forget", "output")},
            memory="forget",
        ),
        CellSpec(
            name="gru",
            blocks=("reset", "update", "candidate"),
            gates=("update", "reset"),
            states=("h",),
            equations=(
                "r = sigma(z_reset)",
                "u = sigma(z_update)",
                "n = tanh(weight_input_n x + bias_n + r * (weight_hidden_n h_prev + bias_hidden))",
                "h = u * h_prev + (1 - u) * n",
            ),
            paper="Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder; "
            "r after the product, as in torch",
            extras={"bias_hidden": ("candidate",)},
            memory="update",
        ),
        CellSpec(
            name="rnn",
            blocks=("candidate",),
            gates=(),
            states=("h",),
            equations=("h = tanh(z_candidate)",),
            paper="Elman 1990, Finding Structure in Time",
        ),
    )
}


def layer_prefix(layer: int) -> str:
    """The start of the names of layer ``layer``'s arrays."""
    return f"layers.{layer}."


def parameter_shapes(
    cell: str, vocab_size: int, embedding_size: int, hidden_size: int, layers: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every array of a model, in the order they are stored.

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
