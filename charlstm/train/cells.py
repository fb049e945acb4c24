"""The recurrent layers in torch, on its fused kernels; proven equal to ``charlstm.engine``."""

import torch
from torch import Tensor, nn

from charlstm.spec import CELLS


class LSTMLayer(nn.Module):
    """One layer of the cell ``lstm``; the equations are in ``charlstm.spec``.

    Its parameters have the names, shapes and block order of the spec, which is torch's own
    (i, f, g, o), but one bias instead of torch's two.
    """

    no_second_bias: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        shapes = CELLS["lstm"].layer_shapes(input_size, hidden_size)
        self.weight_input = nn.Parameter(torch.empty(shapes["weight_input"]))
        self.weight_hidden = nn.Parameter(torch.empty(shapes["weight_hidden"]))
        self.bias = nn.Parameter(torch.empty(shapes["bias"]))
        self.register_buffer("no_second_bias", torch.zeros(shapes["bias"]), persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Orthogonal hidden blocks, uniform inputs, forget bias 1 (Jozefowicz et al. 2015)."""
        spec = CELLS["lstm"]
        hidden_size = self.weight_hidden.shape[1]
        bound = self.weight_input.shape[1] ** -0.5
        nn.init.uniform_(self.weight_input, -bound, bound, generator=generator)
        for block in spec.blocks:
            rows = self.weight_hidden.data[spec.block(block, hidden_size)]
            nn.init.orthogonal_(rows, generator=generator)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.bias.data[spec.block("forget", hidden_size)])

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """T steps at once.

        Args:
            inputs: (T, B, I).
            state: (2, B, H), h and c before the first step.

        Returns:
            h of every step (T, B, H), and the state after the last (2, B, H).
        """
        h, c = state[0:1], state[1:2]
        weights = [self.weight_input, self.weight_hidden, self.bias, self.no_second_bias]
        outputs, h, c = torch.lstm(
            inputs, (h, c), weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, torch.cat([h, c])


CELL_LAYERS: dict[str, type[LSTMLayer]] = {"lstm": LSTMLayer}
