"""Results of a study: stored one by one on disk, and summarised."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.config import has_type
from charlstm.errors import CharlstmError, UsageError
from charlstm.net.model_config import ModelConfig
from charlstm.runs.lock import lock
from charlstm.runs.metrics import LARGEST
from charlstm.runs.run import safe_name

ROOT = files.STUDIES_FOLDER
RESULTS_FILE, FORMAT = "results.json", 1


@dataclass(frozen=True)
class LagTrial:
    """One trial of `charlstm study lag`: training up to the criterion or the budget."""

    cell: str
    lag: int
    trial: int
    """From 1; also the seed for weights, training text and test."""
    solved: bool
    characters: int
    """Characters read until the task was solved or the budget spent, padding included."""
    right: float
    """Fraction of the scored predictions that were correct at the end."""
    reach: int | None
    """For numbered strings: all up to this one were correct."""
    cell_state: float | None
    """Mean of |c| at the end of the test; None for a cell without c."""
    seconds: float

    @property
    def key(self) -> tuple[str, int, int]:
        """What no second result has."""
        return self.cell, self.lag, self.trial


@dataclass(frozen=True)
class CellRun:
    """One training run of `charlstm study cells`."""

    cell: str
    seed: int
    hidden_size: int
    parameters: int
    val_loss: float
    """Nats per character, of the best checkpoint, state carried."""
    chars_per_second: float
    seconds: float
    run: str
    """Folder of the run."""

    @property
    def key(self) -> tuple[str, int]:
        """What no second result has."""
        return self.cell, self.seed


R = TypeVar("R", LagTrial, CellRun)
K = TypeVar("K")


class Results(Generic[R]):
    """The results of one study; each new one rewrites its file atomically."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], found: Iterable[R] = ()) -> None:
        self.folder, self.path = folder, folder / RESULTS_FILE
        self.settings = dict(settings)
        self.all: list[R] = list(found)

    def add(self, result: R) -> None:
        """Add a result; it is on disk when this returns."""
        self.all.append(result)
        files.replace_file(self.path, files.to_json(self.to_dict()))

    def missing(self, keys: Iterable[K]) -> list[K]:
        """The ``keys`` without a result."""
        present = {result.key for result in self.all}
        return [key for key in keys if key not in present]

    def among(self, keys: Iterable[object]) -> list[R]:
        """The results with these keys."""
        wanted = set(keys)
        return [result for result in self.all if result.key in wanted]

    def to_dict(self) -> dict[str, Any]:
        """The content of the file, and the JSON of a study's ``--json``."""
        return {
            "format": FORMAT,
            "settings": self.settings,
            "results": [asdict(result) for result in self.all],
        }


@contextmanager
def open_results(
    root: Path, name: str, kind: type[R], settings: Mapping[str, Any]
) -> Iterator[Results[R]]:
    """The results of a study so far, locked against other processes.

    Raises:
        UsageError: the folder holds a study with other settings, or another process has locked it.
        CharlstmError: its file is damaged.
    """
    folder = root / safe_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        path = folder / RESULTS_FILE
        yield Results(folder, settings, _read(path, kind, settings) if path.exists() else ())


def _read(path: Path, kind: type[R], settings: Mapping[str, Any]) -> list[R]:
    remedy = "choose another `name`, or delete it to start the study again"
    content = files.read_json(path, remedy)
    files.check_format(content.get("format"), FORMAT, path, remedy)
    theirs = content.get("settings")
    try:
        if not isinstance(theirs, dict):
            raise TypeError
        found = [kind(**result) for result in content["results"]]
        types = get_type_hints(kind)
        values = (item for result in found for item in vars(result).items())
        if not all(_is_measured(value, types[name]) for name, value in values):
            raise TypeError
    except (KeyError, TypeError):
        raise CharlstmError(f"{path} is damaged", remedy) from None
    for name, ours in settings.items():
        if name == "corpus" and theirs.get(name) != ours:
            raise UsageError(
                f"{path.parent} holds a study of another text", "give this one another `name`"
            )
        if theirs.get(name) != ours:
            raise UsageError(
                f"{path.parent} holds a study with {name.replace('_', ' ')} {theirs.get(name)}, "
                f"not {ours}",
                "choose another `name`",
            )
    return found


def _is_measured(value: object, declared: Any) -> bool:
    """Whether a value is of its field's type, and no larger than float32."""
    large = isinstance(value, int | float) and abs(value) > LARGEST
    return has_type(value, declared) and not large


@dataclass(frozen=True)
class LagSummary:
    """The trials of one cell at one lag."""

    trials: int
    solved: int
    characters: float | None
    """Median over the solved trials."""
    right: float
    """Median over all trials."""
    reach: float | None
    cell_state: float | None

    @classmethod
    def of(cls, trials: Sequence[LagTrial]) -> Self:
        """Summarise at least one trial."""
        return cls(
            trials=len(trials),
            solved=sum(trial.solved for trial in trials),
            characters=median(trial.characters for trial in trials if trial.solved),
            right=statistics.median(trial.right for trial in trials),
            reach=median(trial.reach for trial in trials),
            cell_state=median(trial.cell_state for trial in trials),
        )


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are not None, or None."""
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None


def summarise_lags(trials: Iterable[LagTrial]) -> dict[tuple[str, int], LagSummary]:
    """Summaries keyed by (cell, lag)."""
    groups: dict[tuple[str, int], list[LagTrial]] = {}
    for trial in trials:
        groups.setdefault((trial.cell, trial.lag), []).append(trial)
    return {key: LagSummary.of(group) for key, group in groups.items()}


def matched_model(cell: str, parameters: int, vocab_size: int, embedding_size: int) -> ModelConfig:
    """The one-layer model of ``cell`` whose parameter count comes closest to ``parameters``.

    Karpathy, Johnson & Fei-Fei 2015 also compare cells at equal parameter counts.
    """

    def make(hidden: int) -> ModelConfig:
        return ModelConfig(cell, vocab_size, embedding_size, hidden, 1)

    low, high = 1, ModelConfig.MAX_SIZE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if make(middle).parameters <= parameters else (low, middle)
    return min(make(low), make(high), key=lambda config: abs(config.parameters - parameters))


def growth(norms: NDArray[np.float64]) -> float:
    """The geometric mean of the factor by which the gradient changes with each step back."""
    with np.errstate(all="ignore"):  # a norm may be 0 or infinite
        return float((norms[-1] / norms[0]) ** (1 / max(1, len(norms) - 1)))


def finite_or_none(value: Any) -> Any:
    """A value for JSON: None for a float that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class GradientProfile:
    """Gradient norms of the loss at one step for the states up to K steps back, medians over texts.

    ``h[k - 1]`` is the norm of dL_t / dh_{t-k}, k = 1 … K, over all layers; ``c`` likewise.
    """

    name: str
    cell: str
    h: NDArray[np.float64]
    c: NDArray[np.float64] | None
    step_norm: float
    """Norm of the parameter gradient over K steps, before clipping."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``h`` and ``c`` begin at k = 1; None replaces values that are not finite."""
        return {
            "name": self.name,
            "cell": self.cell,
            "h": list(map(finite_or_none, self.h.tolist())),
            "c": None if self.c is None else list(map(finite_or_none, self.c.tolist())),
            "growth_h": finite_or_none(growth(self.h)),
            "growth_c": None if self.c is None else finite_or_none(growth(self.c)),
            "step_norm": finite_or_none(self.step_norm),
        }


@dataclass(frozen=True)
class Clipping:
    """Gradient norms and loss of a short training run."""

    name: str
    clip: float | None
    """Maximum gradient norm; None for no clipping."""
    median_norm: float
    """Median gradient norm before clipping, over all steps."""
    largest_norm: float
    clipped: float
    """Fraction of the steps whose gradient norm exceeded 1, the default of ``clip``."""
    val_loss: float
    """Final loss in nats per character; NaN if training diverged."""


@dataclass(frozen=True)
class GradientReport:
    """The measurements of `charlstm study gradient`."""

    untrained: tuple[GradientProfile, ...]
    trained: tuple[GradientProfile, ...]
    clippings: tuple[Clipping, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm study gradient --json``."""
        return {
            "untrained": [profile.to_dict() for profile in self.untrained],
            "trained": [profile.to_dict() for profile in self.trained],
            "clipping": [
                {name: finite_or_none(value) for name, value in asdict(one).items()}
                for one in self.clippings
            ],
        }
