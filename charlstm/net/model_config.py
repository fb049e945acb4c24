"""The shape of a model: its cell, its sizes, the arrays that follow from them."""

import sys
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from charlstm.config import Settings
from charlstm.errors import check_choice, check_integer
from charlstm.net.spec import CELLS, parameter_shapes


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The shape of a model: an embedding (V, E), L layers of H cells, an output layer (V, H).

    What each reads is said in ``engine.Engine``.
    """

    cell: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    layers: int

    MAX_SIZE: ClassVar[int] = 16384

    def __post_init__(self) -> None:
        check_choice("`cell`", self.cell, CELLS)
        check_integer("the vocabulary's size", self.vocab_size, 1, sys.maxunicode + 1)
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
        """How many numbers the model learns."""
        return sum(prod(shape) for shape in self.shapes().values())

    def describe(self) -> str:
        """Cell, layers and width, as in ``lstm 1x512``."""
        return f"{self.cell} {self.layers}×{self.hidden_size}"
