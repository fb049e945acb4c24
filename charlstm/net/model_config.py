"""The shape of a model: its cell, sizes and arrays."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, ClassVar

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
    end: int | None = None
    """For a list, the id that ends an item: it is read from zero h and c. None for a text."""

    OLD_VALUES: ClassVar[Mapping[str, Any]] = MappingProxyType({"end": None})
    MAX_SIZE: ClassVar[int] = 16384

    def __post_init__(self) -> None:
        check_choice("`cell`", self.cell, CELLS)
        check_integer("the vocabulary size", self.vocab_size, 1, sys.maxunicode + 1)
        check_integer("`embedding_size`", self.embedding_size, 1, self.MAX_SIZE)
        check_integer("`hidden_size`", self.hidden_size, 1, self.MAX_SIZE)
        check_integer("`layers`", self.layers, 1, 64)
        if self.end is not None:
            check_integer("the id of an item's end", self.end, 0, self.vocab_size - 1)
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON values; without ``end`` for a text, as before lists."""
        return {name: value for name, value in super().to_dict().items() if value is not None}

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
