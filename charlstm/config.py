"""The settings of a training run, and what all settings share: frozen, checked when made."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from charlstm.errors import CharlstmError, UsageError, check_number, require

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
MOST_OF_A_BUDGET = 10**12


@dataclass(frozen=True)
class Settings:
    """Conversion to and from the plain dictionaries that JSON holds."""

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
class TrainConfig(Settings):
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
