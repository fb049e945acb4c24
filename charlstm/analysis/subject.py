"""What a view takes and returns: a model and a text, options, and its findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from charlstm.analysis.document import Document
from charlstm.analysis.views import VIEWS
from charlstm.errors import CharlstmError, UsageError, check_integer, plural, require, shown
from charlstm.net.engine import Array, Engine
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, LEFT_SATURATED, RIGHT_SATURATED, CellSpec
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import Ids, Vocabulary


class LoadedModel(Protocol):
    """The part of ``charlstm.Model`` that a view needs."""

    file: ModelFile
    path: Path

    @property
    def engine(self) -> Engine:
        """The NumPy engine with the model's weights."""


@dataclass(frozen=True)
class Subject:
    """A model and the text it reads."""

    model: LoadedModel
    ids: Ids
    """(T,) the text, which is counted."""
    warmup: Ids
    """Read before the text, and not counted."""
    progress: Callable[[str, int, int], None] = lambda *_: None
    """Called with the activity, the amount done and the total."""

    @property
    def engine(self) -> Engine:
        """The model's engine."""
        return self.model.engine

    @property
    def spec(self) -> CellSpec:
        """The model's cell."""
        return self.model.engine.spec

    @property
    def vocab(self) -> Vocabulary:
        """The model's symbols."""
        return self.model.file.vocab

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """(T,) the characters of ``ids``."""
        return tuple(self.vocab.symbols[i] for i in self.ids)

    @cached_property
    def text(self) -> str:
        """The characters of ``ids`` as one string."""
        return "".join(self.symbols)

    def reading(self, done: int) -> None:
        """Report the number of characters read to ``progress``."""
        self.progress("reading", done, len(self.ids))

    def facts(self, view: str) -> dict[str, Any]:
        """The fields that every view's JSON begins with."""
        config = self.model.file.config
        return {
            "view": view,
            "checkpoint": str(self.model.path),
            "cell": config.cell,
            "layers": config.layers,
            "hidden_size": config.hidden_size,
            "warmup": len(self.warmup),
            "characters": len(self.ids),
        }

    def title(self, what: str, characters: int | None = None, warmup: int | None = None) -> str:
        """A view's title: its subject, the model and the amount of text (default: all)."""
        net = self.model.file.config.describe()
        read = plural(len(self.ids) if characters is None else characters, "character")
        before = len(self.warmup) if warmup is None else warmup
        after = f"after {before:,} of warm-up" if before else "from zero state"
        return f"{what}: {net}, {read} {after}"


class ViewFields(TypedDict, total=False):
    """The fields of ``Options``, for functions that take them as keywords."""

    layer: int | None
    gate: str | None
    units: tuple[int, ...]
    left: float
    right: float
    rows: int | None
    state: str | None
    at: int | None
    features: tuple[str, ...]
    guesses: int
    threshold: float


@dataclass(frozen=True)
class Options:
    """Settings of a view; None for the view's default."""

    layer: int | None = None
    """From 0."""
    gate: str | None = None
    units: tuple[int, ...] = ()
    left: float = LEFT_SATURATED
    right: float = RIGHT_SATURATED
    rows: int | None = None
    """Most lines of a long table or text; 0 for all."""
    state: str | None = None
    """``h`` or ``c``."""
    at: int | None = None
    features: tuple[str, ...] = ()
    """Own features, as NAME=REGEX."""
    guesses: int = 0
    threshold: float = 0.5
    """A unit is active above it, or below it if it is negative."""

    def state_of(self, spec: CellSpec) -> str:
        """The requested state, or c if the cell has one, or h."""
        if self.state is not None and self.state not in spec.states:
            raise UsageError(
                f"`state` is {self.state!r}, which the cell {spec.name} does not have",
                f"choose one of {', '.join(spec.states)}",
            )
        return self.state or spec.states[-1]

    def lines(self, default: int) -> int | None:
        """Most lines of a long table or text; None for all."""
        return default if self.rows is None else self.rows or None

    def one_unit(self) -> int | None:
        """The requested unit, for a view that shows one."""
        if len(self.units) > 1:
            raise UsageError("`units` has several units", "this view shows only one")
        return self.units[0] if self.units else None


class View(Protocol):
    """The findings of a view: numbers, rendered for people and for programs."""

    def document(self) -> Document:
        """The findings for people."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm inspect --json``; see docs/reference/views.md."""


def find_view(name: str) -> Callable[[Subject, Options], View]:
    """The function that computes the named view; raises ``UsageError`` for an unknown name."""
    if not isinstance(name, str) or name not in VIEWS:
        raise UsageError(
            f"`view` is {name!r}, which is not a view", f"choose one of {', '.join(VIEWS)}"
        )
    view: Callable[[Subject, Options], View]
    view = import_module(f"charlstm.analysis.views.{name}").view
    return view


def check_options(options: Options, view: str, config: ModelConfig) -> None:
    """Raise ``UsageError`` for options that the view does not use or the model does not have."""
    taken = VIEWS[view].takes
    for name, value in vars(options).items():
        require(
            name in taken or value == getattr(Options, name),
            f"`{name}` does not go with the view {view}",
            f"it takes {', '.join(f'`{field}`' for field in taken if field != 'text')}",
        )
    if options.layer is not None:
        check_integer("`layer`", options.layer, 0, config.layers - 1)
    gates = CELLS[config.cell].reported
    require(
        options.gate is None or options.gate in gates,
        f"`gate` is {options.gate!r}, which the cell {config.cell} does not have",
        f"choose one of {', '.join(gates)}",
    )
    for name, value in (("units", options.units), ("features", options.features)):
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        require(several, f"`{name}` is {shown(value)}, but must be a tuple", "also for one alone")
    for unit in options.units:
        check_integer("a unit of `units`", unit, 0, config.hidden_size - 1)
    check_integer("`guesses`", options.guesses, 0)
    for name, number in (("rows", options.rows), ("at", options.at)):
        if number is not None:
            check_integer(f"`{name}`", number, 0)


def not_for(spec: CellSpec, view: str, reason: str) -> CharlstmError:
    """The error of a view that does not apply to a cell."""
    return CharlstmError(
        f"the view {view} does not apply to the cell {spec.name}: {reason}",
        "the view gates applies to every cell",
    )


def split_of(model: LoadedModel) -> tuple[Array, Array] | None:
    """The training and held-out texts of the model's run, mapped from the cache.

    None if there is no run or its corpus is no longer in the cache.
    """
    from charlstm.runs.catalogue import training_corpus
    from charlstm.runs.run import read_run_file

    try:
        run = read_run_file(Path(model.path).parent)
        corpus = training_corpus(run, read_again=False)
    except CharlstmError:
        return None
    if corpus.vocab != model.file.vocab:
        return None
    return corpus.split(run.train.val_fraction)


def held_out(model: LoadedModel, longest: int) -> Ids | None:
    """The first ``longest`` characters of the run's held-out part, if available."""
    split = split_of(model) if longest else None
    if split is None or not len(split[1]):
        return None
    ids: Ids = split[1][:longest].astype(np.int64)
    return ids
