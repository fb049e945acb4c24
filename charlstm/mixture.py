"""Several models that write and score as one."""

from collections.abc import Sequence

from charlstm.errors import require
from charlstm.generate.ensemble import Ensemble, Member
from charlstm.model import Model, Voice


class Mixture(Voice):
    """Several models whose probabilities are averaged; see ``generate.ensemble.Ensemble``.

    It generates and scores as a ``Model`` does. A state of its texts holds those of all models.
    """

    def __init__(self, models: Sequence[Model], weights: Sequence[float]) -> None:
        self.models = tuple(models)
        members = [Member(model.engine, model.vocab) for model in self.models]
        self.engine = ensemble = Ensemble(members, weights)
        self.vocab = ensemble.vocab
        self.weights = ensemble.weights
        """The weight of each model; they sum to 1."""

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
    models = list(models)
    known = bool(models) and all(isinstance(model, Model) for model in models)
    require(known, "`mix` needs a list of models", "load them first")
    return Mixture(models, [1.0] * len(models) if weights is None else weights)
