"""Several models that write and score as one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from charlstm.errors import require
from charlstm.generate.constraint import Constraint
from charlstm.generate.ensemble import Ensemble, Member, checked_weights, union_of
from charlstm.generate.sampling import SamplingConfig
from charlstm.model import Model, Voice
from charlstm.net.quantised import Precision
from charlstm.text.vocabulary import Vocabulary


class Mixture(Voice):
    """Several models whose probabilities are averaged; see ``generate.ensemble.Ensemble``.

    It generates and scores as a ``Model`` does. A state of its texts holds those of all models.
    """

    def __init__(self, models: Sequence[Model], weights: Sequence[float]) -> None:
        self.models = tuple(models)
        self.weights = checked_weights(weights, len(self.models))
        """The weight of each model; they sum to 1."""
        self._vocab = union_of([model.vocab for model in self.models])
        self._ensembles: dict[Precision, Ensemble] = {}

    @property
    def vocab(self) -> Vocabulary:
        """The symbols of all models."""
        return self._vocab

    def engine_in(self, precision: Precision) -> Ensemble:
        """As ``Voice.engine_in``."""
        if precision not in self._ensembles:
            members = [Member(model.engine_in(precision), model.vocab) for model in self.models]
            self._ensembles[precision] = Ensemble(members, self.weights)
        return self._ensembles[precision]

    def _constraint(
        self, config: SamplingConfig, length: int | None, stops: Sequence[str]
    ) -> Constraint | None:
        written = union_of([m.vocab for m, w in zip(self.models, self.weights, strict=True) if w])
        silent = "".join(symbol for symbol in self.vocab.symbols if symbol not in written.symbols)
        return super()._constraint(replace(config, ban=config.ban + silent), length, stops)

    def reweighted(self, weights: Sequence[float]) -> "Mixture":
        """The same models with other weights; it continues from the same states."""
        return Mixture(self.models, weights)

    def __repr__(self) -> str:
        parts = (f"{w:g} × {m.path.name!r}" for w, m in zip(self.weights, self.models, strict=True))
        return f"<Mixture of {', '.join(parts)}>"


def mix(models: Sequence[Model], weights: Sequence[float] | None = None) -> Mixture:
    """Mix the probabilities of ``models``, by default in equal parts.

    Raises:
        UsageError: there are no models, models of characters and of bytes, or a number of weights
            that is not that of the models.
    """
    models = list(models) if isinstance(models, Iterable) else []
    known = bool(models) and all(isinstance(model, Model) for model in models)
    require(known, "`mix` needs a list of models", "load them first, then mix([one, other])")
    return Mixture(models, [1.0] * len(models) if weights is None else weights)
