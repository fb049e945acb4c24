"""The shape of a model: its cell, sizes and arrays."""

import sys
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from charlstm.config import Settings
from charlstm.errors import check_choice, check_integer
from charlstm.net.spec import CELLS, parameter_shapes


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The shape of a model: an embedding (V, E), L layers of H units, an output layer (V, H).

    ``charlstm.net.engine.Engine`` has the equations.

    Raises:
        UsageError: a field is out of range, or the cell is unknown.
    """

    cell: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    layers: int

    MAX_SIZE: ClassVar[int] = 16384

    def __post_init__(self) -> None:
        check_choice("`cell`", self.cell, CELLS)
        check_integer("the vocabulary size", self.vocab_size, 1, sys.maxunicode + 1)
        check_integer("`embedding_size`", self.embedding_size, 1, self.MAX_SIZE)
        check_integer("`hidden_size`", self.hidden_size, 1, self.MAX_SIZE)
        check_integer("`layers`", self.layers, 1, 64)
        super().__post_init__()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the model's arrays; see ``spec.parameter_shapes``."""
        return parameter_shapes(
            self.cell, self.vocab_size, self.embedding_size, self.hidden_size, self.layers
        )

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(prod(shape) for shape in self.shapes().values())

    def describe(self) -> str:
        """Cell, layers and hidden size, as in ``lstm 1×512``."""
        return f"{self.cell} {self.layers}×{self.hidden_size}"
