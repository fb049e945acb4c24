"""The settings of a training run, and what all settings share: frozen, checked when made."""

import dataclasses
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
    require,
    shown,
)

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MAX_BUDGET = 10**12


@dataclass(frozen=True)
class Settings:
    """Conversion to and from the plain dictionaries that JSON holds."""

    OLD_VALUES: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Values of the fields that files of earlier versions do not have."""

    def __post_init__(self) -> None:
        """Make numbers of other types Python's own, which JSON can hold; they have been checked."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Real) and not isinstance(value, int | float):
                plain = int(value) if isinstance(value, Integral) else float(value)
                object.__setattr__(self, name, plain)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
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
        values = {**cls.OLD_VALUES, **values}
        types = get_type_hints(cls)
        fields = {field.name: types[field.name] for field in dataclasses.fields(cls)}
        if wrong := values.keys() ^ fields.keys():
            raise CharlstmError(f"{damaged} ({', '.join(sorted(map(str, wrong)))})", hint)
        for name, value in values.items():
            if not _has_type(value, fields[name]):
                raise CharlstmError(f"{damaged} ({name})", hint)
        try:
            return cls(**values)
        except UsageError as error:
            raise CharlstmError(f"{damaged} ({error.message})", hint) from None


def _has_type(value: object, declared: Any) -> bool:
    """Whether a value from JSON is of a declared type, such as ``float | None``.

    JSON writes some floats as whole numbers; its ``true`` is no number.
    """
    types = get_args(declared) or (declared,)
    return type(value) in types or (type(value) is int and float in types)


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How a run trains. Exactly one of ``epochs``, ``steps`` and ``minutes`` is the budget.

    The defaults are today's recipe; ``presets`` adds what depends on the text.
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
    """B, parallel streams."""
    bptt: int
    """T, characters per stream and step through which the gradient flows."""
    epochs: float | None = None
    """Passes over the training text."""
    steps: int | None = None
    """Training steps, of B x T characters each."""
    minutes: float | None = None
    """Minutes of training, turned into a number of steps once the speed is known."""
    learning_rate: float = 0.04
    """Peak rate of Muon, for the recurrent layers' matrices."""
    adam_rate: float = 0.01
    """Peak rate of Adam, for embedding, biases and output layer."""
    warmup_steps: int = 20
    """Steps over which the rate rises to its peak; at most a tenth of the budget."""
    final_rate: float = 0.01
    """The rate at the end of the budget, as a fraction of the peak."""
    weight_decay: float = 0.1
    """Fraction of the rate by which the recurrent layers' matrices shrink towards 0."""
    dropout: float = 0.0
    """Probability that an input of the output layer is dropped, the same at all T steps (locked,
    Gal 2016)."""
    clip: float = 1.0
    """Greatest norm of the gradient."""
    averaging: float = 0.99
    """Decay of the moving average of the weights, per step."""
    val_fraction: float = 0.1
    """Fraction of the text, at its end, that is held out for validation."""
    patience: int = 8
    """Evaluations without a better validation after which the run stops; 0 never stops."""
    keep: int = 2
    """How many of the latest checkpoints stay, besides the best."""
    seed: int = 1
    """Of the initial weights and of dropout."""
    device: str = "auto"
    """A torch device; auto takes the first GPU, or else the CPU."""
    precision: str = "auto"
    """Of the matrix products; auto takes a short trial's fastest."""
    threads: int = 0
    """Of the CPU; 0 for as many as a trial finds useful."""
    dropout_masks: int = 1
    """Dropout masks of a stream, over which the loss is the mean."""
    hold: float = 0.0
    """Fraction of the budget, after the warm-up, in which the rate stays at its peak."""
    row_averaging: float = 0.95
    """Decay, per step, of the mean square by which Muon evens the rows of a matrix's step; 0 leaves
    them as they are."""
    reset_every: int = 100
    """Steps after which the state of a stream is zero again, one stream after the other, so that a
    model knows the zero state with which all reading and writing begins; 0 for never."""
    distillation: float = 0.0
    """Weight of the teacher's predictions in what is minimised; 0 for a run without a teacher."""

    def __post_init__(self) -> None:
        check_integer("`batch`", self.batch, 1, 65536)
        check_integer("`bptt`", self.bptt, 1, 65536)
        if self.steps is not None:
            check_integer("`steps`", self.steps, 1, MAX_BUDGET)
        budgets = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        given = {name: value for name, value in budgets.items() if value is not None}
        require(
            len(given) == 1,
            f"{len(given)} budgets are given",
            "give one of `epochs`, `steps` and `minutes`",
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
        require(isinstance(self.device, str), f"`device` is {shown(self.device)}", "give its name")
        check_choice("`precision`", self.precision, PRECISIONS)
        super().__post_init__()
