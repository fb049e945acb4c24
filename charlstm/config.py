"""The settings of a model and of a training run: frozen dataclasses, checked when made."""

import dataclasses
import math
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

from charlstm.errors import CharlstmError, UsageError, require
from charlstm.spec import CELLS, parameter_shapes

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MAX_VOCABULARY = 0x110000
MOST_OF_A_BUDGET = 10**12


def check_number(
    name: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    low_allowed: bool = True,
    hint: str = "",
) -> None:
    """Raise ``UsageError`` unless ``value`` is a finite number from ``low`` to ``high``."""
    above = value >= low if low_allowed else value > low
    finite = isinstance(value, int) or math.isfinite(value)
    if finite and above and value <= high:
        return
    bound = "at least" if low_allowed else "above"
    limit = f"{bound} {_written(low)}"
    if high != math.inf:
        limit += f" and at most {_written(high)}"
    elif not finite:
        limit = f"a finite number, {limit}"
    require(False, f"{name} is {_written(value)}, but must be {limit}", hint)


def _written(value: float) -> str:
    return str(value) if isinstance(value, int) or float(f"{value:g}") != value else f"{value:g}"


@dataclass(frozen=True)
class _Settings:
    """Conversion to and from the plain dictionaries that JSON holds."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object, source: str) -> Self:
        """Read back what ``to_dict`` gave; ``source`` names the file in errors.

        Raises:
            CharlstmError: a field is missing, unknown, or of another type.
        """
        damaged = f"{source} does not hold valid {cls.__name__} settings"
        hint = "the file is damaged or from another version; use another checkpoint"
        if not isinstance(values, dict):
            raise CharlstmError(damaged, hint)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
        if not needed <= values.keys() <= fields.keys():
            extra, missing = values.keys() - fields.keys(), needed - values.keys()
            wrong = ", ".join(sorted(map(str, extra | missing)))
            raise CharlstmError(f"{damaged} ({wrong})", hint)
        for name, value in values.items():
            if type(value) not in _JSON_TYPES[str(fields[name].type)]:
                raise CharlstmError(f"{damaged} ({name})", hint)
        try:
            return cls(**values)
        except UsageError as error:
            raise CharlstmError(f"{damaged} ({error.message})", hint) from None


# The declared types that the settings use, and what JSON gives for each.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "<class 'int'>": (int,),
    "<class 'float'>": (float, int),
    "<class 'str'>": (str,),
    "<class 'bool'>": (bool,),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
}


@dataclass(frozen=True)
class ModelConfig(_Settings):
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
        require(
            self.cell in CELLS, f"the cell is {self.cell!r}", f"choose one of {', '.join(CELLS)}"
        )
        check_number("the vocabulary's size", self.vocab_size, 1, MAX_VOCABULARY)
        check_number("--embed", self.embedding_size, 1, self.MAX_SIZE)
        check_number("--hidden", self.hidden_size, 1, self.MAX_SIZE)
        check_number("--layers", self.layers, 1, 64)

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


@dataclass(frozen=True)
class TrainConfig(_Settings):
    """How a run trains. Exactly one of ``epochs``, ``steps`` and ``minutes`` is the budget."""

    batch: int
    """B, parallel streams."""
    bptt: int
    """T, characters per stream and step through which the gradient flows."""
    epochs: float | None
    steps: int | None
    minutes: float | None
    learning_rate: float
    """Peak rate of Muon, for the recurrent layers' matrices."""
    adam_rate: float
    """Peak rate of Adam, for embedding, biases and output layer."""
    warmup_steps: int
    final_rate: float
    """The rate at the end of the budget, as a share of the peak."""
    weight_decay: float
    """Share of the rate at which the recurrent layers' matrices shrink towards 0."""
    dropout: float
    """Share of the output layer's inputs dropped, the same at all T steps (locked, Gal 2016)."""
    clip: float
    """Greatest norm of the gradient."""
    averaging: float
    """Decay of the moving average of the weights, per step."""
    val_fraction: float
    patience: int
    """Evaluations without a better validation after which the run stops; 0 never stops."""
    keep: int
    """How many of the latest checkpoints stay, beside the best."""
    seed: int
    device: str
    precision: str
    threads: int = 0
    """Of the CPU; 0, which the first runs have, for as many as torch takes."""
    dropout_masks: int = 1
    """Dropout masks of a stream, over which the loss is the mean; the first runs have one."""
    hold: float = 0.0
    """Share of the budget, after the warm-up, in which the rate stays at its peak; the first runs
    have none."""
    row_averaging: float = 0.0
    """Decay, per step, of the mean square by which Muon evens the rows of a matrix's step; 0, which
    the first runs have, leaves them as they are."""
    reset_every: int = 0
    """Steps after which the state of a stream is zero again, one stream after the other; 0, which
    the first runs have, for never."""
    distillation: float = 0.0
    """Weight of the teacher's predictions in what is minimised; 0 for a run without a teacher."""

    def __post_init__(self) -> None:
        check_number("--batch", self.batch, 1, 65536)
        check_number("--bptt", self.bptt, 1, 65536)
        budgets = {"--epochs": self.epochs, "--steps": self.steps, "--minutes": self.minutes}
        given = {name: value for name, value in budgets.items() if value is not None}
        require(
            len(given) == 1,
            f"{len(given)} budgets are given",
            "give one of --epochs, --steps and --minutes",
        )
        for name, value in given.items():
            check_number(name, value, 0, MOST_OF_A_BUDGET, low_allowed=False)
        check_number("--lr", self.learning_rate, 0, 10, low_allowed=False)
        check_number("--adam-lr", self.adam_rate, 0, 10, low_allowed=False)
        check_number("--warmup", self.warmup_steps, 0)
        check_number("--final-rate", self.final_rate, 0, 1)
        check_number("--hold", self.hold, 0, 1)
        check_number("--weight-decay", self.weight_decay, 0, 1)
        check_number("--dropout", self.dropout, 0, 0.95)
        check_number("--dropout-masks", self.dropout_masks, 1, 64)
        check_number("--clip", self.clip, 0, low_allowed=False)
        check_number("--averaging", self.averaging, 0, 0.99999)
        check_number("--val-fraction", self.val_fraction, 0, 0.9)
        check_number("--patience", self.patience, 0)
        check_number("--keep", self.keep, 1, 1_000_000)
        check_number("--seed", self.seed, 0, 2**63 - 1)
        check_number("--threads", self.threads, 0, 1024)
        check_number("--row-averaging", self.row_averaging, 0, 0.99999)
        check_number("--reset-every", self.reset_every, 0, MOST_OF_A_BUDGET)
        check_number("distillation", self.distillation, 0, 1)
        require(
            self.precision in PRECISIONS,
            f"--precision is {self.precision!r}",
            f"choose one of {', '.join(PRECISIONS)}",
        )
