"""The recurrent layers in torch, on its fused kernels; tested equal to ``charlstm.net.engine``."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from charlstm.net.spec import CELLS, CellSpec
from charlstm.training.peephole import peephole_recurrence

FORGET_NOTHING = 30.0
"""As a pre-activation: sigma(30) is 1.0 in float32."""


class CellLayer(nn.Module, ABC):
    """One recurrent layer; a subclass defines the cell's name and ``forward``.

    Names, shapes and block order of the parameters are those of ``charlstm.net.spec``; the
    equations are in ``charlstm.net.engine``.

    Shapes: T steps, B streams, I inputs, H hidden, S states.
    """

    cell: ClassVar[str]
    weight_input: Tensor
    weight_hidden: Tensor
    bias: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.spec: CellSpec = CELLS[self.cell]
        self.hidden_size = hidden_size
        for name, shape in self.spec.layer_shapes(input_size, hidden_size).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def initialise(self, generator: torch.Generator) -> None:
        """Initialize the weights in place.

        Hidden blocks are orthogonal, input weights uniform in ±1/sqrt(I), and forget biases 1
        (Jozefowicz et al. 2015). Everything else is zero, peepholes included, so ``peephole``
        starts as ``lstm`` does.
        """
        bound = self.weight_input.shape[1] ** -0.5
        nn.init.uniform_(self.weight_input, -bound, bound, generator=generator)
        for block in self.spec.blocks:
            rows = self.weight_hidden.data[self.spec.block(block, self.hidden_size)]
            nn.init.orthogonal_(rows, generator=generator)
        nn.init.zeros_(self.bias)
        if "forget" in self.spec.blocks:
            nn.init.ones_(self.bias.data[self.spec.block("forget", self.hidden_size)])
        for name in self.spec.extras:
            nn.init.zeros_(self.get_parameter(name))

    @abstractmethod
    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run T steps.

        Args:
            inputs: (T, B, I), floating point.
            state: (S, B, H), before the first step, in the order of ``spec.states``.

        Returns:
            h of every step (T, B, H), and the state after the last (S, B, H).
        """


class LSTMLayer(CellLayer):
    """The LSTM (Gers, Schmidhuber & Cummins 2000)."""

    cell = "lstm"

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        weight_input, weight_hidden, bias = self.packed()
        weights = [weight_input, weight_hidden, bias, torch.zeros_like(bias)]
        outputs, h, c = torch.lstm(
            inputs, (state[0:1], state[1:2]), weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, torch.cat([h, c])

    def packed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Input weights, hidden weights and bias in the order of torch's kernel.

        That is input, forget, candidate, output: the order of the cell ``lstm``.
        """
        return self.weight_input, self.weight_hidden, self.bias


def _in_kernel_order(blocks: dict[str, Tensor]) -> Tensor:
    return torch.cat([blocks[name] for name in CELLS["lstm"].blocks])


class LSTM1997Layer(LSTMLayer):
    """c = c_prev + i * g (Hochreiter & Schmidhuber 1997), with the full gradient.

    Runs on the LSTM kernel: a forget gate with zero weights and a large bias is always 1.
    """

    cell = "lstm-1997"

    def packed(self) -> tuple[Tensor, Tensor, Tensor]:  # noqa: D102
        def with_forget(rows: Tensor, value: float) -> Tensor:
            blocks = self.spec.split(rows)
            blocks["forget"] = torch.full_like(blocks["input"], value)
            return _in_kernel_order(blocks)

        return (
            with_forget(self.weight_input, 0.0),
            with_forget(self.weight_hidden, 0.0),
            with_forget(self.bias, FORGET_NOTHING),
        )


class CoupledLayer(LSTMLayer):
    """c = f * c_prev + (1 - f) * g (Greff et al. 2017).

    Runs on the LSTM kernel: 1 - sigma(z) = sigma(-z), so the input gate's rows are the negated
    rows of the forget gate.
    """

    cell = "coupled"

    def packed(self) -> tuple[Tensor, Tensor, Tensor]:  # noqa: D102
        def with_input(rows: Tensor) -> Tensor:
            blocks = self.spec.split(rows)
            blocks["input"] = -blocks["forget"]
            return _in_kernel_order(blocks)

        return (
            with_input(self.weight_input),
            with_input(self.weight_hidden),
            with_input(self.bias),
        )


class PeepholeLayer(CellLayer):
    """LSTM with peephole connections (Gers & Schmidhuber 2000); torch has no kernel for it."""

    cell = "peephole"
    weight_peephole: Tensor

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        projected = nn.functional.linear(inputs, self.weight_input, self.bias)  # (T, B, 4H)
        outputs, c = peephole_recurrence(
            projected, self.weight_hidden, self.weight_peephole, state[0], state[1]
        )
        return outputs, torch.stack([outputs[-1].to(c.dtype), c])


class GRULayer(CellLayer):
    """The gated recurrent unit (Cho et al. 2014) in torch's convention and block order."""

    cell = "gru"
    bias_hidden: Tensor

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        gates = self.bias.new_zeros(2 * self.hidden_size)
        second_bias = torch.cat([gates, self.bias_hidden])
        weights = [self.weight_input, self.weight_hidden, self.bias, second_bias]
        return torch.gru(inputs, state, weights, True, 1, 0.0, self.training, False, False)


class RNNLayer(CellLayer):
    """h = tanh(z) (Elman 1990)."""

    cell = "rnn"

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        second_bias = torch.zeros_like(self.bias)
        weights = [self.weight_input, self.weight_hidden, self.bias, second_bias]
        return torch.rnn_tanh(inputs, state, weights, True, 1, 0.0, self.training, False, False)


CELL_LAYERS: dict[str, type[CellLayer]] = {
    layer.cell: layer
    for layer in (LSTMLayer, LSTM1997Layer, CoupledLayer, PeepholeLayer, GRULayer, RNNLayer)
}
