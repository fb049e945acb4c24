"""The language model in torch: embedding, recurrent layers, output layer."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import ModelFile
from charlstm.training.cells import CELL_LAYERS, CellLayer

for _function in (torch.sqrt, torch.tanh, torch.exp, torch.log):
    # MKL's vector functions race when they are first called from two threads at once: one of them
    # then computes with half the digits, and the same seed gives other weights. So few numbers
    # take one thread.
    _function(torch.ones(8))


class LanguageModel(nn.Module):
    """A character-level language model: p(next character | all characters before it).

    Shapes: T steps, B streams, V vocabulary, E embedding, H hidden, L layers, S states.
    Parameters are named as in ``spec.parameter_shapes``, so ``state_dict`` is what a checkpoint
    stores.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.embedding_size))
        make = CELL_LAYERS[config.cell]
        sizes = [config.embedding_size] + [config.hidden_size] * (config.layers - 1)
        self.layers = nn.ModuleList(make(size, config.hidden_size) for size in sizes)
        self.output_weight = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.output_bias = nn.Parameter(torch.empty(config.vocab_size))

    def initialise(self, generator: torch.Generator) -> None:
        """Initialize all weights at random."""
        nn.init.normal_(self.embedding, generator=generator)
        for layer in self.layers:
            assert isinstance(layer, CellLayer)
            layer.initialise(generator)
        bound = self.config.hidden_size**-0.5
        nn.init.uniform_(self.output_weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.output_bias)

    def initial_state(self, batch: int) -> Tensor:
        """The state before any character: zeros (L, S, B, H)."""
        states = len(CELLS[self.config.cell].states)
        shape = (self.config.layers, states, batch, self.config.hidden_size)
        return torch.zeros(shape, device=self.embedding.device)

    def forward(
        self, ids: Tensor, state: Tensor, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read T characters of each of B streams.

        Args:
            ids: (T, B) int64.
            state: (L, S, B, H).
            masks: (M, B, H), dropout masks for the output layer's input, the same at every step
                (locked dropout, Gal & Ghahramani 2016); None for no dropout.

        Returns:
            Logits of the next characters, (T, B, V) or, with masks, (T, M, B, V); and the new state
            (L, S, B, H).
        """
        x = nn.functional.embedding(ids, self.embedding)  # (T, B, E)
        outputs, states = [], []
        for index, layer in enumerate(self.layers):
            x, layer_state = layer(x, state[index])  # (T, B, H)
            outputs.append(x)
            states.append(layer_state)
        total = sum(
            outputs[1:], outputs[0]
        )  # skip connections: a short path from every layer to the loss
        if masks is not None:
            total = total.unsqueeze(1) * masks.to(total.dtype)
        logits = nn.functional.linear(total, self.output_weight, self.output_bias)
        return logits, torch.stack(states)

    def dropout_masks(
        self, count: int, batch: int, probability: float, generator: torch.Generator
    ) -> Tensor | None:
        """M = ``count`` masks (M, B, H): 0 with ``probability`` p, else 1 / (1 - p)."""
        if probability == 0:
            return None
        kept = torch.empty(count, batch, self.config.hidden_size)
        kept.bernoulli_(1 - probability, generator=generator).div_(1 - probability)
        return kept.to(self.embedding.device)


def untrained_model(config: ModelConfig, seed: int) -> LanguageModel:
    """A model with random weights on the CPU; a seed always gives the same weights."""
    model = LanguageModel(config)
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def stored_model(file: ModelFile) -> LanguageModel:
    """The model of a checkpoint, on the CPU."""
    model = LanguageModel(file.config)
    load_arrays(model, dict(file.weights))
    return model


def to_arrays(model: LanguageModel) -> dict[str, NDArray[np.float32]]:
    """Copies of the weights as float32 NumPy arrays, by name."""
    return {
        name: tensor.detach().to("cpu", torch.float32).numpy().copy()
        for name, tensor in model.named_parameters()
    }


def load_arrays(model: LanguageModel, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Set the weights from NumPy arrays."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.from_numpy(arrays[name]))
