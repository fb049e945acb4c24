"""The settings of a training run, and the base class of all settings."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, ClassVar, Self, get_args, get_type_hints

from charlstm.errors import (
    CharlstmError,
    UsageError,
    check_choice,
    check_integer,
    check_number,
    plural,
    require,
    shown,
)

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MAX_BUDGET = 10**12
MOST_GENERATIONS = 20
"""Most runs in a chain."""


@dataclass(frozen=True)
class Settings:
    """Frozen settings that convert to and from JSON dictionaries."""

    OLD_VALUES: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Values of fields that are missing in files of earlier versions."""

    def __post_init__(self) -> None:
        """Convert numbers such as NumPy's to Python's, for JSON; subclasses have checked them."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Real) and not isinstance(value, int | float):
                plain = int(value) if isinstance(value, Integral) else float(value)
                object.__setattr__(self, name, plain)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object, source: str) -> Self:
        """Build settings from the result of ``to_dict``; ``source`` names the file in errors.

        Raises:
            CharlstmError: a field is missing, unknown, of the wrong type or out of range.
        """
        damaged = f"{source} has invalid {cls.__name__} settings"
        hint = "the file is damaged or from another version of charlstm; use another checkpoint"
        if not isinstance(values, dict):
            raise CharlstmError(damaged, hint)
        values = {**cls.OLD_VALUES, **values}
        types = get_type_hints(cls)
        fields = {field.name: types[field.name] for field in dataclasses.fields(cls)}
        if wrong := values.keys() ^ fields.keys():
            raise CharlstmError(f"{damaged} ({', '.join(sorted(map(str, wrong)))})", hint)
        for name, value in values.items():
            if not has_type(value, fields[name]):
                raise CharlstmError(f"{damaged} ({name})", hint)
        try:
            return cls(**values)
        except UsageError as error:
            raise CharlstmError(f"{damaged} ({error.message})", hint) from None


def has_type(value: object, declared: Any) -> bool:
    """Whether a JSON value has a declared type, such as ``float | None``.

    JSON may write a float as an integer. ``true``, NaN and infinity do not count as numbers.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return False
    types = get_args(declared) or (declared,)
    return type(value) in types or (type(value) is int and float in types)


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Training settings. Exactly one of ``epochs``, ``steps`` and ``minutes`` is the budget.

    The defaults are the current recipe; ``charlstm.presets`` adds those that depend on the text.

    Raises:
        UsageError: a value is out of range or has the wrong type, or not exactly one budget is set.
    """

    OLD_VALUES: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "threads": 0,
            "dropout_masks": 1,
            "hold": 0.0,
            "row_averaging": 0.0,
            "reset_every": 0,
            "distillation": 0.0,
        }
    )

    batch: int
    """Batch size B: number of parallel streams."""
    bptt: int
    """Sequence length T: characters per stream and step; the gradient flows back through these."""
    epochs: float | None = None
    """Budget in passes over the training part."""
    steps: int | None = None
    """Budget in steps of B x T characters each."""
    minutes: float | None = None
    """Budget in minutes, converted to steps once the speed is known."""
    learning_rate: float = 0.04
    """Peak learning rate of Muon, for the matrices of the recurrent layers."""
    adam_rate: float = 0.01
    """Peak learning rate of Adam, for all other parameters: embedding, biases, output layer."""
    warmup_steps: int = 20
    """Steps of linear warmup; at most a tenth of the budget."""
    final_rate: float = 0.01
    """Learning rate at the end of the budget, as a fraction of the peak."""
    weight_decay: float = 0.1
    """Weight decay of the recurrent layers' matrices: a step shrinks them by rate x decay."""
    dropout: float = 0.0
    """Dropout probability of the output layer's inputs, with one mask for all T steps (locked
    dropout, Gal & Ghahramani 2016)."""
    clip: float = 1.0
    """Maximum gradient norm; larger gradients are scaled down to it."""
    averaging: float = 0.99
    """Decay per step of the moving average of the weights."""
    val_fraction: float = 0.1
    """Fraction at the end of the text that is held out for validation."""
    patience: int = 8
    """Validations without improvement before an early stop; 0 for no early stop."""
    keep: int = 2
    """Number of recent checkpoints to keep, besides the best one."""
    seed: int = 1
    """Seed for initialization and dropout."""
    device: str = "auto"
    """Device: auto (the first GPU that works, or the CPU), cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """Format of matrix products: float32, bfloat16, float16, or auto (what suits the processor)."""
    threads: int = 0
    """CPU threads; 0 lets a short trial choose."""
    dropout_masks: int = 1
    """Dropout masks per stream and step; the loss is the mean over them (Inoue 2019)."""
    hold: float = 0.0
    """Fraction of the budget after warmup in which the learning rate stays at its peak."""
    row_averaging: float = 0.95
    """Decay per step of the mean squared row norms that Muon uses to even out the rows of an update
    (NorMuon, Li et al. 2025); 0 turns this off."""
    reset_every: int = 100
    """Steps between resets of a stream's state to zero; the streams take turns. The model learns to
    start from the zero state with which sampling and scoring begin. 0 for no resets."""
    distillation: float = 0.0
    """Weight of the teacher's predictions in the training objective; 0 without a teacher."""

    def __post_init__(self) -> None:
        check_integer("`batch`", self.batch, 1, 65536)
        check_integer("`bptt`", self.bptt, 1, 65536)
        if self.steps is not None:
            check_integer("`steps`", self.steps, 1, MAX_BUDGET)
        budgets = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        given = {name: value for name, value in budgets.items() if value is not None}
        require(
            len(given) == 1,
            f"{plural(len(given), 'budget')} given, but exactly one is needed",
            "set one of `epochs`, `steps` and `minutes`",
        )
        for name, value in given.items():
            check_number(f"`{name}`", value, 0, MAX_BUDGET, low_allowed=False)
        check_number("`learning_rate`", self.learning_rate, 0, 10, low_allowed=False)
        check_number("`adam_rate`", self.adam_rate, 0, 10, low_allowed=False)
        check_integer("`warmup_steps`", self.warmup_steps, 0)
        check_number("`final_rate`", self.final_rate, 0, 1)
        check_number("`hold`", self.hold, 0, 1)
        check_number("`weight_decay`", self.weight_decay, 0, 1)
        check_number("`dropout`", self.dropout, 0, 0.95)
        check_integer("`dropout_masks`", self.dropout_masks, 1, 64)
        check_number("`clip`", self.clip, 0, low_allowed=False)
        check_number("`averaging`", self.averaging, 0, 0.99999)
        check_number("`val_fraction`", self.val_fraction, 0, 0.9)
        check_integer("`patience`", self.patience, 0)
        check_integer("`keep`", self.keep, 1, 1_000_000)
        check_integer("`seed`", self.seed, 0, 2**63 - 1)
        check_integer("`threads`", self.threads, 0, 1024)
        check_number("`row_averaging`", self.row_averaging, 0, 0.99999)
        check_integer("`reset_every`", self.reset_every, 0, MAX_BUDGET)
        check_number("`distillation`", self.distillation, 0, 1)
        require(
            isinstance(self.device, str), f"`device` is {shown(self.device)}, but must be a string"
        )
        check_choice("`precision`", self.precision, PRECISIONS)
        super().__post_init__()
